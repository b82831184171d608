// The bodies of RowLevel. Define MINIM_ROWS and MINIM_ROWS_NAME first.
#pragma once

#include <algorithm>

#include "core/group_codes.h"
#include "kernels/cpu/elementwise_functions.h"
#include "kernels/cpu/partials.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

void SoftmaxRow(const float* src, float* dst, int64_t n, bool log) {
  const float top =
      LargestOf(n, -std::numeric_limits<float>::infinity(), [&](int64_t i) { return src[i]; });
  if (log) {
    const float sum = SumOver(n, [&](int64_t i) { return ExpNegativeF(src[i] - top); });
    const float shift = LogF(sum);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dst[i] = (src[i] - top) - shift;
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dst[i] = ExpNegativeF(src[i] - top);
  const float inverse = 1.0f / SumOver(n, [&](int64_t i) { return dst[i]; });
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dst[i] *= inverse;
}

// Up to 64 columns at a time, walking down the axis.
void SoftmaxColumns(const float* src, float* dst, int64_t n, int64_t inner, int64_t columns,
                    bool log) {
  float top[64], sum[64] = {};
  for (int64_t j = 0; j < columns; ++j) top[j] = src[j];
  for (int64_t i = 1; i < n; ++i) {
    for (int64_t j = 0; j < columns; ++j)
      top[j] = src[i * inner + j] > top[j] ? src[i * inner + j] : top[j];
  }
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC ivdep
    for (int64_t j = 0; j < columns; ++j) {
      const float e = ExpNegativeF(src[i * inner + j] - top[j]);
      sum[j] += e;
      dst[i * inner + j] = log ? src[i * inner + j] - top[j] : e;
    }
  }
  for (int64_t j = 0; j < columns; ++j) sum[j] = log ? LogF(sum[j]) : 1.0f / sum[j];
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC ivdep
    for (int64_t j = 0; j < columns; ++j)
      dst[i * inner + j] = log ? dst[i * inner + j] - sum[j] : dst[i * inner + j] * sum[j];
  }
}

void Softmax(const float* src, float* dst, int64_t n, int64_t inner, bool log) {
  if (n == 0) return;
  if (inner == 1) return SoftmaxRow(src, dst, n, log);
  for (int64_t j = 0; j < inner; j += 64)
    SoftmaxColumns(src + j, dst + j, n, inner, std::min<int64_t>(64, inner - j), log);
}

float Attend(float* row, float scale, const float* mask, int64_t n) {
  if (n == 0) return 0;
  const float least = -std::numeric_limits<float>::infinity();
  if (mask || !(scale > 0)) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) row[i] = mask ? MulAdd(row[i], scale, mask[i]) : row[i] * scale;
    scale = 1;
  }
  const float top = LargestOf(n, least, [&](int64_t i) { return row[i]; }) * scale;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) row[i] = ExpNegativeF(MulAdd(row[i], scale, -top));
  return 1.0f / SumOver(n, [&](int64_t i) { return row[i]; });
}

void LayerNorm(const float* x, const float* scale, const float* bias, float epsilon, int64_t n,
               float* y, float* mean_out, float* inverse_out) {
  const float count = n > 0 ? static_cast<float>(n) : 1.0f;
  const float mean = SumOver(n, [&](int64_t i) { return x[i]; }) / count;
  const float square = SumOver(n, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  const float inverse = 1.0f / std::sqrt(square / count + epsilon);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float z = (x[i] - mean) * inverse * (scale ? scale[i] : 1.0f);
    y[i] = bias ? z + bias[i] : z;
  }
  if (mean_out) *mean_out = mean;
  if (inverse_out) *inverse_out = inverse;
}

float Sum(const float* x, int64_t n) {
  return SumOver(n, [&](int64_t i) { return x[i]; });
}

