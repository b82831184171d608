// The body of a CellFunction. Define MINIM_CELL first.
#pragma once

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/lstm_cell.h"

namespace minim {
namespace {

template <bool peephole, bool clipped>
void Cell(const CellParams& params, const float* gates, const float* recurrent, const float* p,
          int64_t n, float* c, float* h) {
  const float limit = params.clip;
  const bool input_forget = params.input_forget;
  const auto clip = [limit](float x) {
    if constexpr (!clipped) return x;
    return x < -limit ? -limit : (x > limit ? limit : x);
  };
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    float in = gates[i] + recurrent[i];
    float out = gates[n + i] + recurrent[n + i];
    float keep = gates[2 * n + i] + recurrent[2 * n + i];
    const float fresh = gates[3 * n + i] + recurrent[3 * n + i];
    if constexpr (peephole) {
      in += p[i] * c[i];
      keep += p[2 * n + i] * c[i];
    }
    const float opened = SigmoidF(clip(in));
    const float kept = input_forget ? 1.0f - opened : SigmoidF(clip(keep));
    const float next = kept * c[i] + opened * TanhF(clip(fresh));
    if constexpr (peephole) out += p[n + i] * next;
    c[i] = next;
    h[i] = SigmoidF(clip(out)) * TanhF(clip(next));
  }
}

void LstmCell(const CellParams& params, const float* gates, const float* recurrent,
              const float* peepholes, int64_t n, float* c, float* h) {
  if (params.clip > 0) {
    return peepholes ? Cell<true, true>(params, gates, recurrent, peepholes, n, c, h)
                     : Cell<false, true>(params, gates, recurrent, peepholes, n, c, h);
  }
  peepholes ? Cell<true, false>(params, gates, recurrent, peepholes, n, c, h)
            : Cell<false, false>(params, gates, recurrent, peepholes, n, c, h);
}

}  // namespace

CellFunction MINIM_CELL() { return LstmCell; }

}  // namespace minim
