// One step of one LSTM cell row, compiled per level without contraction.
#pragma once

#include "kernels/cpu/gemm.h"

namespace minim {

struct CellParams {
  float clip = 0;  // 0: none
  bool input_forget = false;
};

/// Adds `recurrent` to `gates` (4 x n: input, output, forget, cell), and updates c and h in place.
/// `peepholes` (3 x n: input, output, forget) may be null.
using CellFunction = void (*)(const CellParams& params, const float* gates, const float* recurrent,
                              const float* peepholes, int64_t n, float* c, float* h);

CellFunction LstmCellPortable();
CellFunction LstmCellAvx2();

}  // namespace minim
