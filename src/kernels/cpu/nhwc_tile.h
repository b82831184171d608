// Pixels x up to 64 filters of sums in registers: a broadcast quad of a pixel times a quad of each
// of 16 filters at once. For the files compiled at levels with 512-bit vectors. `Level` says what
// quads are: Args, what a run is given besides NhwcRun `run`, and Advance(args, pixels); Vector;
// Start, Pixel, Weights and Add; Store.
#pragma once

#include <immintrin.h>

#include <array>
#include <type_traits>
#include <utility>

#include "kernels/cpu/nhwc_cuts.h"

namespace minim {
namespace {

// With panels, 24 sums at most: they, the weights and a pixel fill the 32 registers.
constexpr int MostPixels(int panels) { return panels == 1 ? 16 : 24 / panels; }

// Where pixels are. A few have a pointer each; of more, four share one.
template <int pixels>
class SteppedPixels {
 public:
  explicit SteppedPixels(const NhwcRun& t) : step_(t.pixel_step) {}
  void Begin(const NhwcRun& t, int64_t segment) {
    for (int p = 0; p < kPointers; ++p) x_[p] = t.image + segment + 4 * p * step_;
  }
  const std::byte* At(int i) const { return x_[i / 4] + (i % 4 == 3 ? 3 * step_ : i % 4 * step_); }
  void Advance() {
#pragma GCC unroll 4
    for (int p = 0; p < kPointers; ++p) x_[p] += 4;
  }

 private:
  static constexpr int kPointers = (pixels + 3) / 4;
  const int64_t step_;
  const std::byte* x_[kPointers];
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
  const std::byte* At(int i) const { return x_[i] + at_; }
  void Advance() { at_ += 4; }

 private:
  const std::byte* x_[pixels];
  int64_t at_ = 0;
};

// next_bytes: of this tile's share.
template <typename Level, int pixels, int panels>
void RunTile(const typename Level::Args& args) {
  using Vector = typename Level::Vector;
  using Pixels =
      std::conditional_t<(panels > kSteppedPanels), PlacedPixels<pixels>, SteppedPixels<pixels>>;
  const NhwcRun& t = args.run;
  Vector sum[pixels][panels];
  for (int j = 0; j < panels; ++j) {
    const Vector start = Level::Start(args, j);
    for (int i = 0; i < pixels; ++i) sum[i][j] = start;
  }
  const std::byte *w = t.weights, *next = t.next_weights;
  const int64_t next_step = t.next_bytes / (t.segment_count * t.quads);
  Pixels x(t);
  for (int64_t s = 0; s < t.segment_count; ++s) {
    x.Begin(t, t.segments[s]);
    for (int64_t quad = 0; quad < t.quads; ++quad, w += panels * kPanel * 4) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      next += next_step;
      Vector y[panels];
#pragma GCC unroll 8
      for (int j = 0; j < panels; ++j) y[j] = Level::Weights(w + j * kPanel * 4);
#pragma GCC unroll 16
      for (int i = 0; i < pixels; ++i) {
        const Vector xs = Level::Pixel(x.At(i));
#pragma GCC unroll 8
        for (int j = 0; j < panels; ++j) sum[i][j] = Level::Add(sum[i][j], xs, y[j]);
      }
      x.Advance();
    }
  }
  Level::template Store<pixels, panels>(args, sum);
}

template <typename Level, int panels, int... pixels>
constexpr auto TilesOf(std::integer_sequence<int, pixels...>) {
  using TileFn = void (*)(const typename Level::Args&);
  return std::array<TileFn, sizeof...(pixels)>{RunTile<Level, pixels + 1, panels>...};
}

template <typename Level, int panels>
void RunPanels(typename Level::Args args, int64_t pixels) {
  constexpr int kMost = MostPixels(panels);
  static constexpr auto kTiles = TilesOf<Level, panels>(std::make_integer_sequence<int, kMost>());
  NhwcRun& run = args.run;
  // Tiles of about the same size: sums of a narrow one would wait for each other.
  const int64_t tiles = (pixels + kMost - 1) / kMost;
  run.next_bytes /= tiles;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t together = pixels * (t + 1) / tiles - pixels * t / tiles;
    kTiles[together - 1](args);
    if (panels > kSteppedPanels)
      run.offsets += together;
    else
      run.image += together * run.pixel_step;
    run.next_weights += run.next_bytes;
    run.dst += together * run.dst_step;
    Level::Advance(args, together);
  }
}

template <typename Level>
void RunTiles(const typename Level::Args& args, int64_t pixels) {
  switch (PanelsOf(args.run.filters)) {
    case 1: return RunPanels<Level, 1>(args, pixels);
    case 2: return RunPanels<Level, 2>(args, pixels);
    case 3: return RunPanels<Level, 3>(args, pixels);
    default: return RunPanels<Level, 4>(args, pixels);
  }
}

}  // namespace
}  // namespace minim
