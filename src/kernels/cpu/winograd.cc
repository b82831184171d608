// FP32 3x3 convolution of stride 1 by Winograd's minimal filtering (winograd.h), where it costs
// less than the direct product. Tiles are the pixels of a convolution with a 6x6 kernel and stride
// 4: they are staged and packed as such, transformed, and multiplied by filters transformed once.
#include "kernels/cpu/winograd.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/filter_gemm.h"

namespace minim {
namespace {

constexpr int64_t kMostPanels = 8;         // of tiles, transformed together ...
constexpr int64_t kTileBytes = 1 << 20;    // ... or so many bytes of them and of their sums ...
constexpr int64_t kFilterBytes = 4 << 20;  // ... but more where so many are read for each lot
constexpr int64_t kRows = 96;              // of filters whose sums are held together
constexpr int64_t kTileFloats = kWinogradTaps * kPanel;

struct Plan {
  Window w;                       // of tiles
  int64_t height = 1, width = 1;  // of an output plane
  const WinogradLevel* level = nullptr;
  const FilterLevel* filter = nullptr;
  const GemmLevel* finisher = nullptr;      // of an activation that is no clamp
  int64_t groups = 1, m = 1, channels = 1;  // m, channels: per group
  ImageStage stage;                         // of one channel
  int64_t panels = 1;                       // of one image and group
  int64_t unit_panels = 1;                  // a unit of work: so many panels ...
  int64_t parts = 1;                        // ... of one of so many parts of the filters
  Activation activation;
  std::shared_ptr<const std::byte> filters;
  int64_t stage_floats = 0;

