#include "kernels/cpu/recurrent_products.h"

#include <algorithm>
#include <cstring>

namespace minim {
namespace {

constexpr int64_t kTogether = 4;       // panels of one quantized product ...
constexpr int64_t kRowsTogether = 32;  // ... and rows, in whole tiles

GemmArgs GemmOf(const RecurrentPack& pack, const std::byte* packed, const ProductRows& rows,
                const ProductSums& to) {
  GemmArgs args{.m = rows.count,
                .k = rows.depth,
                .a = rows.floats,
                .a_row = rows.step,
                .c = to.dst,
                .c_row = to.dst_row,
                .accumulate = to.bias != nullptr,
                .backwards = to.backwards};
  if (pack.format == WeightFormat::kBf16)
    args.packed_bf16 = reinterpret_cast<const uint16_t*>(packed);
  else
    args.packed = reinterpret_cast<const float*>(packed);
  return args;
}

void StartWithBias(const ProductRows& rows, int64_t columns, const ProductSums& to) {
  for (int64_t row = 0; to.bias != nullptr && row < rows.count; ++row)
    std::copy_n(to.bias, columns, to.dst + row * to.dst_row);
}

DotRows DotsOf(const RecurrentPack& pack, const std::byte* packed, const ProductRows& rows) {
  return {.rows = rows.count,
          .blocks = static_cast<int64_t>(pack.panel_bytes() / (kPanel * kDotBlock)),
          .a = rows.formed,
          .a_row = static_cast<int64_t>(rows.formed_step),
          .packed = packed,
          .a_part = static_cast<int64_t>(rows.part_step),
          .b_part = static_cast<int64_t>(pack.part_bytes())};
}

void MultiplyHalves(const RecurrentPlan& p, const RecurrentPack& pack, const std::byte* packed,
                    int64_t panels, const ProductRows& rows, const ProductSums& to) {
  DotRows dots = DotsOf(pack, packed, rows);
  dots.panels = panels;
  dots.c = to.dst;
  dots.c_row = to.dst_row;
  dots.start = to.bias;
  dots.backwards = to.backwards;
  const bool parts = pack.format == WeightFormat::kParts;
  parts ? p.dots->multiply_parts(dots) : p.dots->multiply_bf16(dots);
}

// Integer sums of rows by some panels, side by side.
void SumBytes(const RecurrentPlan& p, const RecurrentPack& pack, const std::byte* packed,
              int64_t panels, const ProductRows& rows, int32_t* sums) {
  const int64_t n = panels * kPanel;
  if (pack.for_dots()) {
    DotRows dots = DotsOf(pack, packed, rows);
    dots.panels = panels;
    dots.c = sums;
    dots.c_row = n;
    return p.dots->multiply_bytes(dots);
  }
  const auto quads = static_cast<int64_t>(pack.panel_bytes() / (kPanel * 4));
  if (rows.count == 1)
    return p.ints->multiply_row({.a = reinterpret_cast<const int8_t*>(rows.formed),
                                 .packed = reinterpret_cast<const int8_t*>(packed),
                                 .panels = panels,
                                 .quads = quads,
                                 .start = rows.placed ? rows.start[0] : 0,
                                 .c = sums});
  p.ints->multiply_bytes({.m = rows.count,
                          .n = n,
                          .depth = quads,
                          .a = rows.placed,
                          .packed = packed,
                          .row_start = rows.start,
                          .c = sums,
                          .c_row = n});
}

void MultiplyBytes(const RecurrentPlan& p, const RecurrentPack& pack, const std::byte* packed,
                   int64_t panel, int64_t panels, const ProductRows& rows, const ProductSums& to) {
  alignas(64) int32_t sums[kRowsTogether * kTogether * kPanel];
  const int64_t together = rows.count == 1 ? kRowsTogether * kTogether : kTogether;
  for (int64_t i = 0; i < panels; i += together) {
    const int64_t some = std::min(together, panels - i), column = i * kPanel, n = some * kPanel;
    const RequantizeRow scales{pack.Scales(packed) + panel * kPanel + column, true};
    for (int64_t first = 0; first < rows.count; first += kRowsTogether) {
      const int64_t count = std::min(kRowsTogether, rows.count - first);
      SumBytes(p, pack, packed + (panel + i) * pack.panel_bytes(), some,
               rows.Some(first, first + count), sums);
      for (int64_t row = 0; row < count; ++row)
        p.ints->dequantize_sums(sums + row * n, rows.scales[first + row], scales,
                                to.bias ? to.bias + column : nullptr, n,
                                to.dst + (first + row) * to.dst_row + column);
    }
  }
}

void QuantizeRows(const RecurrentPlan& p, const float* src, int64_t step, ProductRows* rows) {
  for (int64_t row = 0; row < rows->count; ++row) {
    auto* bytes = reinterpret_cast<int8_t*>(rows->formed + row * rows->formed_step);
    std::fill(bytes + rows->depth, bytes + rows->formed_step, int8_t{0});
    rows->scales[row] = p.ints->quantize_row(src + row * step, rows->depth, bytes);
    if (rows->placed)
      rows->start[row] = PlaceBytes(*p.ints, bytes, 0, rows->depth, row, rows->count, rows->placed);
  }
}

}  // namespace

ProductRows ProductRows::Some(int64_t first, int64_t last) const {
  ProductRows some = *this;
  some.count = last - first;
  some.floats += first * step;
  some.formed += first * formed_step;
  if (placed) some.placed += first * placed_step;
  some.start += first;
  some.scales += first;
  return some;
}

ProductRows TakeProductRows(const RecurrentPlan& p, const RecurrentPack& pack, int64_t count,
                            Carver& carver) {
  const bool bytes = pack.format == WeightFormat::kS8, formed = bytes || pack.for_dots();
  const bool placed = bytes && !pack.for_dots() && (count > 1 || p.ints->place_row);
  ProductRows rows{.count = count, .depth = pack.depth};
  const size_t width = pack.depth * (bytes ? sizeof(int8_t) : sizeof(uint16_t));
  rows.formed_step = (width + kDotBlock - 1) / kDotBlock * kDotBlock;
  rows.placed_step = PackedABytes(*p.ints, IntForm::kBytes, 1, pack.depth);
  rows.part_step = count * rows.formed_step;
  rows.formed = carver.Take<std::byte>(formed ? pack.parts() * rows.part_step : 0);
  rows.placed = carver.Take<std::byte>(placed ? count * rows.placed_step : 0);
  rows.start = carver.Take<int32_t>(bytes ? count : 0);
  if (!placed) rows.placed = nullptr;
  rows.scales = carver.Take<float>(bytes ? count : 0);
  return rows;
}

void FormRows(const RecurrentPlan& p, const RecurrentPack& pack, const float* src, int64_t step,
              ProductRows* rows) {
  rows->floats = src;
  rows->step = step;
  if (pack.format == WeightFormat::kS8) return QuantizeRows(p, src, step, rows);
  if (!pack.for_dots()) return;
  const size_t width = rows->depth * sizeof(uint16_t);
  for (int64_t row = 0; row < rows->count; ++row) {
    std::byte* dst = rows->formed + row * rows->formed_step;
    for (int64_t part = 0; part < pack.parts(); ++part)
      std::memset(dst + part * rows->part_step + width, 0, rows->formed_step - width);
    auto* halves = reinterpret_cast<uint16_t*>(dst);
    if (pack.format == WeightFormat::kParts)
      p.dots->split(src + row * step, rows->depth, rows->part_step / sizeof(uint16_t), halves);
    else
      p.dots->round(src + row * step, rows->depth, halves);
  }
}

void MultiplyRows(const RecurrentPlan& p, const RecurrentPack& pack, const std::byte* packed,
                  int64_t panel, int64_t panels, const ProductRows& rows, const ProductSums& to) {
  if (pack.format == WeightFormat::kS8)
    return MultiplyBytes(p, pack, packed, panel, panels, rows, to);
  packed += panel * pack.panel_bytes();
  if (pack.for_dots()) return MultiplyHalves(p, pack, packed, panels, rows, to);
  StartWithBias(rows, panels * kPanel, to);
  GemmArgs args = GemmOf(pack, packed, rows, to);
  args.n = panels * kPanel;
  p.gemm->multiply(args);
}

void ParallelMultiplyRows(const RecurrentPlan& p, const RecurrentPack& pack,
                          const std::byte* packed, const ProductRows& rows, const ProductSums& to,
                          const ThreadBudget& threads) {
  const int64_t panels = pack.panels();
  if (pack.format == WeightFormat::kF32 || pack.format == WeightFormat::kBf16) {
    StartWithBias(rows, panels * kPanel, to);
    GemmArgs args = GemmOf(pack, packed, rows, to);
    args.n = panels * kPanel;
    return ParallelGemm(*p.gemm, args, threads);
  }
  const int64_t groups = (panels + kTogether - 1) / kTogether;
  const int64_t work = rows.count * pack.depth * kTogether * kPanel;
  const int64_t worth = p.dots ? 1000000 : 100000;  // of a thread
  threads.ParallelRange(
      groups, worth / std::max<int64_t>(1, work) + 1, [&](int64_t first, int64_t last) {
        const int64_t panel = first * kTogether, column = panel * kPanel;
        MultiplyRows(p, pack, packed, panel, std::min(last * kTogether, panels) - panel, rows,
                     {to.bias + column, to.dst + column, to.dst_row});
        ReleaseProducts(p);
      });
}

void ReleaseProducts(const RecurrentPlan& p) {
  if (p.dots && p.dots->release) p.dots->release();
}

}  // namespace minim
