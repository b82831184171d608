// FP32 3x3 convolution of stride 1 by Winograd's minimal filtering (winograd.h), where it costs
// less than the direct product; filters are transformed once.
#include "kernels/cpu/winograd.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

struct Plan {
  WinogradTiling tiling;
  const WinogradLevel* level = nullptr;
  const FilterLevel* filter = nullptr;
  const GemmLevel* finisher = nullptr;  // of an activation that is no clamp
  Activation activation;
  std::shared_ptr<const std::byte> filters;

  int64_t filter_tap() const { return PackedFilterFloats(tiling.m, tiling.planes); }
};

void Multiply(const Plan& p, const KernelArgs& args, const WinogradUnit& u,
              const WinogradScratch& at) {
  const WinogradTiling& t = p.tiling;
  const auto* filters = reinterpret_cast<const float*>(p.filters.get());
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
  WinogradTiles out{.tap = t.sum_tap(),
                    .activation = p.activation,
                    .finisher = p.finisher,
                    .at = {.row = t.w.out[2], .height = t.height, .width = t.width}};
  for (int64_t r = 0; r < u.rows; ++r) {
    const int64_t filter = u.group * t.m + u.row + r;
    const int64_t at_plane = (u.image * t.groups * t.m + filter) * t.plane_size();
    out.plane = Out<float>(args, 0) + at_plane;
    out.residual = residual ? residual + at_plane : nullptr;
    out.bias = bias ? bias[filter] : 0;
    for (int64_t tile = 0; tile < u.tiles; tile += kPanel) {
      out.sums = at.sums + r * t.sum_row() + tile;
      out.at.first = u.first * kPanel + tile;
      out.at.count = std::min(kPanel, u.tiles - tile);
      p.level->output(out);
    }
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  WinogradRun(p.tiling, *p.filter, p.level->input)
      .Run(In<float>(args, 0), p.tiling.w.batch, args.threads, args.scratch,
           [&](const WinogradUnit& u, const WinogradScratch& at) { Multiply(p, args, u, at); });
}

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

// G g G^T of a 3x3 filter.
void TransformFilter(const float* g, double (&y)[kWinogradIn][kWinogradIn]) {
  double columns[3][kWinogradIn];
  for (int c = 0; c < 3; ++c) TransformLine(g[c], g[3 + c], g[6 + c], columns[c]);
  for (int64_t r = 0; r < kWinogradIn; ++r)
    TransformLine(columns[0][r], columns[1][r], columns[2][r], y[r]);
}

// Every tap's m x channels filters, packed.
void PackTransformed(const Plan& p, const float* filters, float* packed) {
  const WinogradTiling& t = p.tiling;
  std::vector<float> taps(kWinogradTaps * 6 * t.planes);
  for (int64_t g = 0; g < t.groups; ++g, packed += kWinogradTaps * p.filter_tap()) {
    for (int64_t row = 0; row < t.m;) {
      const int64_t rows = TileRows(t.m - row), matrix = rows * t.planes;
      for (int64_t i = 0; i < matrix; ++i, filters += 9) {
        double y[kWinogradIn][kWinogradIn];
        TransformFilter(filters, y);
        for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
          taps[tap * matrix + i] = static_cast<float>(y[tap / kWinogradIn][tap % kWinogradIn]);
      }
      for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
        PackFilters(taps.data() + tap * matrix, rows, t.planes,
                    packed + tap * p.filter_tap() + row * t.planes);
      row += rows;
    }
  }
}

constexpr WinogradCosts kCosts{.in = 320, .out = 530, .pixel = 20, .weight = 10};

BindResult Bind(const KernelRequest& request, const WinogradLevel& level, const FilterLevel& filter,
                const GemmLevel& gemm) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  if (request.inputs[1].constant == nullptr) return Unsupported("filters are not constant");
  Plan p{.level = &level, .filter = &filter};
  MINIM_TRY(p.tiling, TilingOf(request, request.inputs[1].dims, 1, kCosts));
  MINIM_TRY(p.activation, ActivationOf(AttributesOf(request)));
  if (!p.activation.clamp()) p.finisher = &gemm;
  const auto* source = static_cast<const float*>(request.inputs[1].constant);
  p.filters = request.packs->GetOrPack(
      request.inputs[1].ConstantView(), fmt::format("winograd.{}", p.tiling.groups),
      p.tiling.groups * kWinogradTaps * p.filter_tap() * sizeof(float),
      [&](std::byte* to) { PackTransformed(p, source, reinterpret_cast<float*>(to)); });
  const size_t scratch = p.tiling.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("conv winograd 4x4 {}", level.name),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult WinogradAvx2(const KernelRequest& request) {
  return Bind(request, WinogradLevelAvx2(), FilterAvx2(), GemmAvx2());
}
BindResult WinogradPortable(const KernelRequest& request) {
  return Bind(request, WinogradLevelPortable(), FilterPortable(), GemmPortable());
}

}  // namespace minim
