// What LSTM, GRU and RNN decide at binding, and how a bound layer runs.
#pragma once

#include "kernels/cpu/recurrent_cell.h"
#include "kernels/cpu/recurrent_weights.h"

namespace minim {

/// Inputs as ONNX orders them; the quantized LSTM has its parameters behind.
namespace recurrent {
enum Input { kX, kW, kR, kB, kLengths, kH0, kC0, kP, kWScale, kWZero, kRScale, kRZero };
}

inline constexpr int64_t kMaxChunkBlocks = 8, kMaxSavedPlanes = 5;

struct RecurrentPlan {
  int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1, gates = 0;
  bool reverse_only = false, batch_first = false;
  bool recurrent_bias_apart = false;  // a GRU's candidate resets R h with its bias
  float clip = 0;                     // infinity: none
  int phases = 1;
  std::array<std::array<CellFunction, 2>, 2> cells = {};  // by direction and phase
  const GemmLevel* gemm = nullptr;
  const IntLevel* ints = nullptr;
  const DotLevel* dots = nullptr;  // where the weights are in its form
  RecurrentPack w_pack, r_pack;
  RecurrentWeights w, r;                                // data only when constant
  std::shared_ptr<const std::byte> w_packed, r_packed;  // every direction
  DType dtype = DType::f32;                             // of states and results; inside all is FP32
  bool peepholes = false;
  /// Outputs past ONNX's own: planes of what a gradient reads, by time, direction and batch row.
  /// Each phase makes some of them.
  int saved_output = -1;
  std::array<int64_t, 2> saved_planes = {};
  int threads = 1;

  int64_t rows() const { return steps * batch; }
  int64_t blocks() const { return r_pack.blocks(); }
  int64_t padded() const { return blocks() * kPanel; }
  int64_t columns() const { return w_pack.panels() * kPanel; }
  int64_t planes() const { return saved_planes[0] + saved_planes[1]; }
  bool quantized() const { return r_pack.format == WeightFormat::kS8; }
  /// Blocks whose gates one product makes: four panels or a multiple keep enough sums in flight,
  /// and a single row's cells run several blocks at a time; of bytes half of them stay in L1.
  int64_t ChunkBlocks(int phase) const {
    const int64_t gates = r_pack.groups[phase].gates;
    if (batch == 1) return quantized() ? kMaxChunkBlocks / 2 : kMaxChunkBlocks;
    return gates == 4 ? 1 : gates == 2 ? 2 : 4;
  }
  int64_t ChunkColumns() const;  // the most of any phase
  /// Per block in CellBlock::extra.
  int64_t extra_columns() const {
    return peepholes ? 3 * kPanel : recurrent_bias_apart ? kPanel : 0;
  }
};

size_t RecurrentScratchBytes(const RecurrentPlan& plan);
void RunRecurrent(const RecurrentPlan& plan, const KernelArgs& args);

}  // namespace minim
