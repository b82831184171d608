// How Winograd's minimal filtering cuts a 3x3 convolution of stride 1: into 4x4 tiles of outputs,
// panels of 16 tiles, and units of work. Tiles are the pixels of a convolution with a 6x6 kernel
// and stride 4: they are staged and packed as such. A pixel is a 32-bit word, a float or two
// integers.
#pragma once

#include "kernels/cpu/filter_gemm.h"

namespace minim {

constexpr int64_t kWinogradOut = 4, kWinogradIn = 6;
constexpr int64_t kWinogradTaps = kWinogradIn * kWinogradIn;

/// Costs in multiply-adds of the direct product.
struct WinogradCosts {
  double product = 1;            // one of the 36 for a tile
  double in = 0, out = 0;        // transforms of a tile
  double pixel = 0, weight = 0;  // putting a pixel under its taps; reading a weight
  double filter = 0;             // transforming a filter of one channel
};

/// B^T d B of 16 tiles of one plane: 36 rows of 16 words to 36 rows of 16, `tap` words apart.
using WinogradInput = void (*)(const float* tiles, float* transformed, int64_t tap);

struct WinogradTiling {
  Window w;                               // of tiles
  int64_t height = 1, width = 1;          // of an output plane
  int64_t groups = 1, m = 1, planes = 1;  // m filters on so many planes of words per group
  ImageStage stage;                       // of one plane
  int64_t together = 1;                   // small images that share a lot of tiles
  int64_t panels = 1;                     // of one lot and group
  int64_t unit_panels = 1;                // a unit of work: so many panels ...
  int64_t parts = 1;                      // ... of one of so many parts of the filters
  int64_t stage_floats = 0;

  int64_t blocks() const { return (panels + unit_panels - 1) / unit_panels; }
  int64_t lots(int64_t images) const { return (images + together - 1) / together; }
  int64_t units(int64_t images) const { return lots(images) * groups * parts * blocks(); }
  int64_t plane_size() const { return height * width; }
  // From one tap to the next; the line more keeps taps out of one set of a cache.
  int64_t input_tap() const { return unit_panels * planes * kPanel + kPanel; }
  int64_t sum_row() const { return unit_panels * kPanel; }
  int64_t sum_tap() const;
  size_t piece_bytes() const;  // of scratch
};

/// Errors: kUnsupported unless the convolution is 3x3 of stride 1 and costs less in tiles.
Result<WinogradTiling> TilingOf(const KernelRequest& request, const Dims& weights,
                                int64_t channels_per_word, const WinogradCosts& costs);

/// Some panels of tiles of an image (or several) and group, and rows [row, row + rows) of its
/// filters.
struct WinogradUnit {
  int64_t image = 0, images = 1, group = 0, first = 0, last = 0;
  int64_t row = 0, rows = 0;
  int64_t tiles = 0;
};

/// What one thread writes to: `sums` are 32-bit, FP32 or integer.
struct WinogradScratch {
  float *tiles, *stage, *input, *sums;
};

/// What ForEachTileRow cuts: `count` tiles, at most a panel, from `first` on.
struct WinogradPlane {
  int64_t first = 0, count = 0;
  int64_t row = 0;                // tiles in a row
  int64_t height = 0, width = 0;  // of the plane
};
/// For each row of pixels that such tiles give: f(row in the tile, tile, pixel of the plane,
/// count).
template <typename F>
void ForEachTileRow(const WinogradPlane& p, F&& f) {
  for (int64_t i = 0; i < p.count;) {
    const int64_t tile = p.first + i, x = tile % p.row, y = tile / p.row * kWinogradOut;
    const int64_t tiles = p.row - x < p.count - i ? p.row - x : p.count - i;
    const int64_t left = x * kWinogradOut, rest = p.width - left;
    const int64_t pixels = tiles * kWinogradOut < rest ? tiles * kWinogradOut : rest;
    for (int64_t r = 0; r < kWinogradOut && y + r < p.height; ++r)
      f(r, i, (y + r) * p.width + left, pixels);
    i += tiles;
  }
}

/// The tiles of a unit by panel and image: f(image, first tile of the unit, where they lie in the
/// image's plane).
template <typename F>
void ForEachTiles(const WinogradTiling& t, const WinogradUnit& u, F&& f) {
  const int64_t size = t.w.out_size();
  for (int64_t tile = 0, count = 0; tile < u.tiles; tile += count) {
    const int64_t at = u.first * kPanel + tile, first = at % size;
    count = kPanel - tile % kPanel;
    if (count > u.tiles - tile) count = u.tiles - tile;
    if (count > size - first) count = size - first;
    f(u.image + at / size, tile, WinogradPlane{first, count, t.w.out[2], t.height, t.width});
  }
}

class WinogradRun {
 public:
  /// `piece_bytes`: between the scratch of two threads, at least the tiling's.
  WinogradRun(const WinogradTiling& tiling, const FilterLevel& level, WinogradInput input,
              size_t piece_bytes)
      : t_(tiling), level_(level), input_(input), piece_bytes_(piece_bytes) {}
  /// Calls multiply(unit, scratch) once the tiles of `images` images at `words` are transformed,
  /// for a few rows of the filters at a time. `scratch`: piece_bytes for each thread.
  template <typename F>
  void Run(const float* words, int64_t images, const ThreadBudget& threads, void* scratch,
           F&& multiply) const {
    const int64_t units = t_.units(images);
    const int pieces = static_cast<int>(units < threads.threads ? units : threads.threads);
    threads.ParallelFor(pieces, [&](int i) {
      const WinogradScratch at = ScratchAt(static_cast<std::byte*>(scratch) + i * piece_bytes_);
      for (int64_t index = units * i / pieces; index < units * (i + 1) / pieces; ++index) {
        const WinogradUnit whole = UnitAt(index, images);
        Transform(words, whole, at);
        for (WinogradUnit unit = FirstRows(whole); unit.rows > 0; unit = NextRows(whole, unit))
          multiply(unit, at);
      }
    });
  }

 private:
  WinogradUnit UnitAt(int64_t index, int64_t images) const;
  static WinogradUnit FirstRows(WinogradUnit whole);
  static WinogradUnit NextRows(const WinogradUnit& whole, const WinogradUnit& done);
  WinogradScratch ScratchAt(std::byte* piece) const;
  void Transform(const float* words, const WinogradUnit& u, const WinogradScratch& to) const;

  const WinogradTiling& t_;
  const FilterLevel& level_;
  WinogradInput input_;
  size_t piece_bytes_;
};

}  // namespace minim
