#include "plan/plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

namespace minim {
namespace {

constexpr int kForever = 1 << 30;

class Planner {
 public:
  Planner(Graph graph, const std::vector<StepTraits>& traits) : traits_(traits) {
    plan_.graph = std::move(graph);
  }

  Plan Run() {
    PlaceValues();
    LayOutArena();
    AddFinalCopies();
    return std::move(plan_);
  }

  ArenaUse Use() {
    PlaceValues();
    return CollectUse();
  }

 private:
  void PlaceValues() {
    const size_t count = plan_.graph.values.size();
    root_.resize(count);
    std::iota(root_.begin(), root_.end(), 0);
    home_.assign(count, {});
    first_.assign(count, kForever);
    FindLastUses();
    FindConditions();
    PlaceFixed();
    MergeBuffers();
    PlaceOutputs();
    PlaceStates();
  }

  const Graph& graph() const { return plan_.graph; }
  size_t BytesOf(ValueId id) const {
    const TensorType& type = graph().type(id);
    return static_cast<size_t>(type.dims().Elements()) * SizeOf(type.dtype);
  }
  bool Owned(ValueId id) const { return home_[root_[id]].place == Place::kNone; }

  void FindLastUses() {
    last_.assign(graph().values.size(), -1);
    for (size_t i = 0; i < graph().nodes.size(); ++i) {
      for (ValueId id : graph().nodes[i].inputs)
        if (id != kNoValue) last_[id] = static_cast<int>(i);
    }
    // Final copies read outputs and states after the last node.
    for (ValueId id : graph().outputs) last_[id] = kForever;
    for (const State& state : graph().states) last_[state.next] = kForever;
  }

  // What stands in a conditional state's buffer is the old value when the condition is false. So a
  // step may write there only if it is left out then: it writes states of this condition and
  // nothing else; and so must every step that reads what was written.
  void FindConditions() {
    const std::vector<int> producers = graph().Producers();
    for (size_t s = 0; s < graph().states.size(); ++s) {
      const State& state = graph().states[s];
      if (state.commit_if == kNoValue) continue;
      last_[state.commit_if] = kForever;
      conditional_[state.next] = {state.commit_if, producers[state.commit_if],
                                  producers[state.next] >= 0};
    }
    if (conditional_.empty()) return;
    for (const Node& node : graph().nodes) {
      const ValueId condition = CommitsUnder(node);
      for (const auto* ids : {&node.inputs, &node.outputs}) {
        for (ValueId id : *ids) {
          const auto it = conditional_.find(id);
          if (it != conditional_.end() && it->second.condition != condition)
            it->second.overwrites = false;
        }
      }
    }
    for (ValueId id : graph().outputs) {
      const auto it = conditional_.find(id);
      if (it != conditional_.end()) it->second.overwrites = false;
    }
  }

  // The condition of the states whose next values the node makes; kNoValue if it makes others, too.
  ValueId CommitsUnder(const Node& node) const {
    ValueId condition = kNoValue;
    for (ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      const auto it = conditional_.find(id);
      if (it == conditional_.end()) return kNoValue;
      if (condition != kNoValue && it->second.condition != condition) return kNoValue;
      condition = it->second.condition;
    }
    return condition;
  }

  // True if step `step`, which makes `next`, may write it to its state's buffer.
  bool MayOverwrite(ValueId next, int step) const {
    const auto it = conditional_.find(next);
    return it == conditional_.end() || (it->second.overwrites && step > it->second.known_after);
  }

  void PlaceFixed() {
    for (size_t i = 0; i < graph().inputs.size(); ++i)
      home_[graph().inputs[i]] = {Place::kInput, i};
    for (const auto& [id, tensor] : graph().constants)
      home_[id] = {Place::kConstant, static_cast<size_t>(id)};
    for (size_t i = 0; i < graph().states.size(); ++i)
      home_[graph().states[i].read] = {Place::kState, i};
  }

  // Aliases share their input's buffer; in-place steps take over a buffer nobody reads later.
  void MergeBuffers() {
    for (size_t i = 0; i < graph().nodes.size(); ++i) {
      const Node& node = graph().nodes[i];
      const int step = static_cast<int>(i);
      for (ValueId id : node.outputs)
        if (id != kNoValue) first_[id] = step;
      if (traits_[i].kind == StepKind::kAlias) {
        Merge(node.output(0), node.input(0));
        continue;
      }
      std::unordered_map<ValueId, int> readers;  // of a buffer, among the inputs
      for (ValueId id : node.inputs)
        if (id != kNoValue) ++readers[root_[id]];
      for (size_t o = 0; o < node.outputs.size(); ++o) {
        if (node.outputs[o] == kNoValue) continue;
        const int input = traits_[i].in_place_input(static_cast<int>(o));
        if (input >= 0 && node.input(input) != kNoValue && readers[root_[node.input(input)]] == 1)
          TryInPlace(step, node.outputs[o], node.input(input));
      }
    }
  }

  void Merge(ValueId from, ValueId into) {
    const ValueId root = root_[into];
    root_[from] = root;
    last_[root] = std::max(last_[root], last_[from]);
  }

  void TryInPlace(int step, ValueId output, ValueId input) {
    if (BytesOf(output) != BytesOf(input)) return;
    const ValueId root = root_[input];
    if (last_[root] > step || graph().type(output).dtype != graph().type(input).dtype) return;
    const bool state = home_[root].place == Place::kState && NextOf(home_[root].where) == output &&
                       MayOverwrite(output, step);
    if (Owned(input) || state) Merge(output, input);
  }

