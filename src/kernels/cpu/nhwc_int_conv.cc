// NhwcQLinearConv: a direct convolution. With the channels last, the taps of a row with their
// channels lie side by side, and so do the filters of the result: nothing is packed but the
// weights, images are copied only where they need padding, and sums never leave the registers.
#include "kernels/cpu/nhwc_conv.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/int_conv_parts.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

constexpr int64_t kGroup = kFilterPanels * kPanel;  // filters of a tile
constexpr int64_t kImageBytes = 192 << 10;          // of lines that stay in the L2 cache together
constexpr int64_t kFlatLine = 96;                   // pixels at most, where lines do not matter

using RunNhwc = void (*)(const NhwcRun& run, int64_t pixels);

struct Plan {
  RunNhwc run = nullptr;
  Window w;  // spatial axes 1 and 2
  IntConvParts parts;
  int64_t filters = 1;
  bool staged = false;
  int64_t flat = 0;               // if lines do not matter: pixels of one, the last may be fewer
  int64_t pixels = 0;             // of all images
  int64_t together = 1;           // images (lines, if flat) that one step makes, or 1 ...
  int64_t cuts = 1;               // ... and in how many steps
  std::vector<int32_t> offsets;   // of a step's pixels (a line's, if flat) from its first one
  std::vector<int64_t> segments;  // from a pixel's first tap, in its lines
  int64_t segment_bytes = 0;
  std::shared_ptr<const std::byte> weights;  // in groups; then the sum of each filter's

