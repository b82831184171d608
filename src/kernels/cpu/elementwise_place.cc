// Where the registers of a tile program lie: in inputs, outputs or scratch slots, by last use.
#include <algorithm>

#include "kernels/cpu/elementwise.h"

namespace minim {
namespace {

int LastUse(const TileProgram& program, int reg) {
  int last = -1;
  for (size_t i = 0; i < program.steps.size(); ++i) {
    for (int src : program.steps[i].src) {
      if (src == reg) last = static_cast<int>(i);
    }
  }
  for (const TileStore& store : program.stores) {
    if (store.reg == reg) last = static_cast<int>(program.steps.size());
  }
  return last;
}

int Definition(const TileProgram& program, int output) {
  for (size_t i = 0; i < program.steps.size(); ++i) {
    if (program.registers[program.steps[i].dst].output == output) return static_cast<int>(i);
  }
  return static_cast<int>(program.steps.size());
}

// The input that output 0 may overwrite: of its own shape and type, and nothing reads it
// afterwards. -1 if there is none.
int InPlaceInput(const KernelRequest& request, const TileProgram& program) {
  const int written = Definition(program, 0);
  for (const TileLoad& load : program.loads) {
    const TensorDesc& input = request.inputs[load.input];
    const bool same = load.direct && input.dtype == request.outputs[0].dtype;
    if (!same) continue;
    if (program.registers[load.reg].input >= 0 && LastUse(program, load.reg) > written) continue;
    return load.input;
  }
  return -1;
}

// Loaded once, so it keeps its slot.
bool IsKept(const TileProgram& program, int reg) {
  return std::any_of(program.loads.begin(), program.loads.end(),
                     [&](const TileLoad& load) { return load.reg == reg && load.kept(); });
}

void AssignSlots(TileProgram& program) {
  std::vector<int> free_slots;
  const auto take = [&] {
    if (free_slots.empty()) return program.slots++;
    const int slot = free_slots.back();
    free_slots.pop_back();
    return slot;
  };
  for (TileRegister& reg : program.registers)
    program.slot_bytes = std::max(program.slot_bytes, LaneBytes(reg.lane) * kTile);
  for (const TileLoad& load : program.loads) {
    TileRegister& reg = program.registers[load.reg];
    if (reg.input < 0) reg.slot = take();
  }
  for (size_t i = 0; i < program.steps.size(); ++i) {
    TileRegister& dst = program.registers[program.steps[i].dst];
    if (dst.output < 0) dst.slot = take();
    for (int src : program.steps[i].src) {
      if (src < 0 || LastUse(program, src) != static_cast<int>(i)) continue;
      const int slot = program.registers[src].slot;
      const bool seen = std::find(free_slots.begin(), free_slots.end(), slot) != free_slots.end();
      if (slot >= 0 && !IsKept(program, src) && !seen) free_slots.push_back(slot);
    }
  }
}

}  // namespace

void PlaceRegisters(const KernelRequest& request, TileProgram* program) {
  program->in_place = InPlaceInput(request, *program);
  AssignSlots(*program);
}

}  // namespace minim
