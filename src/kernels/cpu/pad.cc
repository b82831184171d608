// Pad: each output index along an axis maps to a source index, or to the constant (-1).
#include <algorithm>

#include "core/shape.h"
#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

int64_t SourceIndex(std::string_view mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  if (mode == "constant" || n == 0) return -1;
  if (mode == "edge") return std::clamp<int64_t>(i, 0, n - 1);
  if (mode == "wrap") return ((i % n) + n) % n;
  if (n == 1) return 0;
  const int64_t period = 2 * (n - 1);  // reflect
  const int64_t at = ((i % period) + period) % period;
  return at < n ? at : period - at;
}

struct Plan {
  Dims out, strides;
  std::vector<std::vector<int64_t>> maps;  // per axis, element offsets or -1
  int64_t run_first = 0, run_last = 0;     // of the last axis: copied as one run
  size_t bytes = 0;
};

template <typename T>
void FillRow(const Plan& plan, const T* src, T value, bool inside, T* dst) {
  const std::vector<int64_t>& map = plan.maps.back();
  const auto n = static_cast<int64_t>(map.size());
  if (!inside) {
    std::fill_n(dst, n, value);
    return;
  }
  for (int64_t i = 0; i < plan.run_first; ++i) dst[i] = map[i] < 0 ? value : src[map[i]];
  if (plan.run_last > plan.run_first)
    std::memcpy(dst + plan.run_first, src + map[plan.run_first],
                (plan.run_last - plan.run_first) * sizeof(T));
  for (int64_t i = plan.run_last; i < n; ++i) dst[i] = map[i] < 0 ? value : src[map[i]];
}

template <typename T>
void Run(const Plan& plan, const KernelArgs& args) {
  const int rank = plan.out.rank();
  const int64_t rows = plan.out.Elements(0, rank - 1), columns = plan.out[rank - 1];
  const T* fill = In<T>(args, 2);
  const T value = fill ? *fill : T{};
  args.threads.ParallelRange(rows, 4096 / std::max<int64_t>(1, columns) + 1,
                             [&](int64_t first, int64_t last) {
                               for (int64_t row = first; row < last; ++row) {
                                 int64_t rest = row, offset = 0;
                                 bool inside = true;
                                 for (int axis = rank - 2; axis >= 0; --axis) {
                                   const int64_t at = plan.maps[axis][rest % plan.out[axis]];
                                   rest /= plan.out[axis];
                                   inside = inside && at >= 0;
                                   offset += at;
                                 }
                                 FillRow(plan, In<T>(args, 0) + (inside ? offset : 0), value,
                                         inside, Out<T>(args, 0) + row * columns);
                               }
                             });
}

Result<Plan> MakePlan(const KernelRequest& request) {
  const Attributes& attributes = AttributesOf(request);
  const Dims& in = request.inputs[0].dims;
  std::vector<int64_t> pads = attributes.Ints("pads"), axes;
  if (HasInput(request, 1)) {
    MINIM_TRY(pads, ConstantInts(request, 1));
  }
  if (HasInput(request, 3)) {
    MINIM_TRY(axes, ConstantInts(request, 3));
  } else {
    for (int i = 0; i < in.rank(); ++i) axes.push_back(i);
  }
  if (pads.size() != 2 * axes.size())
    return Unsupported("{} pads for {} axes", pads.size(), axes.size());
  const std::string mode = attributes.String("mode", "constant");
  Plan plan{.out = request.outputs[0].dims, .strides = RowMajorStrides(in)};
  std::vector<int64_t> before(in.rank(), 0);
  for (size_t i = 0; i < axes.size(); ++i) before[NormalAxis(axes[i], in.rank())] = pads[i];
  for (int axis = 0; axis < in.rank(); ++axis) {
    std::vector<int64_t> map(plan.out[axis]);
    for (int64_t i = 0; i < plan.out[axis]; ++i) {
      const int64_t at = SourceIndex(mode, i - before[axis], in[axis]);
      map[i] = at < 0 ? -1 : at * plan.strides[axis];
    }
    plan.maps.push_back(std::move(map));
  }
  if (in.rank() > 0) {
    const int last = in.rank() - 1;
    plan.run_first = std::clamp<int64_t>(before[last], 0, plan.out[last]);
    plan.run_last = std::clamp<int64_t>(before[last] + in[last], plan.run_first, plan.out[last]);
  }
  return plan;
}

}  // namespace

BindResult PadAny(const KernelRequest& request) {
  if (request.inputs[0].dims.rank() == 0) return Unsupported("a scalar");
  MINIM_TRY(Plan plan, MakePlan(request));
  const size_t bytes = SizeOf(request.inputs[0].dtype);
  return MakeKernel("pad", [plan = std::move(plan), bytes](const KernelArgs& args) {
    switch (bytes) {
      case 1: return Run<uint8_t>(plan, args);
      case 2: return Run<uint16_t>(plan, args);
      case 4: return Run<uint32_t>(plan, args);
      default: return Run<uint64_t>(plan, args);
    }
  });
}

}  // namespace minim
