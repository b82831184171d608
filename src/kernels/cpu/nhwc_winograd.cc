// NhwcFusedConv, 3x3 of stride 1, by Winograd's minimal filtering (winograd.h): tiles are the
// pixels of a convolution with a 6x6 kernel and stride 4, cut as such (nhwc_cuts.h), and channels
// the lanes of its transforms.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/nhwc_conv.h"
#include "kernels/cpu/winograd.h"

namespace minim {
namespace {

constexpr int64_t kTileBytes = 1 << 20;    // of transformed tiles and their sums together
constexpr int64_t kFilterBytes = 1 << 20;  // more filters come from beyond the L2 cache ...
constexpr int64_t kFewTiles = 24, kManyTiles = 64;  // ... for so many tiles at least
constexpr int64_t kMostTiles = 192;

// In multiply-adds of the direct product.
constexpr WinogradCosts kCosts{.product = 1.1, .in = 200, .out = 300, .weight = 10};

struct Plan {
  RunNhwcFloats run = nullptr;
  const WinogradLevel* level = nullptr;
  NhwcCuts cuts;                  // of tiles
  int64_t height = 1, width = 1;  // of an image of the result
  Activation activation;
  bool residual = false;
  std::vector<int32_t> offsets;              // of a step's transformed tiles
  std::shared_ptr<const std::byte> weights;  // by group of filters, in it tap, channel, filter

