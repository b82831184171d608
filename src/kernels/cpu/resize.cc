// Resize: along each axis an output place is a weighted sum of a few input places, in FP32; or one
// of them, whose element of any type is copied.
#include <algorithm>
#include <cstdint>

#include "core/resample.h"
#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

// One axis, in the middle of [outer, in or out, inner].
struct Pass {
  int64_t outer = 1, in = 1, out = 1, inner = 1;
  std::vector<int64_t> begin;  // of an output place's taps; one more than there are places
  std::vector<int64_t> places;
  std::vector<float> weights;
  bool copies = true;  // every place is one input place
};

struct Plan {
  std::vector<Pass> passes;
  int64_t elements = 0;  // of the result
  float outside = 0;     // where no input place is near
  int64_t buffer = 0;    // elements of a result between two passes

  bool copies() const {
    return std::all_of(passes.begin(), passes.end(), [](const Pass& p) { return p.copies; });
  }
};

// Every value of a line of places lies alone.
template <typename T>
void ResizeLine(const Pass& p, const T* x, [[maybe_unused]] float outside, T* y) {
  if (p.copies) {
    for (int64_t i = 0; i < p.out; ++i) y[i] = x[p.places[i]];
    return;
  }
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = 0; i < p.out; ++i) {
      float sum = p.begin[i] == p.begin[i + 1] ? outside : 0;
      for (int64_t t = p.begin[i]; t < p.begin[i + 1]; ++t) sum += p.weights[t] * x[p.places[t]];
      y[i] = sum;
    }
  }
}

// One output place of whole rows.
template <typename T>
void ResizeRow(const Pass& p, const T* x, [[maybe_unused]] float outside, int64_t place, T* y) {
  const int64_t first = p.begin[place], n = p.inner;
  if (p.copies) return std::copy_n(x + p.places[first] * n, n, y), void();
  if constexpr (std::is_same_v<T, float>) {
    const int64_t last = p.begin[place + 1];
    if (first == last) return std::fill_n(y, n, outside), void();
    const float* row = x + p.places[first] * n;
    for (int64_t i = 0; i < n; ++i) y[i] = p.weights[first] * row[i];
    for (int64_t t = first + 1; t < last; ++t) {
      const float weight = p.weights[t];
      row = x + p.places[t] * n;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) y[i] += weight * row[i];
    }
  }
}

template <typename T>
void RunPass(const Pass& p, const KernelArgs& args, const T* x, float outside, T* y) {
  const int64_t rows = p.inner == 1 ? p.outer : p.outer * p.out;
  const int64_t work = p.inner == 1 ? p.out : p.inner;
  args.threads.ParallelRange(rows, 16384 / work + 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      if (p.inner == 1)
        ResizeLine(p, x + row * p.in, outside, y + row * p.out);
      else
        ResizeRow(p, x + row / p.out * p.in * p.inner, outside, row % p.out, y + row * p.inner);
    }
  });
}

template <typename T>
void Run(const Plan& plan, const KernelArgs& args) {
  if (plan.elements == 0) return;
  const T* x = In<T>(args, 0);
  T* result = Out<T>(args, 0);
  if (plan.passes.empty()) std::copy_n(x, plan.elements, result);
  for (size_t i = 0; i < plan.passes.size(); ++i) {
    T* y = i + 1 == plan.passes.size()
               ? result
               : static_cast<T*>(args.scratch) + static_cast<int64_t>(i % 2) * plan.buffer;
    RunPass(plan.passes[i], args, x, plan.outside, y);
    x = y;
  }
}

Result<std::vector<double>> ConstantDoubles(const KernelRequest& request, size_t input) {
  if (!HasInput(request, input)) return std::vector<double>();
  const TensorDesc& desc = request.inputs[input];
  const int64_t n = desc.dims.Elements();
  if (n > 0 && desc.constant == nullptr)
    return Unsupported("input {} is not known at binding", input);
  Tensor wide(DType::f64, desc.dims);
  if (n > 0) ConvertElements(desc.ConstantView(), wide.view());
  return std::vector<double>(wide.as<double>().begin(), wide.as<double>().end());
}

