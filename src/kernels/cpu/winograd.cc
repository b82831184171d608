// FP32 3x3 convolution of stride 1 by Winograd's minimal filtering (winograd.h), where it costs
// less than the direct product; constant filters are transformed once, others in every run.
#include "kernels/cpu/winograd.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

// G g: the values of the polynomial g at the points, each over the product of its distances.
void TransformLine(double g0, double g1, double g2, double (&y)[kWinogradIn]) {
  constexpr double a = kWinogradPoints[0], b = kWinogradPoints[1], a2 = a * a, b2 = b * b;
  constexpr double of_zero = 1 / (a2 * b2), of_a = 1 / (2 * a2 * (a2 - b2)),
                   of_b = 1 / (2 * b2 * (b2 - a2));
  const double even_a = of_a * (g0 + a2 * g2), odd_a = of_a * a * g1;
  const double even_b = of_b * (g0 + b2 * g2), odd_b = of_b * b * g1;
  y[0] = of_zero * g0;
  y[1] = even_a + odd_a;
  y[2] = even_a - odd_a;
  y[3] = even_b + odd_b;
  y[4] = even_b - odd_b;
  y[5] = g2;
}

struct Plan {
  WinogradTiling tiling;
  const WinogradLevel* level = nullptr;
  const FilterLevel* filter = nullptr;
  const GemmLevel* finisher = nullptr;  // of an activation that is no clamp
  Activation activation;
  std::shared_ptr<const std::byte> filters;  // transformed, if constant

  int64_t filter_tap() const { return PackedFilterFloats(tiling.m, tiling.planes); }
  size_t filter_bytes() const {
    return AlignUp(tiling.groups * kWinogradTaps * filter_tap() * sizeof(float));
  }
  // What TransformRows needs, or a unit of the product: one after the other.
  size_t tap_bytes() const { return AlignUp(kWinogradTaps * 6 * tiling.planes * sizeof(float)); }
  size_t piece_bytes() const {
    return filters ? tiling.piece_bytes() : std::max(tiling.piece_bytes(), tap_bytes());
  }
};

void Multiply(const Plan& p, const KernelArgs& args, const float* filters, const WinogradUnit& u,
              const WinogradScratch& at) {
  const WinogradTiling& t = p.tiling;
  for (int64_t tap = 0; tap < kWinogradTaps; ++tap) {
    p.filter->multiply(
        {.m = u.rows,
         .n = u.tiles,
         .k = t.planes,
         .a = filters + (u.group * kWinogradTaps + tap) * p.filter_tap() + u.row * t.planes,
         .b = at.input + tap * t.input_tap(),
         .b_panel = t.planes * kPanel,
         .c = at.sums + tap * t.sum_tap(),
         .c_row = t.sum_row()});
  }
  const float *bias = In<float>(args, 2), *residual = In<float>(args, 3);
  WinogradTiles out{.tap = t.sum_tap(), .activation = p.activation, .finisher = p.finisher};
  for (int64_t r = 0; r < u.rows; ++r) {
    const int64_t filter = u.group * t.m + u.row + r;
    out.bias = bias ? bias[filter] : 0;
    ForEachTiles(t, u, [&](int64_t image, int64_t tile, const WinogradPlane& plane) {
      const int64_t at_plane = (image * t.groups * t.m + filter) * t.plane_size();
      out.plane = Out<float>(args, 0) + at_plane;
      out.residual = residual ? residual + at_plane : nullptr;
      out.sums = at.sums + r * t.sum_row() + tile;
      out.at = plane;
      p.level->output(out);
    });
  }
}

// Rows [row, end) of one group's m x channels filters, for every tap, packed. `taps`: tap_bytes().
void TransformRows(const Plan& p, const float* filters, int64_t row, int64_t end, float* taps,
                   float* packed) {
  const WinogradTiling& t = p.tiling;
  while (row < end) {
    const int64_t rows = TileRows(t.m - row), matrix = rows * t.planes;
    for (int64_t i = 0; i < matrix; ++i) {
      double y[kWinogradIn][kWinogradIn];
      TransformWinogradFilter(filters + (row * t.planes + i) * 9, y);
      for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
        taps[tap * matrix + i] = static_cast<float>(y[tap / kWinogradIn][tap % kWinogradIn]);
    }
    for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
      PackFilterTile(taps + tap * matrix, rows, t.planes,
                     packed + tap * p.filter_tap() + row * t.planes);
    row += rows;
  }
}

