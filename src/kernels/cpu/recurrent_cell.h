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
  float* saved = nullptr;  // cells that save: planes as the op's last output has them ...
  int64_t saved_step = 0;  // ... and values from one to the next
};
using CellFunction = void (*)(const CellBlock& block);

/// A step back of one batch row, units in their order and gates in ONNX's; each pointer is to a
/// row.
struct BackRow {
  int64_t hidden = 0;
  const float* saved = nullptr;   // planes of `hidden` values
  const float* before = nullptr;  // LSTM: the cell before the step; GRU: h
  const float* dy = nullptr;      // added to dh first
  float* dh = nullptr;            // GRU leaves what flows past R
  float* dc = nullptr;            // LSTM only
  float* da = nullptr;            // of the gates' sums, from W
  float* dr = nullptr;            // the same from R, where it is another
  const float* inside = nullptr;  // GRU's second phase: gradient of r * h
};
using BackFunction = void (*)(const BackRow& row);

struct CellLevel {
  CellFunction lstm, lstm_peephole, lstm_coupled, lstm_coupled_peephole;
  /// linear_before_reset: one phase.
  CellFunction gru_linear;
  /// Else two: the gates, whose `next` is r * h, and from its product the candidate.
  CellFunction gru_gates, gru_candidate;
  CellFunction rnn_tanh, rnn_relu;
  /// The same bits, and what a gradient reads.
  CellFunction lstm_saving, gru_linear_saving, gru_gates_saving, gru_candidate_saving;
  /// gru_back_reset finishes gru_back_gates once the candidate's product with R is known.
  BackFunction lstm_back, gru_linear_back, gru_back_gates, gru_back_reset;
};

const CellLevel& CellsPortable();
const CellLevel& CellsAvx2();
const CellLevel& CellsAvx512();

}  // namespace minim
