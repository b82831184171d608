// The element-wise half of a recurrent step, compiled per level without contraction: each level
// gives the same bits.
#pragma once

#include "kernels/cpu/gemm.h"

namespace minim {

/// A step of blocks of 16 units of one batch row. Gates stand in ONNX's order, 16 values each.
struct CellBlock {
  int64_t blocks = 1;
  int64_t input_step = 0, recurrent_step = 0, extra_step = 0;  // values from block to block
  float clip = 0;                    // of what enters an activation; infinity: none
  const float* input = nullptr;      // every gate's W x and biases
  const float* recurrent = nullptr;  // R h of the gates of this phase
  const float* extra = nullptr;      // LSTM: peepholes (i, o, f); GRU: the candidate's R bias
  const float* h = nullptr;          // before the step
  float* c = nullptr;                // LSTM: the cell, in place; GRU: its update gate, in between
  float* next = nullptr;
};
using CellFunction = void (*)(const CellBlock& block);

struct CellLevel {
  CellFunction lstm, lstm_peephole, lstm_coupled, lstm_coupled_peephole;
  /// linear_before_reset: one phase.
  CellFunction gru_linear;
  /// Else two: the gates, whose `next` is r * h, and from its product the candidate.
  CellFunction gru_gates, gru_candidate;
  CellFunction rnn_tanh, rnn_relu;
};

const CellLevel& CellsPortable();
const CellLevel& CellsAvx2();

}  // namespace minim
