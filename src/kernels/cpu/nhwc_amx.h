// As nhwc_tile.h, from the same packed filters, by tile registers: 16 pixels x 16 filters of sums
// in each, to which a product adds 64 bytes of every pixel. `Level` is as there; its
// AddTiles<sum, x, y>() is the product, AdvanceFilters(args, filters) leaves out the first filters.
#pragma once

#include <algorithm>
#include <utility>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/nhwc_cuts.h"

namespace minim {
namespace {

constexpr int64_t kTilePixels = 16;
constexpr int64_t kTileQuads = 16;
constexpr int64_t kTileRowBytes = 64;
constexpr int64_t kAheadBytes = 8192;  // of weights; 2 to 32 KiB are as good
constexpr int kSumTiles = 4;           // registers 0 to 3
constexpr int64_t kSumsOfTile = kTilePixels * kPanel;
static_assert(kSumTiles == 4);
constexpr int kPixels = 4, kFilters = 5, kLastPixels = 6, kLastFilters = 7;

template <int count, typename F>
void Unrolled(F&& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (f(std::integral_constant<int, i>()), ...);
  }(std::make_integer_sequence<int, count>());
}

// The pixels of a tile. Those that lie in even steps are read in place; others are put together one
// product ahead, for a tile cannot be loaded from stores that are still on their way.
class TilePixels {
 public:
  void Begin(const NhwcRun& t, int64_t first, int64_t count, bool even) {
    first_ = t.image + (t.offsets ? t.offsets[first] : first * t.pixel_step);
    step_ = t.pixel_step;
    offsets_ = nullptr;
    if (even) return;
    first_ = t.image;
    offsets_ = t.offsets + first;
    count_ = count;
  }

  // `bytes` from `at` of each pixel, for the Load after the next one.
  void Prepare(int64_t at, int64_t bytes) {
    if (offsets_ == nullptr) return;
    turn_ = !turn_;
    const __mmask64 there = ~uint64_t{0} >> (kTileRowBytes - bytes);
    // Copies: stores of bytes might change members.
    const std::byte* const from = first_ + at;
    std::byte* const to = together_[turn_];
    const int32_t* const offsets = offsets_;
    const int64_t count = count_;
#pragma GCC unroll 4
    for (int64_t i = 0; i < count; ++i)
      _mm512_store_si512(to + i * kTileRowBytes, _mm512_maskz_loadu_epi8(there, from + offsets[i]));
  }
  /// The first of those that are read in place, and from one to the next.
  const std::byte* first() const { return first_; }
  int64_t step() const { return step_; }
  template <int tile>
  void Load(int64_t at) const {
    if (offsets_)
      LoadTile<tile>(together_[turn_], kTileRowBytes);
    else
      LoadTile<tile>(first_ + at, step_);
  }

 private:
  const std::byte* first_ = nullptr;
  int64_t step_ = 0, count_ = 0;
  const int32_t* offsets_ = nullptr;
  bool turn_ = false;
  alignas(64) std::byte together_[2][kTilePixels * kTileRowBytes];
};

// How a run's pixels are shared out: lines into tiles of about the same height, whose pixels lie in
// even steps; or all of them, where a line fills too little of a tile.
struct TileCuts {
  int64_t line, tiles_of_line, height, tiles;
  bool even;

  TileCuts(const NhwcRun& t, int64_t pixels) : line(t.offsets ? t.line : pixels) {
    even = line >= kLeastLine || line == pixels;
    if (!even) line = pixels;
    tiles_of_line = (line + kTilePixels - 1) / kTilePixels;
    height = even ? (line + tiles_of_line - 1) / tiles_of_line : std::min(pixels, kTilePixels);
    tiles = pixels / line * tiles_of_line;
  }
  // The last tile of a line ends with it, and makes some pixels again.
  int64_t FirstOf(int64_t tile) const {
    return tile / tiles_of_line * line + std::min(tile % tiles_of_line * height, line - height);
  }

  static constexpr int64_t kLeastLine = 10;
};

// Where a product reads: 64 bytes of a segment, or its last ones.
struct TileStep {
  int64_t segment = 0, quad = 0;