  int64_t channels() const { return w.channels; }
  int64_t quads() const { return (segment_bytes + 3) / 4; }
  int64_t depth() const { return static_cast<int64_t>(segments.size()) * quads() * 4; }
  int64_t filled() const { return PanelsOf(filters) * kPanel; }
  int64_t groups() const { return (filters + kGroup - 1) / kGroup; }
  int64_t line_bytes() const {
    return (w.in[2] + (staged ? w.begin[2] + w.end[2] : 0)) * channels();
  }
  // Lines of the image under so many of the result.
  int64_t LinesUnder(int64_t out) const {
    return (out - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1;
  }
  int64_t height() const { return flat ? 1 : w.out[1]; }
  int64_t line_pixels() const { return flat ? flat : w.out[2]; }
  int64_t images() const { return flat ? (pixels + flat - 1) / flat : w.batch; }
  int64_t steps() const { return (images() + together - 1) / together * cuts; }
  int64_t stage_bytes() const {
    return staged ? together * LinesUnder((height() + cuts - 1) / cuts) * line_bytes() + 4 : 0;
  }
};

struct Scratch {
  int32_t* starts;
  float *given, *scales;  // as the node has them; one of each filter
  uint8_t* stages;        // one of each thread
};

size_t Carve(const Plan& p, int threads, std::byte* base, Scratch* to) {
  Carver carver(base);
  to->starts = carver.Take<int32_t>(p.filled());
  to->given = carver.Take<float>(std::max<int64_t>(1, p.parts.w_scales));
  to->scales = carver.Take<float>(p.filled());
  to->stages = carver.Take<uint8_t>(static_cast<int64_t>(AlignUp(p.stage_bytes())) * threads);
  return carver.bytes();
}

// Filter by filter: groups of up to kGroup, in them segment, quad, filter, value.
void PackWeights(const Plan& p, const int8_t* src, std::byte* blob) {
  auto* dst = reinterpret_cast<int8_t*>(blob);
  const int64_t kernel = p.w.taps(), count = static_cast<int64_t>(p.segments.size());
  const int64_t taps = kernel / count;  // of a segment
  auto* sums = reinterpret_cast<int32_t*>(blob + p.filled() * p.depth());
  std::fill_n(dst, p.filled() * p.depth(), int8_t{0});
  for (int64_t f = 0; f < p.filters; ++f) {
    const int64_t first = f / kGroup * kGroup;
    const int64_t width = std::min(kGroup, p.filled() - first);
    int8_t* group = dst + first * p.depth();
    const int8_t* filter = src + f * p.channels() * kernel;
    for (int64_t s = 0; s < count; ++s)
      for (int64_t i = 0; i < p.segment_bytes; ++i)
        group[((s * p.quads() + i / 4) * width + (f - first)) * 4 + i % 4] =
            filter[i % p.channels() * kernel + s * taps + i / p.channels()];
    sums[f] = std::accumulate(filter, filter + p.channels() * kernel, 0);
  }
}

void Prepare(const Plan& p, const KernelArgs& args, const Scratch& scratch) {
  const auto* sums = reinterpret_cast<const int32_t*>(p.weights.get() + p.filled() * p.depth());
  const auto zero = static_cast<uint32_t>(p.parts.ZeroOfImage(args));
  p.parts.FillScales(args, scratch.given);
  for (int64_t f = 0; f < p.filters; ++f) {
    scratch.starts[f] = static_cast<int32_t>(static_cast<uint32_t>(p.parts.BiasOf(args, f)) -
                                             zero * static_cast<uint32_t>(sums[f]));
    scratch.scales[f] = *p.parts.RowOf(args, scratch.given, f).scales;
  }
  std::fill(scratch.starts + p.filters, scratch.starts + p.filled(), 0);
  std::fill(scratch.scales + p.filters, scratch.scales + p.filled(), 0.0f);
}

// Lines [first, last) of the result read these of an image, padding included.
void Stage(const Plan& p, const uint8_t* image, int64_t first, int64_t last, uint8_t zero,
           uint8_t* dst) {
  const Window& w = p.w;
  const int64_t bytes = p.line_bytes(), left = w.begin[2] * p.channels(),
                middle = w.in[2] * p.channels();
  const int64_t top = first * w.stride[1] - w.begin[1];
  for (int64_t i = 0; i < p.LinesUnder(last - first); ++i, dst += bytes) {
    const int64_t y = top + i;
    if (y < 0 || y >= w.in[1]) {
      std::fill_n(dst, bytes, zero);
      continue;
    }
    std::fill_n(dst, left, zero);
    std::memcpy(dst + left, image + y * middle, static_cast<size_t>(middle));
    std::fill_n(dst + left + middle, bytes - left - middle, zero);
  }
}

// Lines of the result and groups of filters. The lines are whole images, or part of one.
struct Piece {
  int64_t first_line, last_line, first_group, last_group;
  uint8_t* stage;
};

void StageAll(const Plan& p, const KernelArgs& args, const Piece& piece) {
  const int64_t height = p.height();
  const auto zero = static_cast<uint8_t>(p.parts.ZeroOfImage(args));
  uint8_t* to = piece.stage;
  for (int64_t line = piece.first_line, count; line < piece.last_line; line += count) {
    const int64_t first = line % height;
    count = std::min(height - first, piece.last_line - line);
    Stage(p, In<uint8_t>(args, 0) + line / height * p.w.in_size() * p.channels(), first,
          first + count, zero, to);
    to += p.LinesUnder(count) * p.line_bytes();
  }
}

// Where the first tap of a line's first pixel lies: lines follow each other as in p.offsets.
const uint8_t* LineAt(const Plan& p, const KernelArgs& args, const Piece& piece, int64_t line) {
  if (p.flat) return In<uint8_t>(args, 0) + line * p.flat * p.channels();
  const int64_t height = p.height(), image = line / height;
  const uint8_t* base = In<uint8_t>(args, 0) + image * p.w.in_size() * p.channels();
  int64_t first = 0;  // in the image
  if (p.staged) {
    const int64_t before = image - piece.first_line / height;  // images
    base = piece.stage + before * p.LinesUnder(height) * p.line_bytes();
    first = before == 0 ? piece.first_line % height : 0;
  }
  return base + (line % height - first) * p.w.stride[1] * p.line_bytes();
}

void RunPiece(const Plan& p, const KernelArgs& args, const Scratch& scratch, const Piece& piece) {
  if (p.staged) StageAll(p, args, piece);
  const RequantizeRow row = p.parts.RowOf(args, scratch.given, 0);
  const auto* weights = reinterpret_cast<const int8_t*>(p.weights.get());
  for (int64_t group = piece.first_group; group < piece.last_group; ++group) {
    const int64_t filter = group * kGroup, filters = std::min(kGroup, p.filters - filter);
    const int8_t* group_weights = weights + filter * p.depth();
    // With offsets, lines are one run.
    const int64_t lines = TakesOffsets(filters) && !p.flat ? piece.last_line - piece.first_line : 1;
    for (int64_t line = piece.first_line; line < piece.last_line; line += lines) {
      const int64_t pixel = line * p.line_pixels();
      const bool brings = line == piece.first_line && group + 1 < piece.last_group;
      p.run({.image = LineAt(p, args, piece, line),
             .pixel_step = p.w.stride[2] * p.channels(),
             .offsets = p.offsets.data(),
             .segments = p.segments.data(),
             .segment_count = static_cast<int64_t>(p.segments.size()),
             .quads = p.quads(),
             .weights = group_weights,
             .next_weights = group_weights + (brings ? kGroup * p.depth() : 0),
             .next_bytes = brings ? std::min(kGroup, p.filled() - filter - kGroup) * p.depth() : 0,
             .starts = scratch.starts + filter,
             .scales = scratch.scales + filter,
             .is_signed = p.parts.y_dtype == DType::i8,
             .zero_point = row.zero_point,
             .dst = Out<uint8_t>(args, 0) + pixel * p.filters + filter,
             .dst_step = p.filters,
             .filters = filters},
            std::min(lines * p.line_pixels(), p.pixels - pixel));
    }
  }
}

// One step's lines and, if these are few, its share of the filters.
Piece PieceOf(const Plan& p, int64_t unit, int64_t shares) {
  const int64_t step = unit / shares, share = unit % shares;
  const int64_t image = step / p.cuts * p.together, cut = step % p.cuts;
  const int64_t last = std::min(p.images(), image + p.together);
  Piece piece{.first_group = p.groups() * share / shares,
              .last_group = p.groups() * (share + 1) / shares};
  piece.first_line = image * p.height() + p.height() * cut / p.cuts;
  piece.last_line = (last - 1) * p.height() + p.height() * (cut + 1) / p.cuts;
  return piece;
}

void Run(const Plan& p, const KernelArgs& args) {
  Scratch scratch;
  Carve(p, 0, static_cast<std::byte*>(args.scratch), &scratch);
  Prepare(p, args, scratch);
  const int64_t steps = p.steps(), threads = std::max(1, args.threads.threads);
  const int64_t shares = std::min(p.groups(), (threads + steps - 1) / steps);
  const int64_t units = steps * shares;
  const int pieces = static_cast<int>(std::min(units, threads));
  args.threads.ParallelFor(pieces, [&](int i) {
    uint8_t* stage = scratch.stages + i * static_cast<int64_t>(AlignUp(p.stage_bytes()));
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit) {
      Piece piece = PieceOf(p, unit, shares);
      piece.stage = stage;
      RunPiece(p, args, scratch, piece);
    }
  });
}

