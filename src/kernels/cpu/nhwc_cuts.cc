#include "kernels/cpu/nhwc_cuts.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace minim {
namespace {

constexpr int64_t kFlatLine = 96;  // pixels at most, where lines do not matter

int64_t CeilOf(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t CacheBytes() {
  static const int64_t bytes =
      std::clamp<int64_t>(::sysconf(_SC_LEVEL2_CACHE_SIZE), 512 << 10, 4 << 20);
  return bytes;
}

// Lines [first, last) of the result read these of an image, padding included.
void Stage(const NhwcCuts& c, const std::byte* image, int64_t first, int64_t last, uint8_t zero,
           std::byte* dst) {
  const Window& w = c.w;
  const int64_t bytes = c.line_bytes(), left = w.begin[2] * c.pixel_bytes,
                middle = w.in[2] * c.pixel_bytes;
  const int64_t top = first * w.stride[1] - w.begin[1];
  for (int64_t i = 0; i < c.LinesUnder(last - first); ++i, dst += bytes) {
    const int64_t y = top + i;
    if (y < 0 || y >= w.in[1]) {
      std::memset(dst, zero, static_cast<size_t>(bytes));
      continue;
    }
    std::memset(dst, zero, static_cast<size_t>(left));
    std::memcpy(dst + left, image + y * middle, static_cast<size_t>(middle));
    std::memset(dst + left + middle, zero, static_cast<size_t>(bytes - left - middle));
  }
}

void StageAll(const NhwcCuts& c, const NhwcPiece& piece, uint8_t zero, std::byte* to) {
  const int64_t height = c.height();
  for (int64_t line = piece.first_line, count; line < piece.last_line; line += count) {
    const int64_t first = line % height;
    count = std::min(height - first, piece.last_line - line);
    Stage(c, piece.image + line / height * c.image_bytes(), first, first + count, zero, to);
    to += c.LinesUnder(count) * c.line_bytes();
  }
  std::memset(to, 0, 4);  // the last quad may reach past a line of bytes or BF16
}

// One step's lines and, if these are few, its share of the filters.
NhwcPiece PieceOf(const NhwcCuts& c, int64_t unit, int64_t shares) {
  const int64_t step = unit / shares, share = unit % shares;
  const int64_t image = step / c.cuts * c.together, cut = step % c.cuts;
  const int64_t last = std::min(c.images(), image + c.together);
  NhwcPiece piece;
  piece.first_group = c.groups() * share / shares;
  piece.last_group = c.groups() * (share + 1) / shares;
  piece.first_line = image * c.height() + c.height() * cut / c.cuts;
  piece.last_line = (last - 1) * c.height() + c.height() * (cut + 1) / c.cuts;
  return piece;
}

// Pixel by pixel of the longest step, from its first one.
void FillOffsets(NhwcCuts* c) {
  if (c->flat) {
    for (int64_t i = 0; i < c->flat; ++i)
      c->offsets.push_back(static_cast<int32_t>(i * c->pixel_bytes));
    return;
  }
  const int64_t lines = CeilOf(c->height(), c->cuts);
  for (int64_t i = 0; i < c->together; ++i)
    for (int64_t y = 0; y < lines; ++y)
      for (int64_t x = 0; x < c->w.out[2]; ++x)
        c->offsets.push_back(static_cast<int32_t>(i * c->read_bytes() +
                                                  y * c->w.stride[1] * c->line_bytes() +
                                                  x * c->w.stride[2] * c->pixel_bytes));
}

// Images that fit the cache together, or cuts of one that does not; as many steps for each thread,
// unless there are more filters than pixels, which the threads share then.
void FillSteps(int64_t threads, const NhwcStep& step, NhwcCuts* c) {
  const bool share = c->groups() >= threads && c->filters > c->pixels;
  const auto whole = [&](int64_t steps) {
    return share ? steps : CeilOf(steps, threads) * threads;
  };
  if (!c->staged && c->w.pointwise()) {
    const int64_t steps = whole(CeilOf(c->pixels * (c->pixel_bytes + step.per_pixel), step.bytes));
    c->together = CeilOf(CeilOf(c->pixels, steps), kFlatLine);
    c->flat = CeilOf(c->pixels, steps * c->together);
    return;
  }
  const int64_t bytes =
      c->LinesUnder(c->height()) * c->line_bytes() + c->w.out_size() * step.per_pixel;
  if (bytes <= step.bytes && c->images() >= threads) {
    c->together = CeilOf(c->images(), whole(CeilOf(c->images() * bytes, step.bytes)));
  } else {
    const int64_t steps = whole(c->images() * CeilOf(bytes, step.bytes));
    c->cuts = std::min(CeilOf(steps, c->images()), c->height());
  }
}

}  // namespace

const std::byte* NhwcCuts::LineAt(const NhwcPiece& piece, int64_t line) const {
  if (flat) return piece.image + line * flat * pixel_bytes;
  const int64_t image = line / height();
  const std::byte* base = piece.image + image * image_bytes();
  int64_t first = 0;  // in the image
  if (staged) {
    const int64_t before = image - piece.first_line / height();  // images
    base = piece.stage + before * LinesUnder(height()) * line_bytes();
    first = before == 0 ? piece.first_line % height() : 0;
  }
  return base + (line % height() - first) * w.stride[1] * line_bytes();
}

void NhwcCuts::ForEachPiece(const ThreadBudget& budget, const void* image, uint8_t zero,
                            std::byte* stages,
                            FunctionRef<void(const NhwcPiece&, int)> piece) const {
  const int64_t threads = std::max(1, budget.threads);
  const int64_t shares = std::min(groups(), CeilOf(threads, steps()));
  const int64_t units = steps() * shares;
  const int pieces = static_cast<int>(std::min(units, threads));
  budget.ParallelFor(pieces, [&](int i) {
    std::byte* stage = stages + i * static_cast<int64_t>(AlignUp(stage_bytes()));
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit) {
      NhwcPiece of = PieceOf(*this, unit, shares);
      of.image = static_cast<const std::byte*>(image);
      of.stage = stage;
      if (staged) StageAll(*this, of, zero, stage);
      piece(of, i);
    }
    if (release) release();
  });
}

