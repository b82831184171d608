// MaxUnpool: puts what MaxPool kept back where it was, zeros elsewhere.
#include "ops/movement.h"
#include "ops/window.h"

namespace minim::ops {
namespace {

// The size that the pool read, by which the indices count.
Result<Dims> PooledFrom(const Attributes& a, const Dims& x) {
  const Dims kernel(a.Ints("kernel_shape"));
  MINIM_TRY(const Window w, MakeWindow(a, kernel, Spatial(x)));
  Dims dims({x[0], x[1]});
  for (int i = 0; i < w.rank(); ++i) {
    const int64_t size = (x[i + 2] - 1) * w.strides[i] - w.begins[i] - w.ends[i] + kernel[i];
    dims.push_back(std::max<int64_t>(0, size));
  }
  return dims;
}

Status Infer(InferContext& op) {
  const TensorType& x = op.input(0);
  const std::vector<int64_t> kernel = op.attributes().Ints("kernel_shape");
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (x.rank() < 3 || static_cast<int>(kernel.size()) != x.rank() - 2)
    return op.Error("kernel_shape has {} values for shape {}", kernel.size(), ToString(*x.shape));
  for (int64_t size : kernel)
    if (size < 1 || size > INT32_MAX)
      return op.Error("kernel_shape holds {}, expected 1 or more", size);
  if (op.input(1).ranked() && op.input(1).shape->size() != x.shape->size())
    return op.Error("indices have shape {}, expected {}", ToString(*op.input(1).shape),
                    ToString(*x.shape));
  std::optional<Dims> pooled;
  if (x.Static()) {
    auto dims = PooledFrom(op.attributes(), x.dims());
    if (!dims.ok()) return op.Error("{}", dims.status().message());
    pooled = *dims;
  }
  if (!op.has_input(2))
    return op.SetOutput(0, x.dtype, pooled ? ToShape(*pooled) : Shape(x.rank()));
  const auto given = op.IntsInput(2);
  if (!given) return op.SetOutput(0, x.dtype, Shape(x.rank()));
  if (static_cast<int>(given->size()) != x.rank())
    return op.Error("output_shape has {} values for shape {}", given->size(), ToString(*x.shape));
  for (int i = 0; i < x.rank(); ++i)
    if ((*given)[i] < (pooled ? (*pooled)[i] : 0) || (*given)[i] > INT32_MAX)
      return op.Error("output_shape holds {}, too small for shape {}", (*given)[i],
                      ToString(*x.shape));
  return op.SetOutput(0, x.dtype, Shape(given->begin(), given->end()));
}

// A larger output_shape is filled from its first corner.
Status Reference(RefContext& op) {
  MINIM_TRY(const Dims pooled, PooledFrom(op.attributes(), op.dims(0)));
  RefTensor& y = op.Output(0);
  std::vector<int64_t> sources(pooled.Elements(), -1);
  const std::vector<int64_t> indices = op.Ints(1);
  if (op.input(1).size() != op.input(0).size())
    return op.Error("{} indices for {} elements", indices.size(), op.input(0).size());
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= pooled.Elements())
      return op.Error("index {} is outside {}", indices[i], pooled.ToString());
    sources[indices[i]] = static_cast<int64_t>(i);
  }
  const Dims strides = RowMajorStrides(pooled);
  CopyElements(op.input(0), y, [&](const Dims& at) -> int64_t {
    for (int i = 0; i < at.rank(); ++i)
      if (at[i] >= pooled[i]) return -1;
    return sources[OffsetOf(at, strides)];
  });
  return {};
}

Status Gradient(GradContext& g) {
  const Dims x = g.type(g.input(0)).dims();
  MINIM_TRY(const Dims pooled, PooledFrom(g.attributes(), x));
  std::vector<int64_t> starts(x.rank(), 0), axes;
  for (int i = 0; i < x.rank(); ++i) axes.push_back(i);
  const ValueId dy = g.Slice(g.output_grad(0), starts, {pooled.begin(), pooled.end()}, axes);
  g.SetInputGrad(0, g.Emit("Gather", {g.Reshape(dy, Dims({pooled.Elements()})), g.input(1)}));
  return {};
}

}  // namespace

OpDef MaxUnpool() {
  return {.name = "MaxUnpool",
          .onnx_since = {9, 11, 22},
          .min_inputs = 2,
          .max_inputs = 3,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .gradient = Gradient,
          .reference = Reference,
          .samples =
              "MaxUnpool(x: f32[1,1,2,2], i: i64[1,1,2,2] = [1,3,8,15]) {kernel_shape=[2,2], "
              "strides=[2,2]}\n"
              "MaxUnpool(x: f32[1,1,2,2], i: i64[1,1,2,2] = [1,3,8,15], s: i64[4] = [1,1,5,6]) "
              "{kernel_shape=[2,2], strides=[2,2]}\n"
              "MaxUnpool(x: f16[1,2,2], i: i64[1,2,2] = [0,2,3,5]) {kernel_shape=[3], "
              "strides=[2], pads=[1,1]}\n"};
}

}  // namespace minim::ops