  int64_t channels() const { return cuts.w.channels; }
  int64_t filter_floats() const { return kWinogradTaps * channels(); }  // of one
  int64_t tiles() const { return static_cast<int64_t>(offsets.size()); }
  // From one tap to the next; the line more keeps taps out of one set of a cache.
  int64_t input_tap() const { return tiles() * channels() + kPanel; }
  int64_t sum_tap() const { return tiles() * kFilterGroup + kPanel; }
};

struct Scratch {
  float *starts, *zeros;
  std::byte* stages;
  float *inputs, *sums;  // of each thread
};

size_t Carve(const Plan& p, int threads, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->starts = carver.Take<float>(p.cuts.filled());
  to->zeros = carver.Take<float>(kFilterGroup);
  to->stages =
      carver.Take<std::byte>(static_cast<int64_t>(AlignUp(p.cuts.stage_bytes())) * threads);
  to->sums = carver.Take<float>(kWinogradTaps * p.sum_tap() * threads);
  to->inputs = carver.Take<float>(kWinogradTaps * p.input_tap() * threads);
  return carver.bytes();
}

// Calls f with each tile of a piece, in order: its line and its place there.
template <typename F>
void ForEachTile(const Plan& p, const NhwcPiece& piece, F&& f) {
  for (int64_t line = piece.first_line; line < piece.last_line; ++line)
    for (int64_t x = 0; x < p.cuts.w.out[2]; ++x) f(line, x);
}

void TransformTiles(const Plan& p, const NhwcPiece& piece, float* inputs) {
  NhwcWinogradIn in{.row = p.cuts.line_bytes() / static_cast<int64_t>(sizeof(float)),
                    .pixel = p.channels(),
                    .channels = p.channels(),
                    .transformed = inputs,
                    .tap = p.input_tap()};
  ForEachTile(p, piece, [&](int64_t line, int64_t x) {
    in.tile = reinterpret_cast<const float*>(p.cuts.LineAt(piece, line)) +
              x * kWinogradOut * p.channels();
    p.level->nhwc_input(in);
    in.transformed += p.channels();
  });
}

// The sums of a group of filters, all taps of all tiles.
void Multiply(const Plan& p, const Scratch& at, int64_t tiles, int64_t first, int64_t width,
              const float* inputs, float* sums) {
  constexpr int64_t kFirst = 0;  // one segment
  const int64_t tap_bytes = width * p.channels() * static_cast<int64_t>(sizeof(float));
  const std::byte* weights =
      p.weights.get() + first * p.filter_floats() * static_cast<int64_t>(sizeof(float));
  for (int64_t tap = 0; tap < kWinogradTaps; ++tap, weights += tap_bytes) {
    NhwcRun run{.image = reinterpret_cast<const std::byte*>(inputs + tap * p.input_tap()),
                .pixel_step = p.cuts.pixel_bytes,
                .offsets = p.offsets.data(),
                .segments = &kFirst,
                .segment_count = 1,
                .quads = p.channels(),
                .weights = weights,
                .next_weights = weights + (tap + 1 < kWinogradTaps ? tap_bytes : 0),
                .next_bytes = tap + 1 < kWinogradTaps ? tap_bytes : 0,
                .dst = reinterpret_cast<std::byte*>(sums + tap * p.sum_tap()),
                .dst_step = width * static_cast<int64_t>(sizeof(float)),
                .filters = width};
    p.run({run, at.zeros, nullptr, Activation{}.low(), Activation{}.high()}, tiles);
  }
}

void RunPiece(const Plan& p, const KernelArgs& args, const Scratch& at, const NhwcPiece& piece,
              float* inputs, float* sums) {
  const int64_t filters = p.cuts.filters, across = p.cuts.w.out[2], down = p.cuts.w.out[1];
  TransformTiles(p, piece, inputs);
  for (int64_t group = piece.first_group; group < piece.last_group; ++group) {
    const int64_t first = group * kFilterGroup;
    const int64_t width = std::min(kFilterGroup, p.cuts.filled() - first);
    Multiply(p, at, (piece.last_line - piece.first_line) * across, first, width, inputs, sums);
    NhwcWinogradOut out{.sums = sums,
                        .tap = p.sum_tap(),
                        .filters = std::min(width, filters - first),
                        .bias = at.starts + first,
                        .row = p.width * filters,
                        .pixel = filters,
                        .low = p.activation.low(),
                        .high = p.activation.high()};
    ForEachTile(p, piece, [&](int64_t line, int64_t x) {
      const int64_t image = line / down, top = line % down * kWinogradOut, left = x * kWinogradOut;
      const int64_t pixel = (image * p.height + top) * p.width + left;
      out.height = std::min(kWinogradOut, p.height - top);
      out.width = std::min(kWinogradOut, p.width - left);
      out.dst = Out<float>(args, 0) + pixel * filters + first;
      if (p.residual) out.residual = In<float>(args, 3) + pixel * filters + first;
      p.level->nhwc_output(out);
      out.sums += width;
    });
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch at;
  Carve(p, std::max(1, args.threads.threads), static_cast<std::byte*>(args.scratch), &at);
  FillStarts(In<void>(args, 2), DType::f32, p.cuts.filters, p.cuts.filled(), at.starts);
  FillStarts(nullptr, DType::f32, 0, kFilterGroup, at.zeros);
  p.cuts.ForEachPiece(
      args.threads, args.inputs[0], 0, at.stages, [&](const NhwcPiece& piece, int thread) {
        RunPiece(p, args, at, piece, at.inputs + thread * kWinogradTaps * p.input_tap(),
                 at.sums + thread * kWinogradTaps * p.sum_tap());
      });
}

// From the window of the convolution to that of its tiles, whose last ones may reach past it.
Window TilesOf(Window w) {
  for (int i = 1; i < 3; ++i) {
    w.out[i] = (w.out[i] + kWinogradOut - 1) / kWinogradOut;
    w.kernel[i] = kWinogradIn;
    w.stride[i] = kWinogradOut;
    w.end[i] =
        std::max<int64_t>(0, (w.out[i] - 1) * kWinogradOut + kWinogradIn - w.in[i] - w.begin[i]);
  }
  return w;
}

bool Pays(const Plan& p) {
  const double weights = double(p.channels()) * double(p.cuts.filters);
  const double tiles = double(p.cuts.pixels), pixels = double(p.cuts.w.batch * p.height * p.width);
  const double ours =
      kWinogradTaps * weights * (kCosts.product * tiles + kCosts.weight * double(p.cuts.steps())) +
      (kCosts.in * double(p.channels()) + kCosts.out * double(p.cuts.filters)) * tiles;
  const double direct = 9 * weights * (pixels + kCosts.weight);
  return ours < 0.85 * direct;
}

void PackWeights(const Plan& p, const float* filters, float* packed) {
  std::fill_n(packed, p.cuts.filled() * p.filter_floats(), 0.0f);
  for (int64_t f = 0; f < p.cuts.filters; ++f) {
    const int64_t first = f / kFilterGroup * kFilterGroup;
    const int64_t width = std::min(kFilterGroup, p.cuts.filled() - first);
    for (int64_t c = 0; c < p.channels(); ++c) {
      double y[kWinogradIn][kWinogradIn];
      TransformWinogradFilter(filters + (f * p.channels() + c) * 9, y);
      float* dst = packed + first * p.filter_floats() + c * width + f - first;
      for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
        dst[tap * p.channels() * width] =
            static_cast<float>(y[tap / kWinogradIn][tap % kWinogradIn]);
    }
  }
}

Status FillGeometry(const KernelRequest& request, Plan* p) {
  const TensorDesc& w = request.inputs[1];
  MINIM_TRY(const Window window, NhwcWindowOf(request, w.dims));
  if (w.dims[2] != 3 || w.dims[3] != 3) return Unsupported("not a 3x3 kernel");
  if (window.stride[1] * window.stride[2] * window.dilation[1] * window.dilation[2] != 1)
    return Unsupported("strides or dilations");
  p->height = window.out[1];
  p->width = window.out[2];
  const int64_t channels = w.dims[1], filters = w.dims[0];
  const int64_t filter_bytes = kWinogradTaps * filters * channels * 4;
  const int64_t tiles =
      std::clamp(kTileBytes / (kWinogradTaps * 4 * (channels + kFilterGroup)),
                 filter_bytes > kFilterBytes ? kManyTiles : kFewTiles, kMostTiles);
  MINIM_TRY(p->cuts,
            NhwcCutsOf(TilesOf(window), filters, sizeof(float),
                       {tiles * kWinogradOut * kWinogradOut * channels * 4}, request.threads));
  for (size_t i = 0; i < p->cuts.offsets.size(); ++i)
    p->offsets.push_back(static_cast<int32_t>(static_cast<int64_t>(i) * p->cuts.pixel_bytes));
  return {};
}

BindResult Bind(const KernelRequest& request, RunNhwcFloats run, const WinogradLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  Plan p{.run = run, .level = &level, .residual = HasInput(request, 3)};
  const TensorDesc& w = request.inputs[1];
  if (w.constant == nullptr) return Unsupported("filters that are not constant");
  MINIM_TRY(p.activation, ActivationOf(AttributesOf(request)));
  if (!p.activation.clamp()) return Unsupported("an activation that is no clamp");
  MINIM_TRY(FillGeometry(request, &p));
  if (!request.at_any_cost && !Pays(p)) return Unsupported("the direct product costs less");
  p.weights = request.packs->GetOrPack(
      w.ConstantView(), "nhwc winograd",
      p.cuts.filled() * p.filter_floats() * static_cast<int64_t>(sizeof(float)),
      [&](std::byte* blob) {
        PackWeights(p, static_cast<const float*>(w.constant), reinterpret_cast<float*>(blob));
      });
  Scratch none;
  const size_t scratch = Carve(p, std::max(1, request.threads), nullptr, &none);
  return MakeKernel(fmt::format("conv winograd 4x4, channels last, {}", level.name),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {}, {1});
}

}  // namespace

BindResult NhwcWinogradAvx512(const KernelRequest& request) {
  return Bind(request, RunNhwcFloatsAvx512, WinogradLevelAvx512());
}
BindResult NhwcWinogradPortable(const KernelRequest& request) {
  return Bind(request, RunNhwcFloatsPortable, WinogradLevelPortable());
}

}  // namespace minim
