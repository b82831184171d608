// GroupNorm: statistics of a group's channels over a whole image, then each channel's scale and
// shift and perhaps SiLU. Sums are made block by block, in an order that no thread count changes.
#include "kernels/cpu/group_norm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

constexpr int64_t kGrain = 32768;  // elements that are worth a thread
constexpr int64_t kWidth = 64;     // of the rows that a plane is summed in
constexpr int64_t kBlockRows = 256;

struct GroupNormShape {
  int64_t images, pixels, channels, groups;
  float epsilon;
  bool silu;

  int64_t group_channels() const { return channels / groups; }
  double group_size() const {
    return static_cast<double>(std::max<int64_t>(1, pixels * group_channels()));
  }
  float Inverse(double squares) const {
    return static_cast<float>(1 / std::sqrt(squares / group_size() + static_cast<double>(epsilon)));
  }
};

template <typename T>
struct ChannelsLast {
  GroupNormShape s;
  GroupNormFunctions<T> functions;
  void (*sum)(const float* x, int64_t rows, int64_t channels, float* sums);

  // Pixels that are summed before their sums meet others'.
  int64_t block() const {
    return std::clamp<int64_t>(8192 / std::max<int64_t>(1, s.channels), 32, kBlockRows) / 8 * 8;
  }
  int64_t blocks() const { return (s.pixels + block() - 1) / block(); }
  size_t piece_bytes() const { return AlignUp((blocks() + 3) * s.channels * sizeof(float)); }

  // f(first pixel, count, block) over the threads.
  template <typename F>
  void EachBlock(const ThreadBudget& threads, F&& f) const {
    const int64_t step = block();
    threads.ParallelRange(blocks(), kGrain / std::max<int64_t>(1, step * s.channels) + 1,
                          [&](int64_t first, int64_t last) {
                            for (int64_t b = first; b < last; ++b)
                              f(b * step, std::min(step, s.pixels - b * step), b);
                          });
  }

  // value(sum over its channels) of each group, for each of its channels.
  template <typename F>
  void SpreadOverGroups(const float* partials, float* sums, float* spread, F&& value) const {
    sum(partials, blocks(), s.channels, sums);
    for (int64_t c = 0; c < s.channels; c += s.group_channels()) {
      const float* first = sums + c;
      const float result =
          static_cast<float>(value(std::accumulate(first, first + s.group_channels(), 0.0)));
      std::fill_n(spread + c, s.group_channels(), result);
    }
  }

  void RunImage(const KernelArgs& args, const ThreadBudget& threads, int64_t image,
                float* piece) const {
    const T* x = In<T>(args, 0) + image * s.pixels * s.channels;
    T* y = Out<T>(args, 0) + image * s.pixels * s.channels;
    const float *gamma = In<float>(args, 1), *beta = In<float>(args, 2);
    float *partials = piece, *sums = partials + blocks() * s.channels, *center = sums + s.channels,
          *scale = center + s.channels;
    EachBlock(threads, [&](int64_t pixel, int64_t count, int64_t b) {
      functions.sum(x + pixel * s.channels, count, s.channels, partials + b * s.channels);
    });
    SpreadOverGroups(partials, sums, center, [&](double total) { return total / s.group_size(); });
    EachBlock(threads, [&](int64_t pixel, int64_t count, int64_t b) {
      functions.square_deviations(x + pixel * s.channels, center, count, s.channels,
                                  partials + b * s.channels);
    });
    SpreadOverGroups(partials, sums, scale, [&](double total) { return s.Inverse(total); });
    for (int64_t c = 0; c < s.channels; ++c) scale[c] *= gamma[c];
    EachBlock(threads, [&](int64_t pixel, int64_t count, int64_t) {
      functions.normalize(x + pixel * s.channels, center, scale, beta, s.silu, count, s.channels,
                          y + pixel * s.channels);
    });
  }

  void Run(const KernelArgs& args) const {
    if (s.images >= args.threads.threads)
      return RunUnits(args.threads, args.scratch, s.images, piece_bytes(),
                      [&](int64_t image, float* piece) { RunImage(args, {}, image, piece); });
    for (int64_t image = 0; image < s.images; ++image)
      RunImage(args, args.threads, image, static_cast<float*>(args.scratch));
  }
};

