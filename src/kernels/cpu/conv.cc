// FP32 convolution as a product of packed filters with the pixels under their taps.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/filter_gemm.h"
#include "kernels/cpu/image_pack.h"
#include "kernels/cpu/image_stage.h"

namespace minim {
namespace {

constexpr int64_t kStageBytes = 512 << 10;  // of padded rows at a time, unless one row is larger
constexpr int64_t kPackBytes = 512 << 10;   // of packed pixels at a time ...
constexpr int64_t kSmallPack = 64 << 10;    // ... or where filters fit a cache themselves
constexpr int64_t kLeastPanels = 4;         // but so many, as each reads all the filters
constexpr int64_t kSmallFilters = 192 << 10;
constexpr int64_t kFewRows = 24;  // of filters: packing pixels would not pay

// How the pixels become the right side of the product.
enum class Pixels : uint8_t {
  kInPlace,   // 1x1 and few filters: they lie as rows already
  kRows,      // 1x1
  kStaged,    // through padded rows
  kGathered,  // three spatial axes
};

struct Plan {
  Window w;
  const FilterLevel* level = nullptr;
  const GemmLevel* finisher = nullptr;  // of activations that are no clamp
  int64_t groups = 1, m = 1, k = 1;     // m, k: per group
  int64_t channels = 1;                 // per group, of the image
  Pixels pixels = Pixels::kStaged;
  ImageStage stage;
  int64_t panels = 1;       // of one image and group
  int64_t unit_panels = 1;  // a unit of work: so many panels ...
  int64_t parts = 1;        // ... of one of so many parts of the filters
  int64_t pack_panels = 1;  // packed together
  Activation activation;
  bool residual = false;
  std::shared_ptr<const std::byte> filters;                      // packed, if constant
  int64_t stage_floats = 0, pack_floats = 0, filter_floats = 0;  // scratch

