// Gather, GatherElements, GatherND.
#include "ops/movement.h"

namespace minim::ops {
namespace {

Status CheckIndexType(const InferContext& op, int input) {
  const DType dtype = op.input(input).dtype;
  if (dtype == DType::i64 || dtype == DType::i32) return {};
  return op.Error("indices are {}, expected i64 or i32", Name(dtype));
}

// A negative index counts from the end; one outside the axis is an error of the data.
Result<int64_t> Wrapped(const RefContext& op, int64_t index, int64_t size) {
  if (index < -size || index >= size)
    return op.Error("index {} is outside [{}, {})", index, -size, size);
  return index < 0 ? index + size : index;
}

Status InferGather(InferContext& op) {
  MINIM_TRY(CheckIndexType(op, 1));
  const TensorType &x = op.input(0), &indices = op.input(1);
  if (!x.ranked() || !indices.ranked()) return op.SetUnknown(0, x.dtype);
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 0), x.rank()));
  Shape shape(x.shape->begin(), x.shape->begin() + axis);
  shape.insert(shape.end(), indices.shape->begin(), indices.shape->end());
  shape.insert(shape.end(), x.shape->begin() + axis + 1, x.shape->end());
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status GatherReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const int axis = Positive(op.attributes().Int("axis", 0), x.rank());
  std::vector<int64_t> indices = op.Ints(1);
  for (int64_t& index : indices) {
    MINIM_TRY(index, Wrapped(op, index, x[axis]));
  }
  const int64_t inner = x.Elements(axis + 1, x.rank());
  const auto count = static_cast<int64_t>(indices.size());
  RefTensor& y = op.Output(0);
  int64_t flat = 0;
  CopyElements(op.input(0), y, [&](const Dims&) {
    const int64_t i = flat++;
    return (i / (inner * count) * x[axis] + indices[i / inner % count]) * inner + i % inner;
  });
  return {};
}

// With the axis first: rows of dy are added to the rows that the indices name.
Status GatherGradient(GradContext& g) {
  const Dims x = g.type(g.input(0)).dims();
  const int64_t count = g.type(g.input(1)).dims().Elements();
  const int axis = Positive(g.attributes().Int("axis", 0), x.rank());
  const int64_t outer = x.Elements(0, axis), inner = x.Elements(axis + 1, x.rank());
  ValueId dy = g.Reshape(g.output_grad(0), Dims({outer, count, inner}));
  if (outer != 1) dy = g.Transpose(dy, {1, 0, 2});
  const ValueId zeros =
      g.Emit("Expand", {g.Scalar(0, g.dtype(dy)), g.Ints({x[axis], outer * inner})});
  const ValueId rows = g.Emit("ScatterND",
                              {zeros, g.Reshape(g.Cast(g.input(1), DType::i64), Dims({count, 1})),
                               g.Reshape(dy, Dims({count, outer * inner}))},
                              {{"reduction", std::string("add")}});
  ValueId dx = g.Reshape(rows, Dims({x[axis], outer, inner}));
  if (outer != 1) dx = g.Transpose(dx, {1, 0, 2});
  g.SetInputGrad(0, g.Reshape(dx, x));
  return {};
}

Status InferGatherElements(InferContext& op) {
  MINIM_TRY(CheckIndexType(op, 1));
  const TensorType &x = op.input(0), &indices = op.input(1);
  if (x.ranked()) {
    MINIM_TRY(op.HasRank(1, x.rank()));
    MINIM_TRY(op.Axis(op.attributes().Int("axis", 0), x.rank()).status());
  }
  if (!indices.ranked()) return op.SetUnknown(0, x.dtype);
  return op.SetOutput(0, x.dtype, *indices.shape);
}

Status GatherElementsReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const int axis = Positive(op.attributes().Int("axis", 0), x.rank());
  std::vector<int64_t> indices = op.Ints(1);
  for (int64_t& index : indices) {
    MINIM_TRY(index, Wrapped(op, index, x[axis]));
  }
  const Dims strides = RowMajorStrides(x);
  RefTensor& y = op.Output(0);
  for (int i = 0; i < x.rank(); ++i)
    if (i != axis && y.dims()[i] > x[i])
      return op.Error("indices {} reach past {} on axis {}", y.dims().ToString(), x.ToString(), i);
  int64_t flat = 0;
  CopyElements(op.input(0), y, [&](const Dims& at) {
    return OffsetOf(at, strides) + (indices[flat++] - at[axis]) * strides[axis];
  });
  return {};
}

Status GatherElementsGradient(GradContext& g) {
  g.SetInputGrad(
      0, g.Emit("ScatterElements", {g.ZerosLike(g.input(0)), g.input(1), g.output_grad(0)},
                {{"axis", g.attributes().Int("axis", 0)}, {"reduction", std::string("add")}}));
  return {};
}