template <typename T>
struct ChannelsFirst {
  GroupNormShape s;
  GroupNormFunctions<T> functions;

  // Of n values by sums(values, rows, width, to).
  template <typename F>
  static double Total(const T* x, int64_t n, F&& sums) {
    double total = 0;
    float some[kWidth];
    const auto add = [&](int64_t first, int64_t rows, int64_t width) {
      sums(x + first, rows, width, some);
      total = std::accumulate(some, some + width, total);
    };
    const int64_t rows = n / kWidth;
    for (int64_t row = 0; row < rows; row += kBlockRows)
      add(row * kWidth, std::min(kBlockRows, rows - row), kWidth);
    if (n % kWidth) add(rows * kWidth, 1, n % kWidth);
    return total;
  }

  void RunGroup(const KernelArgs& args, int64_t index) const {
    const int64_t channel = index % s.groups * s.group_channels(),
                  n = s.group_channels() * s.pixels;
    const T* x = In<T>(args, 0) + index * n;
    T* y = Out<T>(args, 0) + index * n;
    float center[kWidth];
    std::fill_n(center, kWidth, static_cast<float>(Total(x, n, functions.sum) / s.group_size()));
    const float inverse =
        s.Inverse(Total(x, n, [&](const T* values, int64_t rows, int64_t width, float* sums) {
          functions.square_deviations(values, center, rows, width, sums);
        }));
    for (int64_t c = 0; c < s.group_channels(); ++c)
      functions.normalize_plane(
          x + c * s.pixels, center[0], inverse * In<float>(args, 1)[channel + c],
          In<float>(args, 2)[channel + c], s.silu, s.pixels, y + c * s.pixels);
  }

  void Run(const KernelArgs& args) const {
    args.threads.ParallelRange(s.images * s.groups,
                               kGrain / std::max<int64_t>(1, s.group_channels() * s.pixels) + 1,
                               [&](int64_t first, int64_t last) {
                                 for (int64_t i = first; i < last; ++i) RunGroup(args, i);
                               });
  }
};

template <typename T>
BindResult Bind(const KernelRequest& request, const GroupNormLevel& level,
                const GroupNormFunctions<T>& functions) {
  MINIM_TRY(RequireInputs(request, 1, 3, DType::f32));
  const Attributes& attributes = AttributesOf(request);
  const Dims& x = request.inputs[0].dims;
  const bool last = attributes.Int("channels_last", 1) != 0;
  const int64_t channels = x[last ? x.rank() - 1 : 1];
  const GroupNormShape s{.images = x[0],
                         .pixels = last ? x.Elements(1, x.rank() - 1) : x.Elements(2, x.rank()),
                         .channels = channels,
                         .groups = attributes.Int("groups", 1),
                         .epsilon = attributes.Float("epsilon", 1e-5f),
                         .silu = attributes.Int("activation", 0) != 0};
  const std::string name = fmt::format("group norm{}, {}{}", s.silu ? " and silu" : "",
                                       last ? "channels last, " : "", level.name);
  if (!last) {
    const ChannelsFirst<T> run{s, functions};
    return MakeKernel(name, [=](const KernelArgs& args) { run.Run(args); }, 0, {0});
  }
  const ChannelsLast<T> run{s, functions, level.f32.sum};
  const int64_t pieces = std::min<int64_t>(s.images, request.threads);
  return MakeKernel(name, [=](const KernelArgs& args) { run.Run(args); },
                    pieces * run.piece_bytes(), {0});
}

BindResult BindLevel(const KernelRequest& request, const GroupNormLevel& level) {
  return request.inputs[0].dtype == DType::bf16 ? Bind(request, level, level.bf16)
                                                : Bind(request, level, level.f32);
}

}  // namespace

BindResult GroupNormOfAvx512(const KernelRequest& request) {
  return BindLevel(request, GroupNormAvx512());
}
BindResult GroupNormOfAvx2(const KernelRequest& request) {
  return BindLevel(request, GroupNormAvx2());
}
BindResult GroupNormOfPortable(const KernelRequest& request) {
  return BindLevel(request, GroupNormPortable());
}

}  // namespace minim
