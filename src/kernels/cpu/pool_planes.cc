// Pools over one or two spatial axes, a vector of outputs at a time: FP32, and the maximum of
// bytes.
#include <algorithm>
#include <limits>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/max_pool_rows.h"
#include "kernels/cpu/plane_window.h"

namespace minim {
namespace {

struct Plan {
  Window w;
  ImageStage stage;
  int64_t block = 1;  // output rows staged together
  size_t piece_bytes = 0;
};

Result<Plan> PlanOf(const KernelRequest& request, DType dtype) {
  MINIM_TRY(RequireInputs(request, 0, 1, dtype));
  if (HasOutput(request, 1)) return Unsupported("indices are asked for");
  const Dims& x = request.inputs[0].dims;
  if (x.rank() > 4) return Unsupported("three spatial axes");
  Plan p;
  MINIM_TRY(p.w, WindowOf(AttributesOf(request), x, request.outputs[0].dims, {}));
  p.stage = ImageStage(p.w, kPanel);
  p.block = PlaneBlock(p.stage, p.w.out[1]);
  p.piece_bytes = AlignUp(p.stage.FloatsFor(1, p.block) * sizeof(float));
  return p;
}

// Calls f(plane, scratch) for every plane.
template <typename F>
void ForEachPlane(const Plan& p, const KernelArgs& args, F&& f) {
  const int64_t planes = p.w.batch * p.w.channels;
  const int64_t grain = 20000 / std::max<int64_t>(1, p.w.out_size() * p.w.taps()) + 1;
  const int64_t most = std::min<int64_t>((planes + grain - 1) / grain, args.threads.threads);
  const int pieces = static_cast<int>(most);
  args.threads.ParallelFor(pieces, [&](int i) {
    auto* scratch =
        reinterpret_cast<float*>(static_cast<std::byte*>(args.scratch) + i * p.piece_bytes);
    for (int64_t plane = planes * i / pieces; plane < planes * (i + 1) / pieces; ++plane)
      f(plane, scratch);
  });
}

template <typename F>
void ForEachBlock(const Plan& p, const KernelArgs& args, float padding, F&& f) {
  ForEachPlane(p, args, [&](int64_t plane, float* staged) {
    ForEachPlaneBlock(p.w, p.stage, p.block, In<float>(args, 0) + plane * p.w.in_size(), padding,
                      staged, Out<float>(args, 0) + plane * p.w.out_size(), f);
  });
}

// Line by line: what lies under a window, first down, then across.
template <typename T>
BindResult MaxPoolByLines(const KernelRequest& request) {
  MINIM_TRY(Plan p, PlanOf(request, kDTypeOf<T>));
  p.piece_bytes = AlignUp((MaxPoolLine(p.w) + kMaxPoolSlack) * sizeof(T));
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      "max pool by lines avx2",
      [p = std::move(p)](const KernelArgs& args) {
        ForEachPlane(p, args, [&](int64_t plane, float* line) {
          MaxPoolPlaneAvx2(p.w, In<T>(args, 0) + plane * p.w.in_size(), reinterpret_cast<T*>(line),
                           Out<T>(args, 0) + plane * p.w.out_size());
        });
      },
      scratch);
}

// What the sum at each place of an axis is divided by; never 0, as an empty sum is 0 itself.
std::vector<float> CountsOf(const Window& w, int axis, bool include_pad) {
  std::vector<float> counts(w.out[axis] + kPanel, 1);
  const int64_t low = include_pad ? -w.begin[axis] : 0;
  const int64_t high = w.in[axis] + (include_pad ? w.end[axis] : 0);
  for (int64_t i = 0; i < w.out[axis]; ++i) {
    int64_t count = 0;
    for (int64_t k = 0; k < w.kernel[axis]; ++k) {
      const int64_t at = i * w.stride[axis] - w.begin[axis] + k * w.dilation[axis];
      count += at >= low && at < high;
    }
    counts[i] = static_cast<float>(std::max<int64_t>(1, count));
  }
  return counts;
}

}  // namespace

BindResult MaxPoolAvx2(const KernelRequest& request) {
  MINIM_TRY(Plan p, PlanOf(request, DType::f32));
  if (AreHalves(p.w))
    return MakeKernel("max pool of halves avx2", [p = std::move(p)](const KernelArgs& args) {
      ForEachPlane(p, args, [&](int64_t plane, float*) {
        MaxPoolHalvesAvx2(p.w, In<float>(args, 0) + plane * p.w.in_size(),
                          Out<float>(args, 0) + plane * p.w.out_size());
      });
    });
  const bool pairs = p.w.stride[2] == 2 && p.w.dilation[2] == 1;
  if (pairs && (p.w.kernel[2] == 2 || p.w.kernel[2] == 3)) return MaxPoolByLines<float>(request);
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      "max pool avx2",
      [p = std::move(p)](const KernelArgs& args) {
        ForEachBlock(p, args, -std::numeric_limits<float>::infinity(),
                     [](const PlaneRows& rows, int64_t) { PlanesAvx2().max(rows); });
      },
      scratch);
}

BindResult MaxPoolU8Avx2(const KernelRequest& request) { return MaxPoolByLines<uint8_t>(request); }
BindResult MaxPoolS8Avx2(const KernelRequest& request) { return MaxPoolByLines<int8_t>(request); }

BindResult AveragePoolAvx2(const KernelRequest& request) {
  MINIM_TRY(Plan p, PlanOf(request, DType::f32));
  const bool include_pad = AttributesOf(request).Int("count_include_pad", 0) != 0;
  std::vector<float> rows = CountsOf(p.w, 1, include_pad), columns = CountsOf(p.w, 2, include_pad);
  const size_t scratch = p.piece_bytes * std::max(1, request.threads);
  return MakeKernel(
      "average pool avx2",
      [p = std::move(p), rows = std::move(rows),
       columns = std::move(columns)](const KernelArgs& args) {
        ForEachBlock(p, args, 0, [&](const PlaneRows& plane, int64_t y) {
          PlanesAvx2().average(plane, rows.data() + y, columns.data());
        });
      },
      scratch);
}

}  // namespace minim