// Pixel by pixel of the longest step, from its first one.
void FillOffsets(Plan* p) {
  if (p->flat) {
    for (int64_t i = 0; i < p->flat; ++i)
      p->offsets.push_back(static_cast<int32_t>(i * p->channels()));
    return;
  }
  const int64_t lines = (p->height() + p->cuts - 1) / p->cuts;
  const int64_t image =
      p->staged ? p->LinesUnder(p->height()) * p->line_bytes() : p->w.in_size() * p->channels();
  for (int64_t i = 0; i < p->together; ++i)
    for (int64_t y = 0; y < lines; ++y)
      for (int64_t x = 0; x < p->w.out[2]; ++x)
        p->offsets.push_back(static_cast<int32_t>(i * image + y * p->w.stride[1] * p->line_bytes() +
                                                  x * p->w.stride[2] * p->channels()));
}

int64_t CeilOf(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Images that fit the cache together, or cuts of one that does not; as many steps for each thread,
// unless there are more filters than pixels, which the threads share then.
void FillSteps(int64_t threads, Plan* p) {
  const bool share = p->groups() >= threads && p->filters > p->pixels;
  const auto whole = [&](int64_t steps) {
    return share ? steps : CeilOf(steps, threads) * threads;
  };
  if (!p->staged && p->w.pointwise()) {
    const int64_t steps = whole(CeilOf(p->pixels * p->channels(), kImageBytes));
    p->together = CeilOf(CeilOf(p->pixels, steps), kFlatLine);
    p->flat = CeilOf(p->pixels, steps * p->together);
    return;
  }
  const int64_t bytes = p->LinesUnder(p->height()) * p->line_bytes();
  if (bytes <= kImageBytes && p->images() >= threads) {
    p->together = CeilOf(p->images(), whole(CeilOf(p->images() * bytes, kImageBytes)));
  } else {
    const int64_t steps = whole(p->images() * CeilOf(bytes, kImageBytes));
    p->cuts = std::min(CeilOf(steps, p->images()), p->height());
  }
}

Status FillGeometry(const KernelRequest& request, Plan* p) {
  const TensorDesc &x = request.inputs[0], &w = request.inputs[p->parts.roles.w];
  const Dims image = ChannelsFirst(x.dims), result = ChannelsFirst(request.outputs[0].dims);
  MINIM_TRY(p->w, WindowOf(AttributesOf(request), image, result, w.dims.span().subspan(2)));
  MINIM_TRY(const int64_t groups, GroupsOf(AttributesOf(request), image, w.dims));
  if (groups != 1) return Unsupported("{} groups", groups);
  if (image.Elements() == 0 || result.Elements() == 0) return Unsupported("no pixels");
  p->filters = w.dims[0];
  p->pixels = p->w.batch * p->w.out_size();
  const bool joined = p->w.dilation[2] == 1;  // the taps of a line lie side by side
  p->segment_bytes = (joined ? p->w.kernel[2] : 1) * p->channels();
  const auto any = [](const int64_t(&pads)[3]) { return pads[1] != 0 || pads[2] != 0; };
  // A segment is read in quads.
  p->staged = any(p->w.begin) || any(p->w.end) || p->segment_bytes % 4 != 0;
  for (int64_t y = 0; y < p->w.kernel[1]; ++y)
    for (int64_t tap = 0; tap < (joined ? 1 : p->w.kernel[2]); ++tap)
      p->segments.push_back(y * p->w.dilation[1] * p->line_bytes() +
                            tap * p->w.dilation[2] * p->channels());
  FillSteps(std::max(1, request.threads), p);
  if (int64_t{INT32_MAX} < p->together * p->w.in_size() * p->channels())
    return Unsupported("images of over 2 GiB");
  FillOffsets(p);
  return {};
}

BindResult Bind(const KernelRequest& request, RunNhwc run, std::string_view level) {
  Plan p{.run = run};
  MINIM_TRY(p.parts, IntConvPartsOf(request, kQLinearConvRoles));
  const TensorDesc& w = request.inputs[p.parts.roles.w];
  const std::optional<ZeroPoints> zeros = p.parts.KnownZerosOfWeights(request);
  if (request.inputs[0].dims.rank() != 4) return Unsupported("an image of other rank than 4");
  if (p.parts.x_dtype != DType::u8 || p.parts.w_dtype != DType::i8 || w.constant == nullptr)
    return Unsupported("other than unsigned bytes by constant signed bytes");
  if (!zeros || !AreMiddle(*zeros)) return Unsupported("weights with zero points");
  MINIM_TRY(FillGeometry(request, &p));
  p.weights = request.packs->GetOrPack(
      w.ConstantView(), fmt::format("nhwc conv.{}", p.segments.size()),
      p.filled() * (p.depth() + sizeof(int32_t)),
      [&](std::byte* blob) { PackWeights(p, static_cast<const int8_t*>(w.constant), blob); });
  Scratch none;
  const size_t scratch = Carve(p, std::max(1, request.threads), nullptr, &none);
  return MakeKernel(
      fmt::format("int8 conv, channels last, {}{}", level, p.staged ? ", images padded" : ""),
      [p = std::move(p)](const KernelArgs& args) { Run(p, args); }, scratch);
}

}  // namespace

