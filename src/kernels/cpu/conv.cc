// FP32 convolution as a product of packed filters with the pixels under their taps.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/pixel_panels.h"

namespace minim {
namespace {

constexpr int64_t kPackBytes = 512 << 10;  // of packed pixels at a time ...
constexpr int64_t kSmallPack = 64 << 10;   // ... or where filters fit a cache themselves
constexpr int64_t kLeastPanels = 4;        // but so many, as each reads all the filters
constexpr int64_t kSmallFilters = 192 << 10;
constexpr int64_t kFewRows = 24;  // of filters: packing pixels would not pay

struct Plan {
  Window w;
  const FilterLevel* level = nullptr;
  const GemmLevel* finisher = nullptr;  // of activations that are no clamp
  int64_t groups = 1, m = 1, k = 1;     // m, k: per group
  int64_t channels = 1;                 // per group, of the image
  bool in_place = false;                // 1x1 and few filters: the pixels lie as panels already
  PixelPanels pixels;
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
};

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
  const PixelPanels::Range range{u.first, u.last};
  p.pixels.Stage(image, range, 0, stage);
  int64_t panel = u.first;
  if (p.in_place) {
    panel = std::min(u.last, p.w.out_size() / kPanel);  // whole ones
    if (panel > u.first)
      Multiply(p, args, filters, u, u.first, panel, image + u.first * kPanel, true);
  }
  while (panel < u.last) {
    const int64_t last = std::min(u.last, panel + p.pack_panels);
    p.pixels.Pack(image, stage, range, panel, last, 0, packed);
    Multiply(p, args, filters, u, panel, last, packed, false);
    panel = last;
  }
}

// Cuts the work: enough units for every thread, none staging more than fits a cache.
void CutWork(Plan& p, int threads) {
  p.panels = p.pixels.count();
  const int64_t most = p.pixels.Most();
  const int64_t images = p.w.batch * p.groups;
  const bool split = images % threads != 0 && images < 4 * threads;
  if (split && p.panels < 8 * threads && p.m >= kFewRows * threads) p.parts = threads;
  int64_t blocks = (p.panels + most - 1) / most;
  if (split && p.parts == 1) blocks = (blocks + threads - 1) / threads * threads;
  p.unit_panels = std::max<int64_t>(1, (p.panels + blocks - 1) / std::max<int64_t>(1, blocks));
  const bool small = p.m * p.k * 4 <= kSmallFilters;
  const int64_t fit = (small ? kSmallPack : kPackBytes) / std::max<int64_t>(1, p.k * kPanel * 4);
  p.pack_panels = std::min(std::max(fit, small ? 1 : kLeastPanels), p.unit_panels);
  if (p.in_place) p.pack_panels = 1;
  p.pack_floats = p.pixels.PackFloats(p.pack_panels);
  p.stage_floats = p.pixels.StageFloats(p.unit_panels);
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
      [&](std::byte* to) { PackAllFilters(p, source, reinterpret_cast<float*>(to)); },
      [groups = p.groups, m = p.m, k = p.k](const std::byte* blob, void* to) {
        for (int64_t g = 0; g < groups; ++g)
          UnpackFilters(reinterpret_cast<const float*>(blob) + g * PackedFilterFloats(m, k), m, k,
                        static_cast<float*>(to) + g * m * k);
      });
}

void Run(const Plan& p, const KernelArgs& args) {
  auto* scratch = static_cast<std::byte*>(args.scratch);
  const auto* filters = reinterpret_cast<const float*>(p.filters.get());
  if (filters == nullptr) {
    PackAllFilters(p, In<float>(args, 1), reinterpret_cast<float*>(scratch));
    filters = reinterpret_cast<const float*>(scratch);
    scratch += p.filter_bytes();
  }
  RunUnits(args.threads, scratch, p.units(), p.piece_bytes(),
           [&](int64_t unit, float* piece) { RunUnit(p, args, filters, UnitAt(p, unit), piece); });
}

BindResult Bind(const KernelRequest& request, const FilterLevel& level, const GemmLevel& gemm) {
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const Attributes& attributes = AttributesOf(request);
  const Dims &x = request.inputs[0].dims, &weights = request.inputs[1].dims;
  Plan p{.level = &level};
  MINIM_TRY(p.w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  MINIM_TRY(p.groups, GroupsOf(attributes, x, weights));
  p.m = weights[0] / p.groups;
  p.channels = weights[1];
  p.k = p.channels * p.w.taps();
  p.in_place = p.w.pointwise() && p.m <= kFewRows;
  p.pixels = PixelPanels(p.w, p.channels, level);
  CutWork(p, std::max(1, request.threads));
  MINIM_TRY(p.activation, ActivationOf(attributes));
  if (!p.activation.clamp()) p.finisher = &gemm;
  p.residual = HasInput(request, 3);
  PlanFilters(p, request);
  const size_t scratch = p.filter_bytes() + p.piece_bytes() * std::max(1, request.threads);
  const bool constant = p.filters != nullptr;
  const std::string_view pixels = p.in_place ? "in place" : p.pixels.name();
  return MakeKernel(fmt::format("conv as gemm {}, pixels {}", level.name, pixels),
                    [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch, {},
                    {constant ? 1 : -1});
}

}  // namespace

BindResult ConvAvx512(const KernelRequest& request) {
  return Bind(request, FilterAvx512(), GemmAvx512());
}
BindResult ConvAvx2(const KernelRequest& request) {
  return Bind(request, FilterAvx2(), GemmAvx2());
}
BindResult ConvPortable(const KernelRequest& request) {
  return Bind(request, FilterPortable(), GemmPortable());
}

}  // namespace minim
