// The bodies of CellLevel. Define MINIM_CELLS first.
#pragma once

#include <cmath>

#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/recurrent_cell.h"

namespace minim {
namespace {

inline float Least(float a, float b) { return a < b ? a : b; }

/// What the arguments of exp and tanh are held to: as the op's clip says, or where floats end.
struct Limits {
  float exp, tanh;
};
inline Limits LimitsOf(float clip) { return {Least(clip, 40.0f), Least(clip, 9.02f)}; }

/// 1 / sigmoid(x). Past 40 a float sigmoid is 1, or too small to be missed in a sum of gates.
inline float SigmoidInverse(float x, const Limits& limits) {
  return OnePlusExpOfMinus(Bounded(x, limits.exp));
}

/// tanh(x) = top / bottom within 3 ulp: left as a fraction, so that products of gates divide once.
struct Fraction {
  float top, bottom;
};
inline Fraction TanhFraction(float x, const Limits& limits) {
  const float t = Bounded(x, limits.tanh), s = t * t, s2 = s * s, s4 = s2 * s2;
  const float p = MulAdd(1.331919175e-8f, s4,
                         MulAdd(MulAdd(2.058357744e-5f, s, 3.494040810e-3f), s2,
                                MulAdd(1.337972334e-1f, s, 9.999999790e-1f)));
  const float q = MulAdd(
      7.762071377e-7f, s4,
      MulAdd(MulAdd(3.283102778e-4f, s, 2.587109739e-2f), s2, MulAdd(4.671303859e-1f, s, 1.0f)));
  return {t * p, q};
}

template <bool coupled, bool peephole, bool saving = false>
void LstmCell(const CellBlock& b) {
  constexpr int64_t n = kPanel;
  const float* in = b.input;
  const float* rec = b.recurrent;
  const float* p = b.extra;
  float* c = b.c;
  float* next = b.next;
  [[maybe_unused]] float* saved = b.saved;
  [[maybe_unused]] const int64_t step = b.saved_step;
  const Limits limits = LimitsOf(b.clip);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float old = c[i];
    float open = in[i] + rec[i], out = in[n + i] + rec[n + i],
          keep = in[2 * n + i] + rec[2 * n + i];
    if constexpr (peephole) {
      open = MulAdd(p[i], old, open);
      keep = MulAdd(p[2 * n + i], old, keep);
    }
    const Fraction fresh = TanhFraction(in[3 * n + i] + rec[3 * n + i], limits);
    const float opened = SigmoidInverse(open, limits);
    const float bottom = opened * fresh.bottom;
    float cell, kept;
    if constexpr (coupled) {
      kept = 1.0f - 1.0f / opened;
      cell = MulAdd(kept, old, fresh.top / bottom);
    } else {  // kept * old + fresh.top / bottom by one division
      kept = SigmoidInverse(keep, limits);
      cell = MulAdd(old, bottom, fresh.top * kept) / (kept * bottom);
    }
    if constexpr (peephole) out = MulAdd(p[n + i], cell, out);
    const Fraction shown = TanhFraction(cell, limits);
    c[i] = cell;
    const float shut = SigmoidInverse(out, limits);
    next[i] = shown.top / (shut * shown.bottom);
    if constexpr (saving) {
      saved[i] = 1.0f / opened;
      saved[step + i] = 1.0f / shut;
      saved[2 * step + i] = coupled ? kept : 1.0f / kept;
      saved[3 * step + i] = fresh.top / fresh.bottom;
      saved[4 * step + i] = cell;
    }
  }
}

template <bool saving>
void GruLinear(const CellBlock& b) {
  constexpr int64_t n = kPanel;
  const float *in = b.input, *rec = b.recurrent, *bias = b.extra, *h = b.h;
  float* next = b.next;
  [[maybe_unused]] float* saved = b.saved;
  [[maybe_unused]] const int64_t step = b.saved_step;
  const Limits limits = LimitsOf(b.clip);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float shut = SigmoidInverse(in[i] + rec[i], limits);  // 1 / update
    const float reset = 1.0f / SigmoidInverse(in[n + i] + rec[n + i], limits);
    const float product = rec[2 * n + i] + bias[i];
    const Fraction fresh = TanhFraction(MulAdd(reset, product, in[2 * n + i]), limits);
    // (1 - update) fresh + update h over one bottom.
    next[i] = MulAdd(h[i], fresh.bottom, fresh.top * (shut - 1.0f)) / (shut * fresh.bottom);
    if constexpr (saving) {
      saved[i] = 1.0f / shut;
      saved[step + i] = reset;
      saved[2 * step + i] = fresh.top / fresh.bottom;
      saved[3 * step + i] = product;
    }
  }
}

template <bool saving>
void GruGates(const CellBlock& b) {
  constexpr int64_t n = kPanel;
  const float *in = b.input, *rec = b.recurrent, *h = b.h;
  float *update = b.c, *next = b.next;
  [[maybe_unused]] float* saved = b.saved;
  [[maybe_unused]] const int64_t step = b.saved_step;
  const Limits limits = LimitsOf(b.clip);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    update[i] = 1.0f / SigmoidInverse(in[i] + rec[i], limits);
    const float shut = SigmoidInverse(in[n + i] + rec[n + i], limits);
    next[i] = h[i] / shut;
    if constexpr (saving) {
      saved[i] = update[i];
      saved[step + i] = 1.0f / shut;
    }
  }
}

