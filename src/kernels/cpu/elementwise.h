// Compiles an element-wise request (one op, or a FusedElementwise program) to tile functions.
#pragma once

#include <vector>

#include "kernels/cpu/elementwise_tiles.h"
#include "kernels/cpu/table.h"

namespace minim {

/// One tile function call; src and dst are register numbers (-1: unused).
struct TileStep {
  TileFunction function = nullptr;
  int src[3] = {-1, -1, -1};
  int dst = -1;
  double params[4] = {};
};

/// Where a register's tile lies: in an input, in an output, or in a scratch slot.
struct TileRegister {
  Lane lane = Lane::kFloat;
  int input = -1;   // read in place from this input
  int output = -1;  // written in place to this output
  int slot = -1;
};

/// An input brought into a register before the steps run.
struct TileLoad {
  int input = 0;
  int reg = 0;
  TileFunction convert = nullptr;  // null: the memory form is the lane's
  double params[4] = {};
  bool scalar = false;    // one element
  bool periodic = false;  // the same elements for each tile
  Dims dims, strides;     // collapsed; elements of the input per output axis
  bool direct = false;    // as many elements as the output, in order
  size_t element_bytes = 4;

  /// Loaded once per piece.
  bool kept() const { return scalar || periodic; }
};

struct TileStore {
  int output = 0;
  int reg = 0;
  TileFunction convert = nullptr;
  double params[4] = {};
};

struct TileProgram {
  std::vector<TileRegister> registers;
  std::vector<TileLoad> loads;
  std::vector<TileStep> steps;
  std::vector<TileStore> stores;
  std::vector<size_t> output_bytes;  // of one element
  int slots = 0;
  size_t slot_bytes = 0;
  int64_t elements = 0;
  int64_t tile = kTile;  // elements, at most kTile
  int in_place = -1;
};

/// Errors: kUnsupported names the op, attribute or operand that does not fit.
Result<TileProgram> CompileElementwise(const KernelRequest& request, const TileSet& tiles);

/// The last step of it: gives every register its place.
void PlaceRegisters(const KernelRequest& request, TileProgram* program);

}  // namespace minim