void NhwcCuts::ForEachRun(const NhwcPiece& piece, const std::byte* weights, void* dst,
                          int64_t element,
                          FunctionRef<void(const NhwcRun&, int64_t, int64_t)> run) const {
  NhwcRun r{.pixel_step = w.stride[2] * pixel_bytes,
            .line = line_pixels(),
            .segments = segments.data(),
            .segment_count = static_cast<int64_t>(segments.size()),
            .quads = quads(),
            .dst_step = filters * element};
  for (int64_t group = piece.first_group; group < piece.last_group; ++group) {
    const int64_t filter = group * kFilterGroup;
    r.filters = std::min(kFilterGroup, filters - filter);
    r.weights = weights + filter * depth();
    const bool by_offsets = joins_lines || r.filters > kSteppedPanels * kPanel;
    const bool joined = joins_lines || (by_offsets && !flat);
    const int64_t lines = joined ? piece.last_line - piece.first_line : 1;
    r.offsets = by_offsets && !(joined && flat) ? offsets.data() : nullptr;
    for (int64_t line = piece.first_line; line < piece.last_line; line += lines) {
      const int64_t pixel = line * line_pixels();
      const bool brings = line == piece.first_line && group + 1 < piece.last_group;
      r.image = LineAt(piece, line);
      r.next_bytes =
          brings ? std::min(kFilterGroup, filled() - filter - kFilterGroup) * depth() : 0;
      r.next_weights = r.weights + (brings ? kFilterGroup * depth() : 0);
      r.dst = static_cast<std::byte*>(dst) + (pixel * filters + filter) * element;
      run(r, std::min(lines * line_pixels(), pixels - pixel), filter);
    }
  }
}

// Lines of a result are written, and what is added to them read, by groups of filters: the caches
// fetch what lies beside and keep it for the next group, if a step is short. But where the filters
// do not stay in the cache from step to step, few long steps read them less often.
NhwcStep NhwcStepOf(const Window& window, int64_t filters, int64_t element, int64_t result) {
  const int64_t cache = CacheBytes(), filter = window.taps() * window.channels * element;
  if (filter * filters <= cache / 2) return {cache * 9 / 20, result};
  return {std::clamp(cache * 4 / 5 - filter * kFilterGroup, cache / 4, cache * 2 / 5), 0};
}

