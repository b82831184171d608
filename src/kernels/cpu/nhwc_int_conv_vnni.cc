// Pixels x up to 64 filters of sums in registers: a broadcast quad of a pixel times a quad of each
// of 16 filters at once.
#include <array>
#include <type_traits>
#include <utility>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/nhwc_conv.h"
#include "kernels/cpu/quotient.h"
#include "kernels/cpu/vnni.h"

namespace minim {
namespace {

// With panels, 24 sums at most: they, the weights and a pixel fill the 32 registers.
constexpr int MostPixels(int panels) { return panels == 1 ? 16 : 24 / panels; }

inline __m512i QuadOf(const uint8_t* src) {
  return _mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(src)));
}

// Requantize() of 16 sums at once, to the same bits (core/requantize.h).
class Requantizer {
 public:
  explicit Requantizer(const NhwcRun& line)
      : is_signed_(line.is_signed),
        least_(_mm512_set1_ps(static_cast<float>((is_signed_ ? -128 : 0) - line.zero_point))),
        most_(_mm512_set1_ps(static_cast<float>((is_signed_ ? 127 : 255) - line.zero_point))),
        back_(_mm512_sub_epi32(_mm512_castps_si512(kWhole()), _mm512_set1_epi32(line.zero_point))) {
  }

  __m512i Of(__m512i sums, __m512 scales) const {
    const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
    const __m512 bounded = _mm512_min_ps(_mm512_max_ps(x, least_), most_);  // least if NaN
    return _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(bounded, kWhole())), back_);
  }
  // The bytes of four of them.
  __m512i Join(const __m512i (&x)[4]) const {
    const __m512i low = _mm512_packs_epi32(x[0], x[1]), high = _mm512_packs_epi32(x[2], x[3]);
    const __m512i bytes =
        is_signed_ ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    // Packed lane by lane: quad p of lane l is l * 4 + p.
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }

 private:
  static __m512 kWhole() { return _mm512_set1_ps(kWholeShift); }
  bool is_signed_;
  __m512 least_, most_;
  __m512i back_;
};

// Where pixels are. A few have a pointer each; of more, four share one.
template <int pixels>
class SteppedPixels {
 public:
  explicit SteppedPixels(const NhwcRun& t) : step_(t.pixel_step) {}
  void Begin(const NhwcRun& t, int64_t segment) {
    for (int p = 0; p < kPointers; ++p) x_[p] = t.image + segment + 4 * p * step_;
  }
  __m512i At(int i) const { return QuadOf(x_[i / 4] + (i % 4 == 3 ? 3 * step_ : i % 4 * step_)); }
  void Advance() {
#pragma GCC unroll 4
    for (int p = 0; p < kPointers; ++p) x_[p] += 4;
  }

 private:
  static constexpr int kPointers = (pixels + 3) / 4;
  const int64_t step_;
  const uint8_t* x_[kPointers];
};

template <int pixels>
class PlacedPixels {
 public:
  explicit PlacedPixels(const NhwcRun&) {}
  void Begin(const NhwcRun& t, int64_t segment) {
#pragma GCC unroll 8
    for (int i = 0; i < pixels; ++i) x_[i] = t.image + segment + t.offsets[i];
    at_ = 0;
  }
  __m512i At(int i) const { return QuadOf(x_[i] + at_); }
  void Advance() { at_ += 4; }

 private:
  const uint8_t* x_[pixels];
  int64_t at_ = 0;
};

// next_bytes: of this tile's share.
template <int pixels, int panels>
void RunTile(const NhwcRun& t) {
  using Pixels =
      std::conditional_t<(panels > kSteppedPanels), PlacedPixels<pixels>, SteppedPixels<pixels>>;
  __m512i sum[pixels][panels];
  for (int j = 0; j < panels; ++j) {
    const __m512i start = LoadInts(t.starts + j * kPanel);
    for (int i = 0; i < pixels; ++i) sum[i][j] = start;
  }
  const int8_t *w = t.weights, *next = t.next_weights;
  const int64_t next_step = t.next_bytes / (t.segment_count * t.quads);
  Pixels x(t);
  for (int64_t s = 0; s < t.segment_count; ++s) {
    x.Begin(t, t.segments[s]);
    for (int64_t quad = 0; quad < t.quads; ++quad, w += panels * kPanel * 4) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      next += next_step;
      __m512i y[panels];
#pragma GCC unroll 8
      for (int j = 0; j < panels; ++j) y[j] = LoadInts(w + j * kPanel * 4);
#pragma GCC unroll 16
      for (int i = 0; i < pixels; ++i) {
        const __m512i xs = x.At(i);
#pragma GCC unroll 8
        for (int j = 0; j < panels; ++j) sum[i][j] = AddQuads(sum[i][j], xs, y[j]);
      }
      x.Advance();
    }
  }
  const Requantizer requantizer(t);
  const __mmask64 there = t.filters < 64 ? (__mmask64{1} << t.filters) - 1 : ~__mmask64{0};
  for (int i = 0; i < pixels; ++i) {
    __m512i x[4] = {};
    for (int j = 0; j < panels; ++j)
      x[j] = requantizer.Of(sum[i][j], _mm512_loadu_ps(t.scales + j * kPanel));
    _mm512_mask_storeu_epi8(static_cast<uint8_t*>(t.dst) + i * t.dst_step, there,
                            requantizer.Join(x));
  }
}

using TileFn = void (*)(const NhwcRun&);

template <int panels, int... pixels>
constexpr auto TilesOf(std::integer_sequence<int, pixels...>) {
  return std::array<TileFn, sizeof...(pixels)>{RunTile<pixels + 1, panels>...};
}

template <int panels>
void RunPanels(NhwcRun run, int64_t pixels) {
  constexpr int kMost = MostPixels(panels);
  static constexpr auto kTiles = TilesOf<panels>(std::make_integer_sequence<int, kMost>());
  // Tiles of about the same size: sums of a narrow one would wait for each other.
  const int64_t tiles = (pixels + kMost - 1) / kMost;
  run.next_bytes /= tiles;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t together = pixels * (t + 1) / tiles - pixels * t / tiles;
    kTiles[together - 1](run);
    if (panels > kSteppedPanels)
      run.offsets += together;
    else
      run.image += together * run.pixel_step;
    run.next_weights += run.next_bytes;
    run.dst = static_cast<uint8_t*>(run.dst) + together * run.dst_step;
  }
}

}  // namespace

void RunNhwcVnni(const NhwcRun& run, int64_t pixels) {
  switch (PanelsOf(run.filters)) {
    case 1: return RunPanels<1>(run, pixels);
    case 2: return RunPanels<2>(run, pixels);
    case 3: return RunPanels<3>(run, pixels);
    default: return RunPanels<4>(run, pixels);
  }
}

}  // namespace minim
