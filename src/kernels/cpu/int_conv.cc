// ConvInteger and QLinearConv: four channels of the image become a word of signed bytes, or two of
// 16 bits where the weights are no signed bytes, so that its pixels are staged and packed as those
// of an FP32 image; the exact integer product does the rest.
#include <algorithm>
#include <bit>
#include <numeric>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/int_conv_parts.h"
#include "kernels/cpu/int_image.h"
#include "kernels/cpu/pixel_panels.h"

namespace minim {
namespace {

constexpr int64_t kPackBytes = 512 << 10;  // of packed pixels at a time, and of their sums ...
constexpr int64_t kLeastPanels = 4;        // ... but so many panels, as each reads all the weights

struct Plan {
  Window w;
  IntConvParts parts;
  const IntLevel* level = nullptr;
  bool quantized = false;
  int64_t groups = 1, m = 1, channels = 1;  // m, channels: per group
  IntForm form = IntForm::kPairs;
  PixelPanels pixels;                        // of words
  int64_t block = 1;                         // panels packed together
  int64_t together = 1;                      // images put into words at a time
  std::shared_ptr<const std::byte> weights;  // as PackWeights has them, when constant

  int64_t filters() const { return groups * m; }
  int64_t words() const { return WordsOf(form, channels); }  // per group and pixel
  int64_t depth() const { return pixels.rows(); }
  WordImages images() const { return {parts.x_dtype, form, groups, channels, w.in_size()}; }
  int64_t blocks() const { return (pixels.count() + block - 1) / block; }
  size_t row_bytes() const { return depth() * sizeof(int32_t); }
  size_t group_bytes() const { return PackedABytes(*level, form, m, depth() * PerWord(form)); }
  size_t weight_bytes() const { return groups * group_bytes() + 2 * filters() * sizeof(int32_t); }
};

// What one thread writes to.
struct Piece {
  float *stage, *packed;
  int32_t* sums;
};
struct Scratch {
  float* image;
  std::byte *row, *packed;   // of filters that are given at run time
  const std::byte* weights;  // packed here or at bind time
  std::byte* pieces;
  float* scales;
  int32_t* start;  // of each filter's sums
};

size_t CarvePiece(const Plan& p, std::byte* base, Piece* to) {
  Carver carver(base);
  to->stage = carver.Take<float>(p.pixels.StageFloats(p.block));
  to->packed = carver.Take<float>(p.pixels.PackFloats(p.block));
  to->sums = carver.Take<int32_t>(p.quantized ? p.m * p.block * kPanel : 0);
  return carver.bytes();
}
size_t PieceBytes(const Plan& p) {
  Piece none;
  return CarvePiece(p, nullptr, &none);
}

size_t Carve(const Plan& p, int threads, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->image = carver.Take<float>(p.together * p.images().words_of_one());
  to->row = carver.Take<std::byte>(p.weights ? 0 : p.row_bytes());
  to->packed = carver.Take<std::byte>(p.weights ? 0 : p.weight_bytes());
  to->scales = carver.Take<float>(std::max<int64_t>(1, p.parts.w_scales));
  to->start = carver.Take<int32_t>(p.filters());
  to->pieces = carver.Take<std::byte>(PieceBytes(p) * threads);
  return carver.bytes();
}

// One filter less its zero point, word by word of its pixels: the channels of a word, tap by tap.
template <typename Packed>
void FillRow(const Plan& p, const ZeroPoints& weights, int32_t zero, int64_t filter, Packed* row) {
  const int64_t taps = p.w.taps(), per_word = PerWord(p.form);
  std::fill_n(row, p.depth() * per_word, Packed{0});
  for (int64_t c = 0; c < p.channels; ++c)
    for (int64_t tap = 0; tap < taps; ++tap)
      row[(c / per_word * taps + tap) * per_word + c % per_word] =
          static_cast<Packed>(weights.At((filter * p.channels + c) * taps + tap) - zero);
}

// Every group's filters as the left operand; then what multiply_bytes leaves out of each filter's
// sums, and the sums of their weights. `row`: one filter's words.
void PackFilters(const Plan& p, const void* src, const ZeroPoints& zeros, std::byte* row,
                 std::byte* dst) {
  const int64_t values = p.depth() * PerWord(p.form);
  const ZeroPoints weights{src, p.parts.w_dtype, p.filters() * p.channels * p.w.taps()};
  auto* left_out = reinterpret_cast<int32_t*>(dst + p.groups * p.group_bytes());
  int32_t* sums = left_out + p.filters();
  for (int64_t filter = 0; filter < p.filters(); ++filter) {
    std::byte* group = dst + filter / p.m * p.group_bytes();
    left_out[filter] = sums[filter] = 0;
    if (p.form == IntForm::kPairs) {
      FillRow(p, weights, zeros.At(filter), filter, reinterpret_cast<int16_t*>(row));
      PlacePairs(row, p.depth(), filter % p.m, p.m, group);
      continue;
    }
    auto* bytes = reinterpret_cast<int8_t*>(row);
    FillRow(p, weights, zeros.At(filter), filter, bytes);
    left_out[filter] = PlaceBytes(*p.level, bytes, 0, values, filter % p.m, p.m, group);
    sums[filter] = std::accumulate(bytes, bytes + values, 0);
  }
}

// A pixel outside the image: its zero point.
float Padding(const Plan& p, const KernelArgs& args) {
  if (p.form == IntForm::kPairs) return 0;
  const auto byte = static_cast<uint8_t>(p.parts.ZeroOfImage(args) - MiddleOf(p.parts.x_dtype));
  return std::bit_cast<float>((byte ^ p.level->flip_of_b()) * 0x01010101u);
}

void FinishBlock(const Plan& p, const KernelArgs& args, const float* scales, int64_t channel,
                 int64_t n, const int32_t* sums, int64_t at) {
  for (int64_t i = 0; i < p.m; ++i)
    RequantizeChannel(*p.level, p.parts.RowOf(args, scales, channel + i), n, sums + i * n,
                      p.parts.y_dtype, Out<std::byte>(args, 0) + at + i * p.w.out_size());
}

// `unit`: of the images from `first_image` on, which stand in words in the scratch.
void RunBlock(const Plan& p, const KernelArgs& args, const Scratch& scratch, int64_t first_image,
              int64_t unit, const Piece& piece) {
  const int64_t blocks = p.blocks();
  const int64_t image = unit / (blocks * p.groups), group = unit / blocks % p.groups;
  const int64_t first = unit % blocks * p.block, last = std::min(p.pixels.count(), first + p.block);
  const float* words = scratch.image + (image * p.groups + group) * p.words() * p.w.in_size();
  const float padding = Padding(p, args);
  p.pixels.Stage(words, {first, last}, padding, piece.stage);
  p.pixels.Pack(words, piece.stage, {first, last}, first, last, padding, piece.packed);
  const int64_t n = std::min(last * kPanel, p.w.out_size()) - first * kPanel;
  const int64_t at =
      ((first_image + image) * p.groups + group) * p.m * p.w.out_size() + first * kPanel;
  const auto multiply =
      p.form == IntForm::kPairs ? p.level->multiply_pairs : p.level->multiply_bytes;
  multiply({.m = p.m,
            .n = n,
            .depth = p.depth(),
            .a = scratch.weights + group * p.group_bytes(),
            .packed = piece.packed,
            .row_start = scratch.start + group * p.m,
            .c = p.quantized ? piece.sums : Out<int32_t>(args, 0) + at,
            .c_row = p.quantized ? n : p.w.out_size()});
  if (p.quantized) FinishBlock(p, args, scratch.scales, group * p.m, n, piece.sums, at);
}

// The bias of each filter's sums and, of signed bytes, what the zero point of the image adds.
void StartSums(const Plan& p, const KernelArgs& args, Scratch& scratch) {
  const auto* left_out =
      reinterpret_cast<const int32_t*>(scratch.weights + p.groups * p.group_bytes());
  const auto zero = static_cast<uint32_t>(MiddleOf(p.parts.x_dtype) - p.parts.ZeroOfImage(args));
  for (int64_t i = 0; i < p.filters(); ++i) {
    const int32_t bias = p.parts.BiasOf(args, i);
    scratch.start[i] =
        static_cast<int32_t>(static_cast<uint32_t>(bias) + static_cast<uint32_t>(left_out[i]) +
                             zero * static_cast<uint32_t>(left_out[p.filters() + i]));
  }
}

void Prepare(const Plan& p, const KernelArgs& args, Scratch& scratch) {
  scratch.weights = p.weights ? p.weights.get() : scratch.packed;
  if (!p.weights)
    PackFilters(p, args.inputs[p.parts.roles.w], p.parts.ZerosOfWeights(args), scratch.row,
                scratch.packed);
  StartSums(p, args, scratch);
  if (p.quantized) p.parts.FillScales(args, scratch.scales);
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch scratch;
  Carve(p, 0, static_cast<std::byte*>(args.scratch), &scratch);
  Prepare(p, args, scratch);
  for (int64_t image = 0; image < p.w.batch; image += p.together) {
    const int64_t images = std::min(p.together, p.w.batch - image);
    p.images().Fill(*p.level, In<uint8_t>(args, 0) + image * p.images().size_of_one(), images,
                    p.parts.ZeroOfImage(args), args.threads, scratch.image);
    const int64_t units = images * p.groups * p.blocks();
    const int pieces = static_cast<int>(std::min<int64_t>(units, args.threads.threads));
    args.threads.ParallelFor(pieces, [&](int i) {
      Piece piece;
      CarvePiece(p, scratch.pieces + i * PieceBytes(p), &piece);
      for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
        RunBlock(p, args, scratch, image, unit, piece);
    });
  }
}

Status FillGeometry(const KernelRequest& request, const FilterLevel& filters, Plan* p) {
  const Dims &x = request.inputs[0].dims, &w = request.inputs[p->parts.roles.w].dims;
  MINIM_TRY(p->w, WindowOf(AttributesOf(request), x, request.outputs[0].dims, w.span().subspan(2)));
  MINIM_TRY(p->groups, GroupsOf(AttributesOf(request), x, w));
  p->m = w[0] / p->groups;
  p->channels = w[1];
  p->pixels = PixelPanels(p->w, p->words(), filters);
  const int64_t bytes = std::max(p->depth(), p->m) * kPanel * 4;
  const int64_t most = std::max(kLeastPanels, kPackBytes / std::max<int64_t>(1, bytes));
  const int64_t count = std::max<int64_t>(1, p->pixels.count()),
                threads = std::max(1, request.threads);
  p->block = std::min({most, p->pixels.Most(), (count + threads - 1) / threads});
  p->together = p->images().Together(p->w.batch);
  return {};
}

void PackWeights(const KernelRequest& request, const ZeroPoints& zeros, Plan* p) {
  const TensorDesc& w = request.inputs[p->parts.roles.w];
  if (w.constant == nullptr) return;
  std::string key = fmt::format("conv int{}.{}.{}.{}", PerWord(p->form),
                                WordBytesOfA(*p->level, p->form), p->m, p->channels);
  for (int64_t i = 0; i < zeros.count; ++i) key += fmt::format(".{}", zeros.At(i));
  std::vector<std::byte> row(p->row_bytes());
  p->weights = request.packs->GetOrPack(
      w.ConstantView(), key, p->weight_bytes(),
      [&](std::byte* blob) { PackFilters(*p, w.constant, zeros, row.data(), blob); });
}

struct Levels {
  const IntLevel& ints;
  const FilterLevel& filters;
};

BindResult Bind(const KernelRequest& request, const Levels& levels, const IntConvRoles& roles,
                bool quantized) {
  Plan p{.level = &levels.ints, .quantized = quantized};
  MINIM_TRY(p.parts, IntConvPartsOf(request, roles));
  const std::optional<ZeroPoints> zeros = p.parts.KnownZerosOfWeights(request);
  if (zeros && AreMiddle(*zeros)) p.form = IntForm::kBytes;
  MINIM_TRY(FillGeometry(request, levels.filters, &p));
  if (zeros) PackWeights(request, *zeros, &p);
  Scratch none;
  const size_t scratch = Carve(p, std::max(1, request.threads), nullptr, &none);
  return MakeKernel(
      fmt::format("int8 conv as gemm {} {}, {}, pixels {}", levels.ints.name, levels.ints.tile,
                  Name(p.form), p.pixels.name()),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

BindResult ConvIntegerAvx2(const KernelRequest& r) {
  return Bind(r, {IntAvx2(), FilterAvx2()}, kConvIntegerRoles, false);
}
BindResult ConvIntegerVnni(const KernelRequest& r) {
  return Bind(r, {IntVnni(), FilterAvx512()}, kConvIntegerRoles, false);
}
BindResult ConvIntegerPortable(const KernelRequest& r) {
  return Bind(r, {IntPortable(), FilterPortable()}, kConvIntegerRoles, false);
}
BindResult QLinearConvAvx2(const KernelRequest& r) {
  return Bind(r, {IntAvx2(), FilterAvx2()}, kQLinearConvRoles, true);
}
BindResult QLinearConvVnni(const KernelRequest& r) {
  return Bind(r, {IntVnni(), FilterAvx512()}, kQLinearConvRoles, true);
}
BindResult QLinearConvPortable(const KernelRequest& r) {
  return Bind(r, {IntPortable(), FilterPortable()}, kQLinearConvRoles, true);
}

}  // namespace minim