float SquareDeviations(const float* x, float mean, int64_t n) {
  return SumOver(n, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
}

void Affine(const float* x, float scale, float shift, int64_t n, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale + shift;
}

void Centered(const float* x, float mean, float scale, float bias, int64_t n, float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = MulAdd(x[i] - mean, scale, bias);
}

void Lrn(const float* x, const float* sum, float alpha, float beta, float bias, int64_t n,
         float* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * ExpF(-beta * LogF(bias + alpha * sum[i]));
}

inline float Gradient(const GradientRule& rule, float x, float g) {
  const float scaled = g * rule.inverse_scale * rule.coefficient;
  const float bounded =
      scaled < -rule.limit ? -rule.limit : (scaled > rule.limit ? rule.limit : scaled);
  return bounded + rule.decay * x;
}

inline float Direction(const AdamStep& s, float moment, float square) {
  return s.rate * moment / (std::sqrt(square) * s.root_scale + s.epsilon);
}

void Adam(const AdamStep& s, const float* x, const float* g, const float* v, const float* h,
          int64_t n, float* x_new, float* v_new, float* h_new) {
  const AdamStep p = s;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float grad = Gradient(p.gradient, x[i], g[i]);
    const float moment = p.alpha * v[i] + (1.0f - p.alpha) * grad;
    const float square = p.beta * h[i] + (1.0f - p.beta) * grad * grad;
    v_new[i] = moment;
    h_new[i] = square;
    x_new[i] = p.keep * x[i] - Direction(p, moment, square);
  }
}

void Momentum(const MomentumStep& s, const float* x, const float* g, const float* v, int64_t n,
              float* x_new, float* v_new) {
  const MomentumStep p = s;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float grad = Gradient(p.gradient, x[i], g[i]);
    const float moment = p.alpha * v[i] + p.beta * grad;
    const float step = p.nesterov ? grad + p.alpha * moment : moment;
    v_new[i] = moment;
    x_new[i] = x[i] - p.rate * step;
  }
}

void Adagrad(const AdagradStep& s, const float* x, const float* g, const float* h, int64_t n,
             float* x_new, float* h_new) {
  const AdagradStep p = s;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float grad = Gradient(p.gradient, x[i], g[i]);
    const float square = h[i] + grad * grad;
    h_new[i] = square;
    x_new[i] = x[i] - p.rate * grad / (std::sqrt(square) + p.epsilon);
  }
}

void Rmsprop(const RmspropStep& s, const float* x, const float* g, const float* h, const float* v,
             int64_t n, float* x_new, float* h_new, float* v_new) {
  const RmspropStep p = s;
  if (v == nullptr) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const float grad = Gradient(p.gradient, x[i], g[i]);
      const float square = p.alpha * h[i] + (1.0f - p.alpha) * grad * grad;
      h_new[i] = square;
      x_new[i] = x[i] - p.rate * (grad / (std::sqrt(square) + p.epsilon));
    }
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float grad = Gradient(p.gradient, x[i], g[i]);
    const float square = p.alpha * h[i] + (1.0f - p.alpha) * grad * grad;
    const float moment = p.momentum * v[i] + grad / (std::sqrt(square) + p.epsilon);
    h_new[i] = square;
    v_new[i] = moment;
    x_new[i] = x[i] - p.rate * moment;
  }
}

void Sgd(const GradientRule& gradient, float rate, const float* x, const float* g, int64_t n,
         float* x_new) {
  const GradientRule rule = gradient;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) x_new[i] = x[i] - rate * Gradient(rule, x[i], g[i]);
}

void LambMoments(const AdamStep& s, const float* x, const float* g, const float* v, const float* h,
                 int64_t n, float* v_new, float* h_new, float* squares) {
  const AdamStep p = s;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float grad = Gradient(p.gradient, x[i], g[i]);
    v_new[i] = p.alpha * v[i] + (1.0f - p.alpha) * grad;
    h_new[i] = p.beta * h[i] + (1.0f - p.beta) * grad * grad;
  }
  squares[0] = SumOver(n, [&](int64_t i) { return x[i] * x[i]; });
  squares[1] = SumOver(n, [&](int64_t i) {
    const float step = Direction(p, v_new[i], h_new[i]) + p.keep * x[i];
    return step * step;
  });
}

void LambApply(const AdamStep& s, float trust, const float* x, const float* v, const float* h,
               int64_t n, float* x_new) {
  const AdamStep p = s;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i)
    x_new[i] = x[i] - trust * (Direction(p, v[i], h[i]) + p.keep * x[i]);
}

GradientSums SumGradients(const float* g, float inverse_scale, int64_t n) {
  constexpr uint32_t kExponent = 0x7F800000u;
  const float squares = SumOver(n, [&](int64_t i) {
    const float x = g[i] * inverse_scale;
    return x * x;
  });
  uint32_t worst = 0;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t exponent = std::bit_cast<uint32_t>(g[i]) & kExponent;
    worst = exponent > worst ? exponent : worst;
  }
  return {squares, worst != kExponent};
}