template <bool saving>
void GruCandidate(const CellBlock& b) {
  const float *in = b.input + 2 * kPanel, *rec = b.recurrent, *h = b.h, *update = b.c;
  float* next = b.next;
  [[maybe_unused]] float* saved = b.saved;
  [[maybe_unused]] const int64_t step = b.saved_step;
  const Limits limits = LimitsOf(b.clip);
#pragma GCC ivdep
  for (int64_t i = 0; i < kPanel; ++i) {
    const Fraction fraction = TanhFraction(in[i] + rec[i], limits);
    const float fresh = fraction.top / fraction.bottom;
    next[i] = MulAdd(update[i], h[i], (1.0f - update[i]) * fresh);
    if constexpr (saving) saved[i] = fresh;
  }
}

template <bool relu>
void Rnn(const CellBlock& b) {
  const float *in = b.input, *rec = b.recurrent;
  float* next = b.next;
  const Limits limits = LimitsOf(b.clip);
#pragma GCC ivdep
  for (int64_t i = 0; i < kPanel; ++i) {
    const float x = in[i] + rec[i];
    if constexpr (relu) {
      const float bounded = Bounded(x, b.clip);
      next[i] = bounded < 0.0f ? 0.0f : bounded;
    } else {
      const Fraction y = TanhFraction(x, limits);
      next[i] = y.top / y.bottom;
    }
  }
}

inline float SigmoidSlope(float y) { return y * (1.0f - y); }
inline float TanhSlope(float y) { return 1.0f - y * y; }

void LstmBack(const BackRow& row) {
  const int64_t n = row.hidden;
  const float *saved = row.saved, *before = row.before, *dy = row.dy, *dh = row.dh;
  float *dc = row.dc, *da = row.da;
  const Limits limits = LimitsOf(9.02f);
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const float open = saved[k], out = saved[n + k], keep = saved[2 * n + k],
                fresh = saved[3 * n + k];
    const Fraction fraction = TanhFraction(saved[4 * n + k], limits);
    const float shown = fraction.top / fraction.bottom;
    const float h = dh[k] + dy[k], c = dc[k] + h * out * TanhSlope(shown);
    da[k] = c * fresh * SigmoidSlope(open);
    da[n + k] = h * shown * SigmoidSlope(out);
    da[2 * n + k] = c * before[k] * SigmoidSlope(keep);
    da[3 * n + k] = c * open * TanhSlope(fresh);
    dc[k] = c * keep;
  }
}

void GruLinearBack(const BackRow& row) {
  const int64_t n = row.hidden;
  const float *saved = row.saved, *before = row.before, *dy = row.dy;
  float *dh = row.dh, *da = row.da, *dr = row.dr;
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const float update = saved[k], reset = saved[n + k], fresh = saved[2 * n + k];
    const float h = dh[k] + dy[k];
    const float candidate = h * (1.0f - update) * TanhSlope(fresh);
    const float to_update = h * (before[k] - fresh) * SigmoidSlope(update);
    const float to_reset = candidate * saved[3 * n + k] * SigmoidSlope(reset);
    da[k] = dr[k] = to_update;
    da[n + k] = dr[n + k] = to_reset;
    da[2 * n + k] = candidate;
    dr[2 * n + k] = candidate * reset;
    dh[k] = h * update;
  }
}

void GruBackGates(const BackRow& row) {
  const int64_t n = row.hidden;
  const float *saved = row.saved, *before = row.before, *dy = row.dy;
  float *dh = row.dh, *da = row.da;
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const float update = saved[k], fresh = saved[2 * n + k];
    const float h = dh[k] + dy[k];
    da[k] = h * (before[k] - fresh) * SigmoidSlope(update);
    da[2 * n + k] = h * (1.0f - update) * TanhSlope(fresh);
    dh[k] = h * update;
  }
}

void GruBackReset(const BackRow& row) {
  const int64_t n = row.hidden;
  const float *reset = row.saved + n, *before = row.before, *inside = row.inside;
  float *dh = row.dh, *da = row.da + n;
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    da[k] = inside[k] * before[k] * SigmoidSlope(reset[k]);
    dh[k] += inside[k] * reset[k];
  }
}

// One cell over every block.
template <CellFunction cell>
void Each(const CellBlock& all) {
  CellBlock b = all;
  for (int64_t i = 0; i < all.blocks; ++i) {
    cell(b);
    b.input += all.input_step;
    b.recurrent += all.recurrent_step;
    b.extra += all.extra_step;
    b.h += kPanel;
    b.c += kPanel;
    b.next += kPanel;
    b.saved += kPanel;
  }
}

}  // namespace

const CellLevel& MINIM_CELLS() {
  static constexpr CellLevel kLevel = {Each<LstmCell<false, false>>,
                                       Each<LstmCell<false, true>>,
                                       Each<LstmCell<true, false>>,
                                       Each<LstmCell<true, true>>,
                                       Each<GruLinear<false>>,
                                       Each<GruGates<false>>,
                                       Each<GruCandidate<false>>,
                                       Each<Rnn<false>>,
                                       Each<Rnn<true>>,
                                       Each<LstmCell<false, false, true>>,
                                       Each<GruLinear<true>>,
                                       Each<GruGates<true>>,
                                       Each<GruCandidate<true>>,
                                       LstmBack,
                                       GruLinearBack,
                                       GruBackGates,
                                       GruBackReset};
  return kLevel;
}

}  // namespace minim