  int64_t At(const NhwcRun& t) const { return t.segments[segment] + quad * 4; }
  int64_t Quads(const NhwcRun& t) const { return std::min(kTileQuads, t.quads - quad); }
  void Next(const NhwcRun& t) {
    quad += kTileQuads;
    if (quad < t.quads) return;
    quad = 0;
    ++segment;
  }
};

template <typename Level>
class TileRunner {
 public:
  using Args = typename Level::Args;
  using Vector = typename Level::Vector;

  TileRunner(const Args& args, int64_t pixels)
      : args_(args), cuts_(args.run, pixels), width_(PanelsOf(args.run.filters) * kPanel * 4) {
    const NhwcRun& t = args.run;
    const int64_t last = t.quads % kTileQuads == 0 ? kTileQuads : t.quads % kTileQuads;
    TileConfig config;
    for (int i = 0; i < kSumTiles; ++i) config.Set(i, cuts_.height, kPanel * 4);
    config.Set(kPixels, cuts_.height, kTileRowBytes);
    config.Set(kFilters, kTileQuads, kPanel * 4);
    config.Set(kLastPixels, cuts_.height, last * 4);
    config.Set(kLastFilters, last, kPanel * 4);
    LoadConfig(config);
    const int64_t steps = t.segment_count * ((t.quads + kTileQuads - 1) / kTileQuads);
    const int64_t panels = PanelsOf(t.filters);
    const int64_t own_bytes = t.segment_count * t.quads * width_;
    const std::byte* const own_end = t.weights + own_bytes;
    // Weights that are read once come from memory, perhaps more than the caches hold, and those of
    // the next run after them: what is brought near lies just ahead. Others wait while the next
    // run's come.
    const bool once = cuts_.tiles == 1 && (t.next_bytes == 0 || t.next_weights == own_end);
    next_ = once ? std::min(t.weights + kAheadBytes, own_end) : t.next_weights;
    next_end_ = (once ? own_end : next_) + t.next_bytes;
    next_lines_ =
        (once ? own_bytes : t.next_bytes) / kTileRowBytes / (cuts_.tiles * panels * steps) + 1;
  }

  // Four tiles of sums at once, as square as there are filters.
  void Run() {
    switch (PanelsOf(args_.run.filters)) {
      case 1: return RunPixels<4, 1, 1>();
      case 2: return RunPixels<2, 2, 2>();
      case 3: return RunPixels<1, 3, 3>();
      default: return RunPixels<2, 2, 4>();
    }
  }

 private:
  // `most` tiles of pixels by `panels` of filters at once; the last one by `alone` of them.
  template <int most, int panels, int alone>
  void RunPixels() {
    const int64_t tiles = cuts_.tiles;
    int64_t tile = 0;
    for (; tile + most <= tiles; tile += most) RunTiles<most, panels>(tile);
    if constexpr (most > 2)
      if (tile + 2 <= tiles) {
        RunTiles<2, panels>(tile);
        tile += 2;
      }
    for (; tile < tiles; ++tile) RunTiles<1, alone>(tile);
  }

  template <int tiles, int panels>
  void RunTiles(int64_t tile) {
    for (int i = 0; i < tiles; ++i)
      x_[i].Begin(args_.run, cuts_.FirstOf(tile + i), cuts_.height, cuts_.even);
    Args args = args_;
    for (int64_t panel = 0; panel * kPanel < args_.run.filters; panel += panels) {
      Multiply<tiles, panels>(args, args_.run.weights + panel * kPanel * 4);
      for (int i = 0; i < tiles; ++i)
        Store<panels>(args, cuts_.FirstOf(tile + i), sums_ + i * panels * kSumsOfTile);
      Level::AdvanceFilters(args, panels * kPanel);
    }
  }

  template <int tiles, int panels>
  void Multiply(const Args& args, const std::byte* weights) {
    Unrolled<panels>([&](auto j) {
      Unrolled<tiles>([&](auto i) { LoadTile<i * panels + j>(args.starts + j * kPanel, 0); });
    });
    if (cuts_.even && args_.run.quads % kTileQuads == 0)
      AddWholeSteps<tiles, panels>(weights);
    else
      AddSteps<tiles, panels>(weights);
    Unrolled<tiles>([&](auto i) {
      Unrolled<panels>([&](auto j) {
        StoreTile<i * panels + j>(sums_ + i * panels * kSumsOfTile + j * kPanel,
                                  panels * kPanel * 4);
      });
    });
  }