Status InferGatherND(InferContext& op) {
  MINIM_TRY(CheckIndexType(op, 1));
  const TensorType &x = op.input(0), &indices = op.input(1);
  if (!x.ranked() || !indices.ranked()) return op.SetUnknown(0, x.dtype);
  const int64_t batch = op.attributes().Int("batch_dims", 0);
  if (indices.rank() == 0 || batch < 0 || batch >= std::min(x.rank(), indices.rank()))
    return op.Error("batch_dims {} does not fit shapes {} and {}", batch, ToString(*x.shape),
                    ToString(*indices.shape));
  const Dim& depth = indices.shape->back();
  if (!depth.known()) return op.SetUnknown(0, x.dtype);
  if (depth.value() < 1 || batch + depth.value() > x.rank())
    return op.Error("indices hold {} coordinates for shape {}", depth.value(), ToString(*x.shape));
  Shape shape(indices.shape->begin(), indices.shape->end() - 1);
  shape.insert(shape.end(), x.shape->begin() + batch + depth.value(), x.shape->end());
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status GatherNDReference(RefContext& op) {
  const Dims &x = op.dims(0), &at = op.dims(1);
  const int batch = static_cast<int>(op.attributes().Int("batch_dims", 0));
  const int64_t depth = at[at.rank() - 1];
  const int first = batch + static_cast<int>(depth);
  const int64_t inner = x.Elements(first, x.rank()), batches = x.Elements(0, batch);
  const int64_t picks = at.Elements(0, at.rank() - 1);
  const std::vector<int64_t> coordinates = op.Ints(1);
  std::vector<int64_t> starts(picks);
  for (int64_t p = 0; p < picks; ++p) {
    starts[p] = p / std::max<int64_t>(1, picks / std::max<int64_t>(1, batches));
    for (int64_t d = 0; d < depth; ++d) {
      const int64_t size = x[batch + static_cast<int>(d)];
      MINIM_TRY(const int64_t index, Wrapped(op, coordinates[p * depth + d], size));
      starts[p] = starts[p] * size + index;
    }
  }
  int64_t flat = 0;
  CopyElements(op.input(0), op.Output(0), [&](const Dims&) {
    const int64_t i = flat++;
    return starts[i / inner] * inner + i % inner;
  });
  return {};
}

// Batch coordinates become ordinary ones, so that one ScatterND adds everything back.
Status GatherNDGradient(GradContext& g) {
  const int64_t batch = g.attributes().Int("batch_dims", 0);
  ValueId indices = g.Cast(g.input(1), DType::i64);
  if (batch > 0) {
    Dims dims = g.type(indices).dims();
    dims[dims.rank() - 1] = batch;
    Tensor prefix(DType::i64, dims);
    ForEachIndex(dims, [&](int64_t flat, const Dims& at) {
      prefix.as<int64_t>()[flat] = at[static_cast<int>(at[dims.rank() - 1])];
    });
    indices = g.Emit("Concat", {g.Constant(prefix), indices}, {{"axis", int64_t{-1}}});
  }
  g.SetInputGrad(0, g.Emit("ScatterND", {g.ZerosLike(g.input(0)), indices, g.output_grad(0)},
                           {{"reduction", std::string("add")}}));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, std::function<Status(InferContext&)> infer,
             std::function<Status(RefContext&)> reference,
             std::function<Status(GradContext&)> gradient, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = std::move(infer),
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .traits = OpTrait::kStrings,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> GatherOps() {
  return {
      Define("Gather", {1, 11, 13}, InferGather, GatherReference, GatherGradient,
             "Gather(x: f32[4,3], i: i64[2,2] = [0,-1,2,2])\n"
             "Gather(x: f32[2,4,3], i: i32[3] = [3,1,1]) {axis=1}\n"
             "Gather(x: f32[2,4], i: i64 = [1]) {axis=-1}\n"
             "Gather(x: i8[4,2], i: i64[0] = [])\nGather(x: bool[4], i: i64[2] = [0,3])\n"),
      Define("GatherElements", {11, 13}, InferGatherElements, GatherElementsReference,
             GatherElementsGradient,
             "GatherElements(x: f32[3,4], i: i64[2,4] = [0,1,2,-1,2,2,0,0])\n"
             "GatherElements(x: f32[3,4], i: i32[3,2] = [0,1,2,-1,3,3]) {axis=-1}\n"
             "GatherElements(x: u8[3], i: i64[0] = [])\n"),
      Define("GatherND", {11, 12, 13}, InferGatherND, GatherNDReference, GatherNDGradient,
             "GatherND(x: f32[2,3,2], i: i64[3,2] = [0,1,1,-1,0,1])\n"
             "GatherND(x: f32[2,3,2], i: i64[2,1] = [2,0]) {batch_dims=1}\n"
             "GatherND(x: f32[2,2,3], i: i32[2,2,1] = [0,2,1,1]) {batch_dims=2}\n"
             "GatherND(x: i64[3], i: i64[0,1] = [])\n"),
  };
}

}  // namespace minim::ops