  int64_t blocks() const { return (panels + unit_panels - 1) / unit_panels; }
  int64_t units() const { return w.batch * groups * parts * blocks(); }
  // From one tap to the next; the line more keeps taps out of one set of a cache.
  int64_t input_tap() const { return unit_panels * channels * kPanel + kPanel; }
  int64_t sum_row() const { return unit_panels * kPanel; }
  int64_t sum_tap() const { return std::min(m, kRows + 12) * sum_row() + kPanel; }
  int64_t filter_tap() const { return PackedFilterFloats(m, channels); }
  size_t piece_bytes() const {
    const int64_t floats =
        stage_floats + kTileFloats + kPanel + kWinogradTaps * (input_tap() + sum_tap());
    return AlignUp(floats * sizeof(float));
  }
};

struct Unit {
  int64_t image, group, first, last;  // panels
  int64_t row, rows;                  // of the filters
};

// What one thread writes to.
struct Scratch {
  float *tiles, *stage, *input, *sums;
};

void TransformInput(const Plan& p, const KernelArgs& args, const Unit& u, const Scratch& to) {
  const int64_t width = p.w.out[2], plane = p.w.in_size();
  const int64_t first_row = u.first * kPanel / width,
                last_row = (std::min(u.last * kPanel, p.w.out_size()) + width - 1) / width;
  const float* image = In<float>(args, 0) + (u.image * p.groups + u.group) * p.channels * plane;
  StagedPanel panels[kMostPanels];
  for (int64_t i = u.first; i < u.last; ++i) {
    panels[i - u.first] = CutPanel(p.w, p.stage, i, first_row);
    panels[i - u.first].stage = to.stage;
    panels[i - u.first].channels = 1;
  }
  for (int64_t c = 0; c < p.channels; ++c) {
    p.stage.Fill(image + c * plane, first_row, last_row, 0, to.stage);
    for (int64_t i = 0; i < u.last - u.first; ++i) {
      p.filter->pack(panels[i], to.tiles);
      p.level->input(to.tiles, to.input + (i * p.channels + c) * kPanel, p.input_tap());
    }
  }
}

// Rows [row, row + rows) of the group's filters.
void MultiplyRows(const Plan& p, const KernelArgs& args, const Unit& u, int64_t row, int64_t rows,
                  const Scratch& at) {
  const auto* filters = reinterpret_cast<const float*>(p.filters.get());
  const int64_t tiles = std::min(u.last * kPanel, p.w.out_size()) - u.first * kPanel;
  for (int64_t tap = 0; tap < kWinogradTaps; ++tap) {
    p.filter->multiply(
        {.m = rows,
         .n = tiles,
         .k = p.channels,
         .a = filters + (u.group * kWinogradTaps + tap) * p.filter_tap() + row * p.channels,
         .b = at.input + tap * p.input_tap(),
         .b_panel = p.channels * kPanel,
         .c = at.sums + tap * p.sum_tap(),
         .c_row = p.sum_row()});
  }
  const float *bias = In<float>(args, 2), *residual = In<float>(args, 3);
  WinogradTiles out{.tap = p.sum_tap(),
                    .activation = p.activation,
                    .finisher = p.finisher,
                    .height = p.height,
                    .width = p.width,
                    .row = p.w.out[2]};
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t filter = u.group * p.m + row + r;
    const int64_t at_plane = (u.image * p.groups * p.m + filter) * p.height * p.width;
    out.plane = Out<float>(args, 0) + at_plane;
    out.residual = residual ? residual + at_plane : nullptr;
    out.bias = bias ? bias[filter] : 0;
    for (int64_t tile = 0; tile < tiles; tile += kPanel) {
      out.sums = at.sums + r * p.sum_row() + tile;
      out.first_tile = u.first * kPanel + tile;
      out.count = std::min(kPanel, tiles - tile);
      p.level->output(out);
    }
  }
}

Unit UnitAt(const Plan& p, int64_t index) {
  const int64_t blocks = p.blocks();
  Unit u{};
  u.image = index / (blocks * p.parts * p.groups);
  u.group = index / (blocks * p.parts) % p.groups;
  u.first = index % blocks * p.unit_panels;
  u.last = std::min(p.panels, u.first + p.unit_panels);
  u.row = FilterPart(p.m, p.parts, index / blocks % p.parts);
  u.rows = FilterPart(p.m, p.parts, index / blocks % p.parts + 1) - u.row;
  return u;
}

void RunUnit(const Plan& p, const KernelArgs& args, const Unit& u, const Scratch& scratch) {
  TransformInput(p, args, u, scratch);
  for (int64_t row = u.row; row < u.row + u.rows;) {
    // Whole tiles of filters, as they are packed: the last of them are cut evenly.
    const int64_t left = u.row + u.rows - row, rows = left < kRows + 12 ? left : kRows;
    MultiplyRows(p, args, u, row, rows, scratch);
    row += rows;
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  const int64_t units = p.units();
  const int pieces = static_cast<int>(std::min<int64_t>(units, args.threads.threads));
  args.threads.ParallelFor(pieces, [&](int i) {
    Scratch scratch{};
    scratch.tiles =
        reinterpret_cast<float*>(static_cast<std::byte*>(args.scratch) + i * p.piece_bytes());
    scratch.stage = scratch.tiles + kTileFloats + kPanel;
    scratch.input = scratch.stage + p.stage_floats;
    scratch.sums = scratch.input + kWinogradTaps * p.input_tap();
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
      RunUnit(p, args, UnitAt(p, unit), scratch);
  });
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
  std::vector<float> taps(kWinogradTaps * 6 * p.channels);
  for (int64_t g = 0; g < p.groups; ++g, packed += kWinogradTaps * p.filter_tap()) {
    for (int64_t row = 0; row < p.m;) {
      const int64_t rows = TileRows(p.m - row), matrix = rows * p.channels;
      for (int64_t i = 0; i < matrix; ++i, filters += 9) {
        double y[kWinogradIn][kWinogradIn];
        TransformFilter(filters, y);
        for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
          taps[tap * matrix + i] = static_cast<float>(y[tap / kWinogradIn][tap % kWinogradIn]);
      }
      for (int64_t tap = 0; tap < kWinogradTaps; ++tap)
        PackFilters(taps.data() + tap * matrix, rows, p.channels,
                    packed + tap * p.filter_tap() + row * p.channels);
      row += rows;
    }
  }
}

// In multiply-adds: products, transforms, and the bytes of the filters.
bool Pays(const Plan& p) {
  constexpr double kIn = 320, kOut = 530, kPixel = 20, kWeight = 10;
  const double filters = double(p.m) * p.channels, images = double(p.w.batch);
  const int64_t rest = p.w.out_size() % kPanel;
  const double tiles = images * double(p.w.out_size() - rest + (rest > 4 ? kPanel : 2 * rest));
  const double pixels = images * double(p.height) * p.width;
  const double ours =
      kWinogradTaps * filters * (tiles + kWeight) + (kIn * p.channels + kOut * p.m) * tiles;
  const double direct = 9 * filters * (pixels + kWeight) + kPixel * p.channels * pixels;
  return ours < 0.85 * direct;
}

void CutWork(Plan& p, int threads) {
  p.panels = PanelsOf(p.w.out_size());
  const int64_t bytes = kTileFloats * 4 * (p.channels + std::min(p.m, kRows));
  const bool heavy = kWinogradTaps * p.filter_tap() * 4 > kFilterBytes;
  const int64_t most = std::clamp<int64_t>(kTileBytes / bytes, heavy ? 4 : 2, kMostPanels);
  const int64_t images = p.w.batch * p.groups;
  int64_t blocks = (p.panels + most - 1) / most;
  if (images % threads != 0 && images < 4 * threads) {
    if (p.panels >= 4 * threads)
      blocks = (blocks + threads - 1) / threads * threads;
    else if (p.m >= 12 * threads)
      p.parts = threads;
  }
  p.unit_panels = (p.panels + blocks - 1) / blocks;
  const int64_t rows =
      std::min(p.w.out[1], (p.unit_panels * kPanel + p.w.out[2] - 2) / p.w.out[2] + 1);
  p.stage_floats = p.stage.FloatsFor(1, rows);
}

// From the window of the convolution to that of its tiles.
void TileWindow(Plan& p) {
  p.height = p.w.out[1];
  p.width = p.w.out[2];
  for (int i = 1; i < 3; ++i) {
    p.w.out[i] = (p.w.out[i] + kWinogradOut - 1) / kWinogradOut;
    p.w.kernel[i] = kWinogradIn;
    p.w.stride[i] = kWinogradOut;
  }
}

BindResult Bind(const KernelRequest& request, const WinogradLevel& level, const FilterLevel& filter,
                const GemmLevel& gemm) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const Attributes& attributes = AttributesOf(request);
  const Dims &x = request.inputs[0].dims, &weights = request.inputs[1].dims;
  if (x.rank() != 4 || weights[2] != 3 || weights[3] != 3) return Unsupported("not a 3x3 kernel");
  if (request.inputs[1].constant == nullptr) return Unsupported("filters are not constant");
  Plan p{.level = &level, .filter = &filter};
  MINIM_TRY(p.w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  if (p.w.stride[1] * p.w.stride[2] * p.w.dilation[1] * p.w.dilation[2] != 1)
    return Unsupported("strides or dilations");
  MINIM_TRY(p.groups, GroupsOf(attributes, x, weights));
  p.m = weights[0] / p.groups;
  p.channels = weights[1];
  TileWindow(p);
  if (!Pays(p)) return Unsupported("the direct product costs less");
  p.stage = ImageStage(p.w, kPanel);
  CutWork(p, std::max(1, request.threads));
  MINIM_TRY(p.activation, ActivationOf(attributes));
  if (!p.activation.clamp()) p.finisher = &gemm;
  const auto* source = static_cast<const float*>(request.inputs[1].constant);
  p.filters = request.packs->GetOrPack(
      request.inputs[1].ConstantView(), fmt::format("winograd.{}", p.groups),
      p.groups * kWinogradTaps * p.filter_tap() * sizeof(float),
      [&](std::byte* to) { PackTransformed(p, source, reinterpret_cast<float*>(to)); });
  const size_t scratch = p.piece_bytes() * std::max(1, request.threads);
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