  // Of pixels in place, 64 bytes at a time: as few instructions as there can be between products,
  // and both pairs of registers.
  template <int tiles, int panels>
  void AddWholeSteps(const std::byte* weights) {
    const NhwcRun& t = args_.run;
    const int64_t width = width_, step = x_[0].step(), lines = next_lines_ * tiles * panels;
    const std::byte* next = next_;
    for (int64_t segment = 0; segment < t.segment_count; ++segment) {
      int64_t at = t.segments[segment];
      for (const int64_t end = at + t.quads * 4; at < end; at += kTileRowBytes) {
        const std::byte* const last = next + std::min(lines * kTileRowBytes, next_end_ - next);
        for (; next < last; next += kTileRowBytes)
          _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
        Unrolled<tiles>([&](auto i) {
          constexpr int x = i % 2 == 0 ? kPixels : kLastPixels;
          LoadTile<x>(x_[i].first() + at, step);
          Unrolled<panels>([&](auto j) {
            constexpr int y = j % 2 == 0 ? kFilters : kLastFilters;
            if (i == 0) LoadTile<y>(weights + j * kPanel * 4, width);
            Level::template AddTiles<i * panels + j, x, y>();
          });
        });
        weights += kTileQuads * width;
      }
    }
    next_ = next;
  }

  template <int tiles, int panels>
  void AddSteps(const std::byte* weights) {
    const NhwcRun& t = args_.run;
    TileStep next;
    const auto prepare = [&] {
      if (next.segment == t.segment_count) return;
      for (int i = 0; i < tiles; ++i) x_[i].Prepare(next.At(t), next.Quads(t) * 4);
    };
    prepare();
    for (TileStep step; step.segment < t.segment_count; step = next) {
      next.Next(t);
      const int64_t quads = step.Quads(t);
      if (quads == kTileQuads)
        Step<tiles, panels, kPixels, kFilters>(weights, step.At(t), prepare);
      else
        Step<tiles, panels, kLastPixels, kLastFilters>(weights, step.At(t), prepare);
      weights += quads * width_;
    }
  }

  template <int tiles, int panels, int x, int y, typename F>
  void Step(const std::byte* weights, int64_t at, F&& prepare) {
    for (int64_t i = 0; i < next_lines_ * tiles * panels && next_ < next_end_; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(next_), _MM_HINT_T1);
      next_ += kTileRowBytes;
    }
    Unrolled<tiles>([&](auto i) {
      x_[i].template Load<x>(at);
      Unrolled<panels>([&](auto turn) {
        // There and back: where tiles meet, the filters stay.
        constexpr int j = i % 2 == 0 ? turn : panels - 1 - turn;
        if (i == 0 || turn > 0) LoadTile<y>(weights + j * kPanel * 4, width_);
        Level::template AddTiles<i * panels + j, x, y>();
      });
    });
    prepare();
  }

  template <int panels>
  void Store(Args args, int64_t first, const int32_t* sums) const {
    args.run.dst += first * args.run.dst_step;
    Level::Advance(args, first);
    int64_t i = 0;
    for (; i + 4 <= cuts_.height; i += 4) StorePixels<4, panels>(args, sums + i * panels * kPanel);
    for (; i < cuts_.height; ++i) StorePixels<1, panels>(args, sums + i * panels * kPanel);
  }

  template <int pixels, int panels>
  static void StorePixels(Args& args, const int32_t* sums) {
    Vector sum[pixels][panels];
    for (int i = 0; i < pixels; ++i)
      for (int j = 0; j < panels; ++j)
        std::memcpy(&sum[i][j], sums + (i * panels + j) * kPanel, sizeof(Vector));
    Level::template Store<pixels, panels>(args, sum);
    args.run.dst += pixels * args.run.dst_step;
    Level::Advance(args, pixels);
  }

  const Args& args_;
  const TileCuts cuts_;
  const int64_t width_;  // bytes of a quad of all filters
  int64_t next_lines_;
  const std::byte *next_, *next_end_;
  TilePixels x_[kSumTiles];
  alignas(64) int32_t sums_[kSumTiles * kSumsOfTile];
};

}  // namespace
}  // namespace minim