// All filters; a thread's part begins with whole tiles of rows.
void TransformFilters(const Plan& p, const float* filters, const ThreadBudget& threads,
                      std::byte* scratch, float* packed) {
  const WinogradTiling& t = p.tiling;
  threads.ParallelFor(threads.threads, [&](int i) {
    auto* taps = reinterpret_cast<float*>(scratch + i * p.piece_bytes());
    for (int64_t g = 0; g < t.groups; ++g)
      TransformRows(p, filters + g * t.m * t.planes * 9, FilterPart(t.m, threads.threads, i),
                    FilterPart(t.m, threads.threads, i + 1), taps,
                    packed + g * kWinogradTaps * p.filter_tap());
  });
}

void Run(const Plan& p, const KernelArgs& args) {
  auto* scratch = static_cast<std::byte*>(args.scratch);
  const auto* filters = reinterpret_cast<const float*>(p.filters.get());
  if (filters == nullptr) {
    auto* transformed = reinterpret_cast<float*>(scratch);
    scratch += p.filter_bytes();
    TransformFilters(p, In<float>(args, 1), args.threads, scratch, transformed);
    filters = transformed;
  }
  WinogradRun(p.tiling, *p.filter, p.level->input, p.piece_bytes())
      .Run(In<float>(args, 0), p.tiling.w.batch, args.threads, scratch,
           [&](const WinogradUnit& u, const WinogradScratch& at) {
             Multiply(p, args, filters, u, at);
           });
}

constexpr WinogradCosts kCosts{.in = 320, .out = 530, .pixel = 20, .weight = 10};
constexpr double kTransformCost = 4000;  // of a filter

void PackConstant(const KernelRequest& request, Plan* p) {
  const auto* source = static_cast<const float*>(request.inputs[1].constant);
  std::vector<std::byte> scratch(p->tap_bytes());
  p->filters = request.packs->GetOrPack(
      request.inputs[1].ConstantView(), fmt::format("winograd.{}", p->tiling.groups),
      p->filter_bytes(), [&](std::byte* to) {
        TransformFilters(*p, source, {}, scratch.data(), reinterpret_cast<float*>(to));
      });
}

BindResult Bind(const KernelRequest& request, const WinogradLevel& level, const FilterLevel& filter,
                const GemmLevel& gemm) {
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  Plan p{.level = &level, .filter = &filter};
  WinogradCosts costs = kCosts;
  const bool constant = request.inputs[1].constant != nullptr;
  if (!constant) costs.filter = kTransformCost;
  MINIM_TRY(p.tiling, TilingOf(request, request.inputs[1].dims, 1, costs));
  MINIM_TRY(p.activation, ActivationOf(AttributesOf(request)));
  if (!p.activation.clamp()) p.finisher = &gemm;
  if (constant) PackConstant(request, &p);
  const size_t scratch =
      (constant ? 0 : p.filter_bytes()) + p.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(fmt::format("conv winograd 4x4 {}", level.name),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {},
                    {constant ? 1 : -1});
}

}  // namespace

void TransformWinogradFilter(const float* g, double (&y)[kWinogradIn][kWinogradIn]) {
  double columns[3][kWinogradIn];
  for (int c = 0; c < 3; ++c) TransformLine(g[c], g[3 + c], g[6 + c], columns[c]);
  for (int64_t r = 0; r < kWinogradIn; ++r)
    TransformLine(columns[0][r], columns[1][r], columns[2][r], y[r]);
}

BindResult WinogradAvx512(const KernelRequest& request) {
  return Bind(request, WinogradLevelAvx512(), FilterAvx512(), GemmAvx512());
}
BindResult WinogradAvx2(const KernelRequest& request) {
  return Bind(request, WinogradLevelAvx2(), FilterAvx2(), GemmAvx2());
}
BindResult WinogradPortable(const KernelRequest& request) {
  return Bind(request, WinogradLevelPortable(), FilterPortable(), GemmPortable());
}

}  // namespace minim