Result<NhwcCuts> NhwcCutsOf(const Window& window, int64_t filters, int64_t element,
                            const NhwcStep& step, int threads) {
  NhwcCuts c{.w = window, .filters = filters, .pixel_bytes = window.channels * element};
  c.pixels = c.w.batch * c.w.out_size();
  const bool joined = c.w.dilation[2] == 1;  // the taps of a line lie side by side
  c.segment_bytes = (joined ? c.w.kernel[2] : 1) * c.pixel_bytes;
  const auto any = [](const int64_t(&pads)[3]) { return pads[1] != 0 || pads[2] != 0; };
  // A segment is read in quads.
  c.staged = any(c.w.begin) || any(c.w.end) || c.segment_bytes % 4 != 0;
  for (int64_t y = 0; y < c.w.kernel[1]; ++y)
    for (int64_t tap = 0; tap < (joined ? 1 : c.w.kernel[2]); ++tap)
      c.segments.push_back(y * c.w.dilation[1] * c.line_bytes() +
                           tap * c.w.dilation[2] * c.pixel_bytes);
  FillSteps(std::max(1, threads), step, &c);
  if (int64_t{INT32_MAX} < c.together * (c.flat ? c.flat * c.pixel_bytes : c.read_bytes()))
    return Unsupported("images of over 2 GiB");
  FillOffsets(&c);
  return c;
}

Result<Window> NhwcWindowOf(const KernelRequest& request, const Dims& weights) {
  if (request.inputs[0].dims.rank() != 4) return Unsupported("an image of other rank than 4");
  const Dims image = ChannelsFirst(request.inputs[0].dims),
             result = ChannelsFirst(request.outputs[0].dims);
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(Window w, WindowOf(attributes, image, result, weights.span().subspan(2)));
  MINIM_TRY(const int64_t groups, GroupsOf(attributes, image, weights));
  if (groups != 1) return Unsupported("{} groups", groups);
  if (image.Elements() == 0 || result.Elements() == 0) return Unsupported("no pixels");
  return w;
}

NhwcFilters::NhwcFilters(const NhwcCuts& cuts, int64_t element)
    : filters_(cuts.filters),
      channels_(cuts.w.channels),
      taps_(cuts.w.taps()),
      segments_(static_cast<int64_t>(cuts.segments.size())),
      segment_bytes_(cuts.segment_bytes),
      element_(element),
      filter_step_(channels_ * taps_),
      channel_step_(taps_) {}

NhwcFilters NhwcFilters::Columns(const NhwcCuts& cuts, int64_t element, int64_t row,
                                 int64_t column) {
  NhwcFilters form(cuts, element);
  form.channel_step_ = row;
  form.filter_step_ = column;
  return form;
}

template <int64_t element, typename F>
void NhwcFilters::ForEach(F f) const {
  const int64_t quads = (segment_bytes_ + 3) / 4, depth = segments_ * quads * 4;
  const int64_t filled = PanelsOf(filters_) * kPanel, together = taps_ / segments_;
  for (int64_t filter = 0; filter < filters_; ++filter) {
    const int64_t first = filter / kFilterGroup * kFilterGroup;
    const int64_t width = std::min(kFilterGroup, filled - first);
    int64_t to = first * depth + (filter - first) * 4;
    for (int64_t s = 0; s < segments_; ++s, to += quads * width * 4)
      for (int64_t i = 0, tap = s * together; tap < (s + 1) * together; ++tap)
        for (int64_t channel = 0; channel < channels_; ++channel, i += element)
          f((filter * filter_step_ + channel * channel_step_ + tap) * element,
            to + i / 4 * width * 4 + i % 4, std::integral_constant<size_t, element>());
  }
}

template <typename F>
void NhwcFilters::ForEach(F f) const {
  if (element_ == 1) return ForEach<1>(f);
  element_ == 2 ? ForEach<2>(f) : ForEach<4>(f);
}

void NhwcFilters::Pack(const void* source, std::byte* packed) const {
  const int64_t depth = segments_ * ((segment_bytes_ + 3) / 4) * 4;
  std::memset(packed, 0, static_cast<size_t>(PanelsOf(filters_) * kPanel * depth));
  ForEach([=, from = static_cast<const std::byte*>(source)](int64_t at, int64_t to, auto size) {
    std::memcpy(packed + to, from + at, size);
  });
}

void NhwcFilters::Unpack(const std::byte* packed, void* source) const {
  ForEach([=, to = static_cast<std::byte*>(source)](int64_t at, int64_t from, auto size) {
    std::memcpy(to + at, packed + from, size);
  });
}

}  // namespace minim