  ValueId NextOf(size_t state) const { return graph().states[state].next; }

  // A graph output is written in place if its buffer is the plan's own and not yet another
  // output's.
  void PlaceOutputs() {
    for (size_t i = 0; i < graph().outputs.size(); ++i) {
      const ValueId id = graph().outputs[i];
      if (Owned(id) && BytesOf(root_[id]) == BytesOf(id)) home_[root_[id]] = {Place::kOutput, i};
    }
  }

  // A next value computed out of place may still go straight to the state's buffer, if all reads
  // of the old value come before its producer.
  void PlaceStates() {
    for (size_t s = 0; s < graph().states.size(); ++s) {
      const State& state = graph().states[s];
      const ValueId root = root_[state.next];
      const bool reads_come_first = last_[state.read] < first_[root];
      // Steps of a conditional state write there only what commits, not what leads to it.
      if (state.commit_if != kNoValue && root != state.next) continue;
      if (!MayOverwrite(state.next, first_[root])) continue;
      if (Owned(state.next) && reads_come_first && BytesOf(root) == BytesOf(state.read))
        home_[root] = {Place::kState, s};
    }
  }

  // The condition under which a step runs: that of a state whose buffer it writes.
  ValueId ConditionOf(const Node& node) const {
    for (ValueId id : node.outputs) {
      const auto it = conditional_.find(id);
      if (it != conditional_.end() && home_[root_[id]].place == Place::kState)
        return it->second.condition;
    }
    return kNoValue;
  }

  ArenaUse CollectUse() const {
    ArenaUse use;
    const int end = static_cast<int>(graph().nodes.size());
    use.buffer_of.assign(root_.size(), -1);
    for (size_t id = 0; id < root_.size(); ++id) {
      if (root_[id] != static_cast<ValueId>(id) || !Owned(id) || first_[id] == kForever) continue;
      use.buffer_of[id] = static_cast<int>(use.requests.size());
      use.requests.push_back({BytesOf(id), first_[id], std::clamp(last_[id], first_[id], end)});
    }
    for (size_t id = 0; id < root_.size(); ++id) use.buffer_of[id] = use.buffer_of[root_[id]];
    for (int i = 0; i < end; ++i)
      if (traits_[i].scratch_bytes > 0) use.requests.push_back({traits_[i].scratch_bytes, i, i});
    return use;
  }

  void LayOutArena() {
    const ArenaUse use = CollectUse();
    const MemoryPlan memory = PlanMemory(use.requests);
    plan_.arena_bytes = memory.bytes;
    plan_.live_bytes = memory.live_bytes;
    for (size_t id = 0; id < root_.size(); ++id)
      if (root_[id] == static_cast<ValueId>(id) && use.buffer_of[id] >= 0)
        home_[id] = {Place::kArena, memory.offsets[use.buffer_of[id]]};
    size_t scratch = 0;  // requests of scratch come last
    for (const StepTraits& traits : traits_) scratch += traits.scratch_bytes > 0;
    size_t next = use.requests.size() - scratch;
    for (size_t i = 0; i < traits_.size(); ++i) {
      Step step{.kind = traits_[i].kind,
                .node = static_cast<int>(i),
                .scratch_bytes = traits_[i].scratch_bytes,
                .commit_if = ConditionOf(graph().nodes[i])};
      if (step.scratch_bytes > 0) step.scratch_offset = memory.offsets[next++];
      plan_.steps.push_back(step);
    }
    plan_.slots.resize(root_.size());
    for (size_t id = 0; id < root_.size(); ++id) plan_.slots[id] = home_[root_[id]];
  }

  void AddFinalCopies() {
    for (size_t i = 0; i < graph().outputs.size(); ++i) {
      const ValueId id = graph().outputs[i];
      const Slot slot = plan_.slots[id];
      if (slot.place == Place::kOutput && slot.where == i) continue;
      plan_.steps.push_back(
          {.kind = StepKind::kCopy, .copy_from = id, .copy_to = {Place::kOutput, i}});
    }
    for (size_t s = 0; s < graph().states.size(); ++s) {
      const ValueId id = graph().states[s].next;
      const Slot slot = plan_.slots[id];
      if (slot.place == Place::kState && slot.where == s) continue;
      plan_.steps.push_back({.kind = StepKind::kCopy,
                             .copy_from = id,
                             .copy_to = {Place::kState, s},
                             .commit_if = graph().states[s].commit_if});
    }
  }

  struct Condition {
    ValueId condition = kNoValue;
    int known_after = -1;    // the step that makes it
    bool overwrites = true;  // steps may write the state's buffer
  };

  Plan plan_;
  const std::vector<StepTraits>& traits_;
  std::map<ValueId, Condition> conditional_;  // by the next value of a state
  std::vector<ValueId> root_;
  std::vector<Slot> home_;
  std::vector<int> first_;
  std::vector<int> last_;
};

}  // namespace

Plan BuildPlan(Graph graph, const std::vector<StepTraits>& traits) {
  return Planner(std::move(graph), traits).Run();
}

ArenaUse UseOfArena(Graph graph, const std::vector<StepTraits>& traits) {
  return Planner(std::move(graph), traits).Use();
}

}  // namespace minim