// Blocks [first, first + kCodeLanes) of Philox, word by word.
void PhiloxLanes(uint64_t seed, uint64_t stream, uint64_t first, uint32_t words[4][kCodeLanes]) {
  for (int64_t lane = 0; lane < kCodeLanes; ++lane) {
    const uint64_t counter = first + static_cast<uint64_t>(lane);
    words[0][lane] = static_cast<uint32_t>(counter);
    words[1][lane] = static_cast<uint32_t>(counter >> 32);
    words[2][lane] = static_cast<uint32_t>(stream);
    words[3][lane] = static_cast<uint32_t>(stream >> 32);
  }
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
#pragma GCC ivdep
    for (int64_t lane = 0; lane < kCodeLanes; ++lane) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * words[0][lane];
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * words[2][lane];
      words[0][lane] = static_cast<uint32_t>(p1 >> 32) ^ words[1][lane] ^ k0;
      words[1][lane] = static_cast<uint32_t>(p1);
      words[2][lane] = static_cast<uint32_t>(p0 >> 32) ^ words[3][lane] ^ k1;
      words[3][lane] = static_cast<uint32_t>(p0);
    }
  }
}

void EncodeGroup(const float* x, int64_t count, int bits, uint64_t seed, uint64_t stream,
                 int64_t group, uint8_t* codes, float* range_out) {
  const CodeRange range = RangeOf(x, count, bits);
  range_out[0] = range.low;
  range_out[1] = range.step;
  const float inverse = InverseStep(range), most = static_cast<float>((1 << bits) - 1);
  uint32_t words[4][kCodeLanes];
  PhiloxLanes(seed, stream, static_cast<uint64_t>(group * kCodeLanes), words);
  float padded[kCodeGroup] = {};
  if (count < kCodeGroup) {
    for (int64_t i = 0; i < count; ++i) padded[i] = x[i];
    x = padded;
  }
  uint32_t wide[kCodeGroup];
  for (int64_t half = 0; half < kCodeGroup / kCodeLanes; ++half) {
    const uint32_t* draws = words[half / 2];
    const int shift = 16 * static_cast<int>(half % 2);
    const float* from = x + half * kCodeLanes;
    uint32_t* to = wide + half * kCodeLanes;
    for (int64_t lane = 0; lane < kCodeLanes; ++lane)
      to[lane] = CodeOf(from[lane], range, inverse, draws[lane] >> shift & 0xFFFFu, most);
  }
  for (int64_t i = count; i < kCodeGroup; ++i) wide[i] = 0;
  constexpr int64_t kHalf = kCodeGroup / 2;
  if (bits == 8) {
    for (int64_t i = 0; i < kCodeGroup; ++i) codes[i] = static_cast<uint8_t>(wide[i]);
  } else {
    for (int64_t i = 0; i < kHalf; ++i)
      codes[i] = static_cast<uint8_t>(wide[i] | wide[i + kHalf] << 4);
  }
}

void DecodeGroup(const uint8_t* codes, const float* range, int bits, int64_t count, float* y) {
  const float low = range[0], step = range[1];
  if (bits == 8) {
    for (int64_t i = 0; i < count; ++i) y[i] = low + step * static_cast<float>(codes[i]);
    return;
  }
  constexpr int64_t kHalf = kCodeGroup / 2;
  const int64_t lower = count < kHalf ? count : kHalf;
  for (int64_t i = 0; i < lower; ++i) y[i] = low + step * static_cast<float>(codes[i] & 0xF);
  for (int64_t i = kHalf; i < count; ++i)
    y[i] = low + step * static_cast<float>(codes[i - kHalf] >> 4);
}

}  // namespace

const RowLevel& MINIM_ROWS() {
  static constexpr RowLevel kLevel = {
      MINIM_ROWS_NAME, Softmax,   Attend,       LayerNorm,   Sum,        SquareDeviations, Affine,
      Centered,        Lrn,       Adam,         Momentum,    Adagrad,    Rmsprop,          Sgd,
      LambMoments,     LambApply, SumGradients, EncodeGroup, DecodeGroup};
  return kLevel;
}

}  // namespace minim
