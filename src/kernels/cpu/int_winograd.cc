// QLinearConv with 3x3 filters of stride 1 by Winograd's minimal filtering (int_winograd.h): the
// same bits as the direct product with a quarter of the multiplications, where that costs less.
#include "kernels/cpu/int_winograd.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/int_conv_parts.h"
#include "kernels/cpu/int_image.h"

namespace minim {
namespace {

constexpr IntForm kForm = IntForm::kPairs;

struct Plan {
  WinogradTiling tiling;
  IntConvParts parts;
  WordImages images;
  int64_t together = 1;  // images put into words at a time
  const IntWinogradLevel* level = nullptr;
  const FilterLevel* filter = nullptr;
  const IntLevel* ints = nullptr;
  std::shared_ptr<const std::byte> filters;

  int64_t count() const { return tiling.groups * tiling.m; }
  int64_t filter_tap() const { return tiling.m * tiling.planes; }  // words
};

struct Scratch {
  float *image, *scales;
  std::byte* pieces;
};

size_t Carve(const Plan& p, int threads, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->image = carver.Take<float>(p.together * p.images.words_of_one());
  to->scales = carver.Take<float>(std::max<int64_t>(1, p.parts.w_scales));
  to->pieces = carver.Take<std::byte>(p.tiling.piece_bytes() * threads);
  return carver.bytes();
}

// One panel of tiles of one filter, finished.
void PutTiles(const Plan& p, const RequantizeRow& row, const int32_t* sums, int32_t bias,
              const WinogradPlane& at, std::byte* plane) {
  constexpr int64_t kRow = kPanel * kWinogradOut;
  alignas(64) int32_t pixels[kWinogradOut * kRow];
  alignas(64) std::byte bytes[kWinogradOut * kRow];
  p.level->output(sums, p.tiling.sum_tap(), bias, pixels);
  RequantizeChannel(*p.ints, row, kWinogradOut * kRow, pixels, p.parts.y_dtype, bytes);
  ForEachTileRow(at, [&](int64_t r, int64_t tile, int64_t pixel, int64_t count) {
    std::copy_n(bytes + r * kRow + tile * kWinogradOut, count, plane + pixel);
  });
}

void Multiply(const Plan& p, const KernelArgs& args, const float* scales, int64_t first_image,
              const WinogradUnit& u, const WinogradScratch& at) {
  const WinogradTiling& t = p.tiling;
  const auto* filters = reinterpret_cast<const int32_t*>(p.filters.get());
  auto* sums = reinterpret_cast<int32_t*>(at.sums);
  for (int64_t tap = 0; tap < kWinogradTaps; ++tap) {
    p.ints->multiply_pairs(
        {.m = u.rows,
         .n = u.tiles,
         .depth = t.planes,
         .a = filters + (u.group * kWinogradTaps + tap) * p.filter_tap() + u.row * t.planes,
         .packed = at.input + tap * t.input_tap(),
         .c = sums + tap * t.sum_tap(),
         .c_row = t.sum_row()});
  }
  for (int64_t r = 0; r < u.rows; ++r) {
    const int64_t filter = u.group * t.m + u.row + r;
    const RequantizeRow row = p.parts.RowOf(args, scales, filter);
    ForEachTiles(t, u, [&](int64_t image, int64_t tile, const WinogradPlane& at_plane) {
      std::byte* plane =
          Out<std::byte>(args, 0) + ((first_image + image) * p.count() + filter) * t.plane_size();
      PutTiles(p, row, sums + r * t.sum_row() + tile, p.parts.BiasOf(args, filter), at_plane,
               plane);
    });
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch scratch;
  Carve(p, 0, static_cast<std::byte*>(args.scratch), &scratch);
  p.parts.FillScales(args, scratch.scales);
  const WinogradRun run(p.tiling, *p.filter, p.level->input, p.tiling.piece_bytes());
  for (int64_t image = 0; image < p.tiling.w.batch; image += p.together) {
    const int64_t images = std::min(p.together, p.tiling.w.batch - image);
    p.images.Fill(*p.ints, In<uint8_t>(args, 0) + image * p.images.size_of_one(), images,
                  p.parts.ZeroOfImage(args), args.threads, scratch.image);
    run.Run(scratch.image, images, args.threads, scratch.pieces,
            [&](const WinogradUnit& u, const WinogradScratch& at) {
              Multiply(p, args, scratch.scales, image, u, at);
            });
  }
}

// 4, 6, 6, 24, 24, 1 times the rows of G.
void TransformLine(int32_t g0, int32_t g1, int32_t g2, int32_t (&y)[kWinogradIn]) {
  y[0] = g0;
  y[1] = -(g0 + g1 + g2);
  y[2] = -(g0 - g1 + g2);
  y[3] = g0 + 2 * g1 + 4 * g2;
  y[4] = g0 - 2 * g1 + 4 * g2;
  y[5] = g2;
}

class Filters {
 public:
  Filters(const Plan& p, const void* values, const ZeroPoints& zeros)
      : p_(p), zeros_(zeros), values_{values, p.parts.w_dtype, p.count() * p.images.channels * 9} {}

  /// Whether no sum of products with values in [low, high] can reach the limit.
  bool Fit(int64_t low, int64_t high) const {
    for (int64_t filter = 0; filter < p_.count(); ++filter) {
      int64_t most = 0, least = 0;
      for (int64_t i = 0; i < p_.images.channels * 9; ++i) {
        const int64_t w = At(filter, i / 9, i % 9);
        most += std::max(w * low, w * high);
        least += std::min(w * low, w * high);
      }
      if (std::max(most, -least) >= kIntWinogradLimit) return false;
    }
    return true;
  }

  /// Every tap's filters as the left operand of pairs.
  void Pack(std::byte* dst) const {
    const int64_t planes = p_.tiling.planes;
    std::vector<int16_t> taps(kWinogradTaps * planes * 2);
    for (int64_t filter = 0; filter < p_.count(); ++filter) {
      for (int64_t c = 0; c < planes * 2; ++c) {
        int32_t y[kWinogradIn][kWinogradIn];
        Transform(filter, c, y);
        for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
          taps[tap * planes * 2 + c] =
              static_cast<int16_t>(y[tap / kWinogradIn][tap % kWinogradIn]);
      }
      auto* group =
          reinterpret_cast<uint32_t*>(dst) + filter / p_.tiling.m * kWinogradTaps * p_.filter_tap();
      for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
        PlacePairs(taps.data() + tap * planes * 2, planes, filter % p_.tiling.m, p_.tiling.m,
                   group + tap * p_.filter_tap());
    }
  }

 private:
  int32_t At(int64_t filter, int64_t channel, int64_t tap) const {
    if (channel >= p_.images.channels) return 0;
    return values_.At((filter * p_.images.channels + channel) * 9 + tap) - zeros_.At(filter);
  }

  void Transform(int64_t filter, int64_t channel, int32_t (&y)[kWinogradIn][kWinogradIn]) const {
    int32_t columns[3][kWinogradIn];
    for (int c = 0; c < 3; ++c)
      TransformLine(At(filter, channel, c), At(filter, channel, 3 + c), At(filter, channel, 6 + c),
                    columns[c]);
    for (int64_t r = 0; r < kWinogradIn; ++r)
      TransformLine(columns[0][r], columns[1][r], columns[2][r], y[r]);
  }

  const Plan& p_;
  ZeroPoints zeros_, values_;
};

constexpr WinogradCosts kCosts{.product = 1.3, .in = 160, .out = 800, .pixel = 20, .weight = 10};

BindResult Bind(const KernelRequest& request, const IntWinogradLevel& level,
                const FilterLevel& filter, const IntLevel& ints) {
  const TensorDesc& w = request.inputs[kQLinearConvRoles.w];
  if (w.constant == nullptr) return Unsupported("filters are not constant");
  Plan p{.level = &level, .filter = &filter, .ints = &ints};
  MINIM_TRY(p.parts, IntConvPartsOf(request, kQLinearConvRoles));
  MINIM_TRY(p.tiling, TilingOf(request, w.dims, PerWord(kForm), kCosts));
  p.images = {p.parts.x_dtype, kForm, p.tiling.groups, w.dims[1], p.tiling.w.in_size()};
  p.together = p.images.Together(p.tiling.w.batch);
  const std::optional<ZeroPoints> zeros = p.parts.KnownZerosOfWeights(request);
  if (!zeros || !AreMiddle(*zeros)) return Unsupported("filters are no signed bytes");
  const Filters filters(p, w.constant, *zeros);
  const void* zero = request.inputs[kQLinearConvRoles.x_zero].constant;
  const int64_t low = p.parts.x_dtype == DType::u8 ? 0 : -128, high = low + 255;
  const int64_t at = ZeroPoints{zero, p.parts.x_dtype, 1}.At(0);
  if (zero ? !filters.Fit(low - at, high - at) : !filters.Fit(-255, 255))
    return Unsupported("sums of products may leave 26 bits");
  p.filters =
      request.packs->GetOrPack(w.ConstantView(), fmt::format("int winograd.{}", p.tiling.groups),
                               p.tiling.groups * kWinogradTaps * p.filter_tap() * sizeof(int32_t),
                               [&](std::byte* to) { filters.Pack(to); });
  Scratch none;
  const size_t scratch = Carve(p, std::max(1, request.threads), nullptr, &none);
  return MakeKernel(
      fmt::format("int8 conv winograd 4x4 {}", level.name),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult QLinearWinogradAvx2(const KernelRequest& request) {
  return Bind(request, IntWinogradAvx2(), FilterAvx2(), IntAvx2());
}
BindResult QLinearWinogradPortable(const KernelRequest& request) {
  return Bind(request, IntWinogradPortable(), FilterPortable(), IntPortable());
}

}  // namespace minim