Result<std::vector<resample::AxisPlan>> AxesOf(const KernelRequest& request) {
  const Attributes& attributes = AttributesOf(request);
  const Dims& x = request.inputs[0].dims;
  MINIM_TRY(const std::vector<double> roi, ConstantDoubles(request, 1));
  MINIM_TRY(const std::vector<double> scales, ConstantDoubles(request, 2));
  MINIM_TRY(const std::vector<double> sizes, ConstantDoubles(request, 3));
  const std::vector<resample::Target> targets =
      sizes.empty() ? resample::TargetsFromScales(attributes, x, scales)
                    : resample::TargetsFromSizes(attributes, x, {sizes.begin(), sizes.end()});
  return resample::ResizePlans(attributes, x, targets, roi);
}

Pass PassOf(const resample::AxisPlan& axis, const Dims& dims) {
  Pass pass{.outer = dims.Elements(0, axis.axis),
            .in = axis.in,
            .out = axis.out,
            .inner = dims.Elements(axis.axis + 1, dims.rank()),
            .begin = {0}};
  for (const std::vector<resample::Tap>& taps : axis.taps) {
    pass.copies = pass.copies && taps.size() == 1 && taps[0].weight == 1;
    for (const resample::Tap& tap : taps) {
      pass.places.push_back(tap.place);
      pass.weights.push_back(static_cast<float>(tap.weight));
    }
    pass.begin.push_back(static_cast<int64_t>(pass.places.size()));
  }
  return pass;
}

Result<Plan> PlanOf(const KernelRequest& request) {
  MINIM_TRY(std::vector<resample::AxisPlan> axes, AxesOf(request));
  Plan plan{.elements = request.outputs[0].dims.Elements(),
            .outside = AttributesOf(request).Float("extrapolation_value", 0)};
  // Those that grow least come first: what follows works on less.
  std::stable_sort(axes.begin(), axes.end(), [](const auto& a, const auto& b) {
    return a.out * b.in < b.out * a.in || (a.out * b.in == b.out * a.in && a.axis > b.axis);
  });
  Dims dims = request.inputs[0].dims;
  for (const resample::AxisPlan& axis : axes) {
    plan.passes.push_back(PassOf(axis, dims));
    dims[axis.axis] = axis.out;
    if (plan.passes.size() < axes.size()) plan.buffer = std::max(plan.buffer, dims.Elements());
  }
  if (dims != request.outputs[0].dims)
    return Unsupported("result {}, expected {}", request.outputs[0].dims.ToString(),
                       dims.ToString());
  return plan;
}

template <typename T>
BindResult Make(Plan plan) {
  const size_t scratch = plan.buffer * sizeof(T) * std::min<size_t>(2, plan.passes.size());
  std::string name =
      fmt::format("resize{}, {} passes", plan.copies() ? " by copies" : "", plan.passes.size());
  return MakeKernel(
      std::move(name), [plan = std::move(plan)](const KernelArgs& args) { Run<T>(plan, args); },
      scratch);
}

}  // namespace

BindResult ResizeCopies(const KernelRequest& request) {
  MINIM_TRY(Plan plan, PlanOf(request));
  if (!plan.copies()) return Unsupported("sums of several places");
  switch (request.inputs[0].dtype) {
    case DType::f32:
    case DType::i32: return Make<uint32_t>(std::move(plan));
    case DType::f16:
    case DType::bf16: return Make<uint16_t>(std::move(plan));
    case DType::u8:
    case DType::i8: return Make<uint8_t>(std::move(plan));
    default: return Unsupported("dtype {}", Name(request.inputs[0].dtype));
  }
}

BindResult ResizeF32(const KernelRequest& request) {
  MINIM_TRY(Plan plan, PlanOf(request));
  return Make<float>(std::move(plan));
}

}  // namespace minim