void RunNhwcPortable(const NhwcRun& t, int64_t pixels) {
  const int32_t low = t.is_signed ? -128 : 0, high = t.is_signed ? 127 : 255;
  const int64_t width = PanelsOf(t.filters) * kPanel;
  for (int64_t i = 0; i < pixels; ++i) {
    const uint8_t* pixel = t.image + (TakesOffsets(t.filters) ? t.offsets[i] : i * t.pixel_step);
    for (int64_t f = 0; f < t.filters; ++f) {
      const int8_t* w = t.weights + f * 4;
      auto sum = static_cast<uint32_t>(t.starts[f]);  // wraps, as everywhere
      for (int64_t s = 0; s < t.segment_count; ++s)
        for (int64_t k = 0; k < t.quads * 4; ++k, w += k % 4 == 0 ? width * 4 - 3 : 1)
          sum += static_cast<uint32_t>(pixel[t.segments[s] + k] * *w);
      const int32_t y = Requantize(static_cast<float>(static_cast<int32_t>(sum)) * t.scales[f],
                                   t.zero_point, low, high);
      static_cast<uint8_t*>(t.dst)[i * t.dst_step + f] = static_cast<uint8_t>(y);
    }
  }
}

BindResult NhwcQLinearConvPortable(const KernelRequest& request) {
  return Bind(request, RunNhwcPortable, "portable");
}
BindResult NhwcQLinearConvVnni(const KernelRequest& request) {
  return Bind(request, RunNhwcVnni, "avx512_vnni 6x64");
}

}  // namespace minim