  int64_t blocks() const { return (panels + unit_panels - 1) / unit_panels; }
  int64_t units() const { return w.batch * groups * parts * blocks(); }
  size_t piece_bytes() const { return AlignUp((stage_floats + pack_floats) * sizeof(float)); }
  size_t filter_bytes() const { return AlignUp(filter_floats * sizeof(float)); }
  /// Output rows that panels [first, last) touch.
  TapRange RowsOf(int64_t first, int64_t last) const {
    const int64_t width = w.out[2], pixels_end = std::min(last * kPanel, w.out_size());
    return {first * kPanel / width, (pixels_end + width - 1) / width};
  }
};

void CopyPanelRow(const float* src, float* dst) { std::memcpy(dst, src, kPanel * sizeof(float)); }

// Rows of 16 pixels from a plane that needs no padding.
void PackRows(const Plan& p, const float* image, int64_t panel, float* packed) {
  const int64_t plane = p.w.in_size(), columns = std::min(kPanel, plane - panel * kPanel);
  const float* src = image + panel * kPanel;
  for (int64_t c = 0; c < p.channels; ++c, src += plane, packed += kPanel) {
    if (columns == kPanel)
      CopyPanelRow(src, packed);
    else
      std::memcpy(packed, src, columns * sizeof(float));
  }
}

// The same under every tap of staged rows, the first of which is for output row `first_row`.
void PackStaged(const Plan& p, const float* stage, int64_t stage_plane, int64_t first_row,
                int64_t panel, float* packed) {
  StagedPanel staged = CutPanel(p.w, p.stage, panel, first_row);
  staged.stage = stage;
  staged.plane = stage_plane;
  staged.channels = p.channels;
  p.level->pack(staged, packed);
}

struct Unit {
  int64_t image, group, first, last;  // panels
  int64_t row, rows;                  // of the filters
};

Unit UnitAt(const Plan& p, int64_t index) {
  const int64_t blocks = p.blocks();
  Unit u{};
  u.image = index / (blocks * p.parts * p.groups);
  u.group = index / (blocks * p.parts) % p.groups;
  const int64_t part = index / blocks % p.parts;
  u.first = index % blocks * p.unit_panels;
  u.last = std::min(p.panels, u.first + p.unit_panels);
  u.row = FilterPart(p.m, p.parts, part);
  u.rows = FilterPart(p.m, p.parts, part + 1) - u.row;
  return u;
}

void Multiply(const Plan& p, const KernelArgs& args, const float* filters, const Unit& u,
              int64_t first, int64_t last, const float* pixels, bool in_place) {
  const int64_t size = p.w.out_size();
  const int64_t row = u.group * p.m + u.row,
                at = (u.image * p.groups * p.m + row) * size + first * kPanel;
  FilterGemm gemm{.m = u.rows,
                  .n = std::min(last * kPanel, size) - first * kPanel,
                  .k = p.k,
                  .a = filters + u.row * p.k,
                  .b = pixels,
                  .b_row = in_place ? size : kPanel,
                  .b_panel = in_place ? kPanel : p.k * kPanel,
                  .c = Out<float>(args, 0) + at,
                  .c_row = size};
  if (const float* bias = In<float>(args, 2)) gemm.bias = bias + row;
  if (p.residual) gemm.residual = In<float>(args, 3) + at;
  gemm.low = p.activation.low(), gemm.high = p.activation.high();
  p.level->multiply(gemm);
  if (p.finisher) {
    const Epilogue epilogue{.activation = p.activation};
    p.finisher->finish(epilogue, gemm.m, gemm.n, gemm.c, gemm.c_row);
  }
}

void RunUnit(const Plan& p, const KernelArgs& args, const float* all_filters, const Unit& u,
             float* stage) {
  const int64_t plane = p.w.in_size();
  const float* image = In<float>(args, 0) + (u.image * p.groups + u.group) * p.channels * plane;
  const float* filters = all_filters + u.group * PackedFilterFloats(p.m, p.k);
  float* packed = stage + p.stage_floats;
  const TapRange rows = p.RowsOf(u.first, u.last);
  const int64_t stage_plane = p.stage.row() * p.stage.RowsFor(rows.last - rows.first);
  if (p.pixels == Pixels::kStaged) {
    for (int64_t c = 0; c < p.channels; ++c)
      p.stage.Fill(image + c * plane, rows.first, rows.last, 0, stage + c * stage_plane);
  }
  int64_t panel = u.first;
  if (p.pixels == Pixels::kInPlace) {
    panel = std::min(u.last, p.w.out_size() / kPanel);  // whole ones
    if (panel > u.first)
      Multiply(p, args, filters, u, u.first, panel, image + u.first * kPanel, true);
  }
  while (panel < u.last) {
    const int64_t last = std::min(u.last, panel + p.pack_panels);
    for (int64_t i = panel; i < last && p.pixels != Pixels::kGathered; ++i) {
      float* to = packed + (i - panel) * p.k * kPanel;
      p.pixels == Pixels::kStaged ? PackStaged(p, stage, stage_plane, rows.first, i, to)
                                  : PackRows(p, image, i, to);
    }
    if (p.pixels == Pixels::kGathered)
      PackPixels<float>(p.w, image, p.channels, panel, last, 0, packed);
    Multiply(p, args, filters, u, panel, last, packed, false);
    panel = last;
  }
}

// A 1x1 convolution without padding does not care where rows end.
Window Flattened(Window w) {
  if (!w.pointwise()) return w;
  w.in[2] = w.out[2] = w.in_size();
  w.in[0] = w.in[1] = w.out[0] = w.out[1] = 1;
  return w;
}

Pixels PixelsOf(const Window& w, int64_t m) {
  if (w.pointwise()) return m <= kFewRows ? Pixels::kInPlace : Pixels::kRows;
  return w.in[0] == 1 && w.out[0] == 1 && w.kernel[0] == 1 ? Pixels::kStaged : Pixels::kGathered;
}

// Cuts the work: enough units for every thread, none staging more than fits a cache.
void CutWork(Plan& p, int threads) {
  p.panels = PanelsOf(p.w.out_size());
  int64_t most = std::max<int64_t>(1, p.panels);
  if (p.pixels == Pixels::kStaged) {
    int64_t rows = std::max<int64_t>(1, p.w.out[1]);
    while (rows > 1 && p.stage.FloatsFor(p.channels, rows) * 4 > kStageBytes) --rows;
    most = std::clamp<int64_t>(rows * p.w.out[2] / kPanel, 1, most);
  }
  const int64_t images = p.w.batch * p.groups;
  const bool split = images % threads != 0 && images < 4 * threads;
  if (split && p.panels < 8 * threads && p.m >= kFewRows * threads) p.parts = threads;
  int64_t blocks = (p.panels + most - 1) / most;
  if (split && p.parts == 1) blocks = (blocks + threads - 1) / threads * threads;
  p.unit_panels = std::max<int64_t>(1, (p.panels + blocks - 1) / std::max<int64_t>(1, blocks));
  const bool small = p.m * p.k * 4 <= kSmallFilters;
  const int64_t fit = (small ? kSmallPack : kPackBytes) / std::max<int64_t>(1, p.k * kPanel * 4);
  p.pack_panels = std::min(std::max(fit, small ? 1 : kLeastPanels), p.unit_panels);
  if (p.pixels == Pixels::kInPlace) p.pack_panels = 1;
  // One panel row more: copies of 16 floats run past the last.
  p.pack_floats = (p.pack_panels * p.k + 1) * kPanel;
  if (p.pixels != Pixels::kStaged || p.panels == 0) return;
  const int64_t width = p.w.out[2];
  const int64_t rows = std::min(p.w.out[1], (p.unit_panels * kPanel + width - 2) / width + 1);
  p.stage_floats = p.stage.FloatsFor(p.channels, rows);
}

void PackAllFilters(const Plan& p, const float* filters, float* packed) {
  for (int64_t g = 0; g < p.groups; ++g)
    PackFilters(filters + g * p.m * p.k, p.m, p.k, packed + g * PackedFilterFloats(p.m, p.k));
}

void PlanFilters(Plan& p, const KernelRequest& request) {
  const int64_t floats = p.groups * PackedFilterFloats(p.m, p.k);
  if (request.inputs[1].constant == nullptr) {
    p.filter_floats = floats;
    return;
  }
  const auto* source = static_cast<const float*>(request.inputs[1].constant);
  p.filters = request.packs->GetOrPack(
      request.inputs[1].ConstantView(), fmt::format("filters.{}", p.groups), floats * sizeof(float),
      [&](std::byte* to) { PackAllFilters(p, source, reinterpret_cast<float*>(to)); });
}

void Run(const Plan& p, const KernelArgs& args) {
  auto* scratch = static_cast<std::byte*>(args.scratch);
  const auto* filters = reinterpret_cast<const float*>(p.filters.get());
  if (filters == nullptr) {
    PackAllFilters(p, In<float>(args, 1), reinterpret_cast<float*>(scratch));
    filters = reinterpret_cast<const float*>(scratch);
    scratch += p.filter_bytes();
  }
  const int64_t units = p.units();
  const int pieces = static_cast<int>(std::min<int64_t>(units, args.threads.threads));
  args.threads.ParallelFor(pieces, [&](int i) {
    auto* piece = reinterpret_cast<float*>(scratch + i * p.piece_bytes());
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
      RunUnit(p, args, filters, UnitAt(p, unit), piece);
  });
}

BindResult Bind(const KernelRequest& request, const FilterLevel& level, const GemmLevel& gemm) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const Attributes& attributes = AttributesOf(request);
  const Dims &x = request.inputs[0].dims, &weights = request.inputs[1].dims;
  Plan p{.level = &level};
  MINIM_TRY(p.w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  p.groups = attributes.Int("group", 1);
  if (p.groups < 1 || weights[0] % p.groups != 0 || weights[1] * p.groups != x[1])
    return Unsupported("weights {} do not fit image {} in {} groups", weights.ToString(),
                       x.ToString(), p.groups);
  p.m = weights[0] / p.groups;
  p.channels = weights[1];
  p.k = p.channels * p.w.taps();
  p.pixels = PixelsOf(p.w, p.m);
  p.w = Flattened(p.w);
  if (p.pixels == Pixels::kStaged) p.stage = ImageStage(p.w, kPanel);
  CutWork(p, std::max(1, request.threads));
  MINIM_TRY(p.activation, ActivationOf(attributes));
  if (!p.activation.clamp()) p.finisher = &gemm;
  p.residual = HasInput(request, 3);
  PlanFilters(p, request);
  const size_t scratch = p.filter_bytes() + p.piece_bytes() * std::max(1, request.threads);
  constexpr std::string_view kNames[] = {"in place", "packed", "staged", "gathered"};
  return MakeKernel(
      fmt::format("conv as gemm {} 6x16, pixels {}", level.name, kNames[int(p.pixels)]),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult ConvAvx2(const KernelRequest& request) {
  return Bind(request, FilterAvx2(), GemmAvx2());
}
BindResult ConvPortable(const KernelRequest& request) {
  return Bind(request, FilterPortable(), GemmPortable());
}

}  // namespace minim
