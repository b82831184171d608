// Ops that search, count and pick: ArgMax, ArgMin, CumSum, OneHot, TopK, NonZero, Compress, Trilu,
// DepthToSpace, SpaceToDepth.
#include <algorithm>
#include <numeric>

#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

// Visits the lines of `dims` along `axis`: f(offset of the first element, stride, count, line).
template <typename F>
void ForEachLine(const Dims& dims, int axis, F&& f) {
  const int64_t outer = dims.Elements(0, axis), inner = dims.Elements(axis + 1, dims.rank());
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i)
      f(o * dims[axis] * inner + i, inner, dims[axis], o * inner + i);
}

Status InferArg(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) return op.SetUnknown(0, DType::i64);
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 0), x.rank()));
  if ((*x.shape)[axis] == Dim(0))
    return op.Error("axis {} of {} is empty", axis, ToString(*x.shape));
  Shape shape = *x.shape;
  if (op.attributes().Int("keepdims", 1) != 0)
    shape[axis] = Dim(1);
  else
    shape.erase(shape.begin() + axis);
  return op.SetOutput(0, DType::i64, std::move(shape));
}

template <typename Better>
Reference Arg(Better better) {
  return [better](RefContext& op) -> Status {
    const bool last = op.attributes().Int("select_last_index", 0) != 0;
    const int axis = Positive(op.attributes().Int("axis", 0), op.dims(0).rank());
    RefTensor& y = op.Output(0);
    VisitWideNumber(op.input(0).wide.dtype(), [&]<typename T>() {
      const auto x = op.input(0).wide.as<T>();
      ForEachLine(op.dims(0), axis,
                  [&](int64_t start, int64_t stride, int64_t count, int64_t line) {
                    int64_t best = 0;
                    for (int64_t i = 1; i < count; ++i) {
                      const T value = x[start + i * stride], top = x[start + best * stride];
                      if (better(value, top) || (last && value == top)) best = i;
                    }
                    y.i64()[line] = best;
                  });
    });
    return {};
  };
}

Status CumSumReference(RefContext& op) {
  const int64_t given = op.input(1).IntAt(0);
  if (given < -op.dims(0).rank() || given >= op.dims(0).rank())
    return op.Error("axis {} is outside shape {}", given, op.dims(0).ToString());
  const bool exclusive = op.attributes().Int("exclusive", 0) != 0;
  const bool reverse = op.attributes().Int("reverse", 0) != 0;
  RefTensor& y = op.Output(0);
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto x = op.input(0).wide.as<T>();
    ForEachLine(op.dims(0), Positive(given, op.dims(0).rank()),
                [&](int64_t start, int64_t stride, int64_t count, int64_t) {
                  T sum{};
                  for (int64_t i = 0; i < count; ++i) {
                    const int64_t at = start + (reverse ? count - 1 - i : i) * stride;
                    const T next = WrapAdd(sum, x[at]);
                    y.wide.as<T>()[at] = exclusive ? sum : next;
                    sum = next;
                  }
                });
  });
  return {};
}

Status CumSumGradient(GradContext& g) {  // the same sum from the other end
  Attributes attributes = g.attributes();
  attributes.Set("reverse", int64_t{attributes.Int("reverse", 0) == 0});
  g.SetInputGrad(0, g.Emit("CumSum", {g.output_grad(0), g.input(1)}, attributes));
  return {};
}

Status InferOneHot(InferContext& op) {
  const TensorType& indices = op.input(0);
  const DType dtype = op.dtype(2);
  const auto depth = op.IntsInput(1);
  if (depth && (depth->size() != 1 || (*depth)[0] < 0))
    return op.Error("depth must be one number of 0 or more");
  if (!indices.ranked()) return op.SetUnknown(0, dtype);
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", -1), indices.rank() + 1));
  Shape shape = *indices.shape;
  shape.insert(shape.begin() + axis, depth ? Dim((*depth)[0]) : Dim());
  return op.SetOutput(0, dtype, std::move(shape));
}

// A negative index counts from the end; one out of range leaves its line off.
Status OneHotReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int axis = Positive(op.attributes().Int("axis", -1), y.dims().rank());
  CopyElements(op.input(2), y, [](const Dims&) { return 0; });
  VisitWide(y.wide.dtype(), [&]<typename T>() {
    ForEachLine(y.dims(), axis, [&](int64_t start, int64_t stride, int64_t depth, int64_t line) {
      const int64_t index = ConvertTo<int64_t>(op.input(0).At(line));
      const int64_t at = index < 0 ? index + depth : index;
      if (at >= 0 && at < depth) y.wide.as<T>()[start + at * stride] = op.input(2).wide.as<T>()[1];
    });
  });
  return {};
}

Status InferTopK(InferContext& op) {
  const TensorType& x = op.input(0);
  const auto k = op.IntsInput(1);
  if (k && (k->size() != 1 || (*k)[0] < 0)) return op.Error("k must be one number of 0 or more");
  for (int i = 0; i < 2 && !x.ranked(); ++i)
    MINIM_TRY(op.SetUnknown(i, i == 0 ? x.dtype : DType::i64));
  if (!x.ranked()) return {};
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", -1), x.rank()));
  Shape shape = *x.shape;
  if (k && shape[axis].known() && (*k)[0] > shape[axis].value())
    return op.Error("k is {}, axis {} has {}", (*k)[0], axis, shape[axis].value());
  shape[axis] = k ? Dim((*k)[0]) : Dim();
  MINIM_TRY(op.SetOutput(1, DType::i64, shape));
  return op.SetOutput(0, x.dtype, std::move(shape));
}

// Sorted always; equal elements by index.
Status TopKReference(RefContext& op) {
  const bool largest = op.attributes().Int("largest", 1) != 0;
  const int axis = Positive(op.attributes().Int("axis", -1), op.dims(0).rank());
  const int64_t k = op.input(1).IntAt(0);
  for (int i = 0; i < op.output_count(); ++i)
    if (op.has_output(i)) op.Output(i);
  VisitWideNumber(op.input(0).wide.dtype(), [&]<typename T>() {
    const auto x = op.input(0).wide.as<T>();
    ForEachLine(op.dims(0), axis, [&](int64_t start, int64_t stride, int64_t count, int64_t line) {
      std::vector<int64_t> order(count);
      std::iota(order.begin(), order.end(), int64_t{0});
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        const T left = x[start + a * stride], right = x[start + b * stride];
        return largest ? left > right : left < right;
      });
      const int64_t to = line / stride * stride * k + line % stride;
      for (int64_t i = 0; i < k; ++i) {
        if (op.has_output(0))
          op.MutableOutput(0).wide.as<T>()[to + i * stride] = x[start + order[i] * stride];
        if (op.output_count() > 1 && op.has_output(1))
          op.MutableOutput(1).i64()[to + i * stride] = order[i];
      }
    });
  });
  return {};
}

Status TopKUpgrade(UpgradeContext& u) {  // 1: k was an attribute
  if (u.from_version < 10) u.AttributeToInput("k", 1);
  return {};
}

Status TopKGradient(GradContext& g) {
  if (g.output(1) == kNoValue)
    return Unsupported("TopK '{}': its gradient needs the indices output", g.node().name);
  g.SetInputGrad(0,
                 g.Emit("ScatterElements", {g.ZerosLike(g.input(0)), g.output(1), g.output_grad(0)},
                        {{"axis", g.attributes().Int("axis", -1)}}));
  return {};
}

Status InferNonZero(InferContext& op) {
  const Dim rank = op.input(0).ranked() ? Dim(op.input(0).rank()) : Dim();
  return op.SetOutput(0, DType::i64, Shape{rank, Dim()});
}

Status NonZeroReference(RefContext& op) {
  std::vector<Dims> found;
  ForEachIndex(op.dims(0), [&](int64_t flat, const Dims& at) {
    if (op.input(0).At(flat) != 0) found.push_back(at);
  });
  const auto count = static_cast<int64_t>(found.size());
  RefTensor& y = op.Output(0, Dims({op.dims(0).rank(), count}));
  for (int axis = 0; axis < op.dims(0).rank(); ++axis)
    for (int64_t i = 0; i < count; ++i) y.i64()[axis * count + i] = found[i][axis];
  return {};
}

Status InferCompress(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!op.attributes().Has("axis")) return op.SetOutput(0, x.dtype, Shape(1));
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 0), x.rank()));
  Shape shape = *x.shape;
  shape[axis] = Dim();
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status CompressReference(RefContext& op) {
  const bool flatten = !op.attributes().Has("axis");
  const Dims x = flatten ? Dims({op.input(0).size()}) : op.dims(0);
  const int axis = flatten ? 0 : Positive(op.attributes().Int("axis", 0), x.rank());
  std::vector<int64_t> taken;
  for (int64_t i = 0; i < std::min(op.input(1).size(), x[axis]); ++i)
    if (op.input(1).b()[i]) taken.push_back(i);
  Dims dims = x;
  dims[axis] = static_cast<int64_t>(taken.size());
  const Dims strides = RowMajorStrides(x);
  CopyElements(op.input(0), op.Output(0, dims), [&](const Dims& at) {
    return OffsetOf(at, strides) + (taken[at[axis]] - at[axis]) * strides[axis];
  });
  return {};
}

Status TriluReference(RefContext& op) {
  const bool upper = op.attributes().Int("upper", 1) != 0;
  const int64_t k = op.has_input(1) ? op.input(1).IntAt(0) : 0;
  const Dims strides = RowMajorStrides(op.dims(0));
  CopyElements(op.input(0), op.Output(0), [&](const Dims& at) -> int64_t {
    const int64_t diagonal = at[at.rank() - 1] - at[at.rank() - 2];
    return (upper ? diagonal >= k : diagonal <= k) ? OffsetOf(at, strides) : -1;
  });
  return {};
}

Status TriluGradient(GradContext& g) {
  std::vector<ValueId> inputs = g.node().inputs;
  inputs[0] = g.output_grad(0);
  g.SetInputGrad(0, g.Emit("Trilu", inputs, g.attributes()));
  return {};
}

// Both block ops are a reshape, a transpose and a reshape.
Status InferBlocks(InferContext& op, bool to_space) {
  const TensorType& x = op.input(0);
  const int64_t b = op.attributes().Int("blocksize", 0);
  MINIM_TRY(op.HasRank(0, 4));
  if (b < 1 || b > INT32_MAX) return op.Error("blocksize is {}, expected 1 to {}", b, INT32_MAX);
  const Shape in = x.ranked() ? *x.shape : Shape(4);
  for (int i = to_space ? 1 : 2; i < (to_space ? 2 : 4); ++i)
    if (in[i].known() && in[i].value() % (to_space ? b * b : b) != 0)
      return op.Error("axis {} of {} does not divide into blocks of {}", i, ToString(in), b);
  const auto scaled = [&](const Dim& dim, bool up, int64_t by) {
    return dim.Map([&](int64_t size) { return up ? SaturatingTimes(size, by) : size / by; });
  };
  return op.SetOutput(0, x.dtype,
                      Shape{in[0], scaled(in[1], !to_space, b * b), scaled(in[2], to_space, b),
                            scaled(in[3], to_space, b)});
}

Status ExpandBlocks(ExpandContext& e, bool to_space) {
  if (!e.type(e.input(0)).Static())
    return Unsupported("{} '{}': needs a static shape", e.node().op, e.node().name);
  const Dims x = e.type(e.input(0)).dims();
  const int64_t b = e.attributes().Int("blocksize", 1);
  const bool crd = e.attributes().String("mode", "DCR") == "CRD";
  ValueId y;
  if (to_space) {
    const int64_t c = x[1] / (b * b);
    y = crd ? e.Transpose(e.Reshape(e.input(0), Dims({x[0], c, b, b, x[2], x[3]})),
                          {0, 1, 4, 2, 5, 3})
            : e.Transpose(e.Reshape(e.input(0), Dims({x[0], b, b, c, x[2], x[3]})),
                          {0, 3, 4, 1, 5, 2});
    y = e.Reshape(y, Dims({x[0], c, x[2] * b, x[3] * b}));
  } else {
    const ValueId blocks = e.Reshape(e.input(0), Dims({x[0], x[1], x[2] / b, b, x[3] / b, b}));
    y = e.Reshape(e.Transpose(blocks, {0, 3, 5, 1, 2, 4}),
                  Dims({x[0], x[1] * b * b, x[2] / b, x[3] / b}));
  }
  e.SetOutput(0, y);
  return {};
}

OpDef Blocks(std::string name, bool to_space, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = {1, 13},
          .infer = [to_space](InferContext& op) { return InferBlocks(op, to_space); },
          .expand = [to_space](ExpandContext& e) { return ExpandBlocks(e, to_space); },
          .samples = std::move(samples)};
}

OpDef ArgOp(std::string name, Reference reference) {
  std::string samples = fmt::format(
      "{0}(x: f32[3,4])\n{0}(x: i32[3,4,2] = index(3)) {{axis=-2, keepdims=0, "
      "select_last_index=1}}\n"
      "{0}(x: u64[5])\n{0}(x: f16[5])\n{0}(x: bf16[5])\n",
      name);
  return {.name = std::move(name),
          .onnx_since = {1, 11, 12, 13},
          .dtypes = kNumericTypes,
          .infer = InferArg,
          .reference = std::move(reference),
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> IndexOps() {
  std::vector<OpDef> defs = {
      ArgOp("ArgMax", Arg([](auto a, auto b) { return a > b; })),
      ArgOp("ArgMin", Arg([](auto a, auto b) { return a < b; })),
      Blocks("DepthToSpace", true,
             "DepthToSpace(x: f32[1,8,2,3]) {blocksize=2}\n"
             "DepthToSpace(x: i8[1,8,2,3]) {blocksize=2, mode=\"CRD\"}\n"),
      Blocks("SpaceToDepth", false, "SpaceToDepth(x: f32[1,2,4,6]) {blocksize=2}\n")};
  defs.push_back({.name = "CumSum",
                  .onnx_since = {11, 14},
                  .min_inputs = 2,
                  .max_inputs = 2,
                  .dtypes = kNumericTypes,
                  .infer = InferSameAsFirst,
                  .gradient = CumSumGradient,
                  .reference = CumSumReference,
                  .precision = PrecisionClass::kFp32,
                  .samples =
                      "CumSum(x: f32[3,4], a: i64 = [1])\nCumSum(x: i32[0,2], a: i32 = [0])\n"
                      "CumSum(x: f32[3,4], a: i64 = [-2]) {exclusive=1, reverse=1}\n"});
  defs.push_back(
      {.name = "OneHot",
       .onnx_since = {9, 11},
       .min_inputs = 3,
       .max_inputs = 3,
       .dtypes = kNumericTypes,
       .infer = InferOneHot,
       .reference = OneHotReference,
       .samples = "OneHot(i: i64[3] = [0,-1,7], d: i64 = [4], v: f32[2] = const [0,1])\n"
                  "OneHot(i: i32[2,2] = [0,1,2,3], d: i64[1] = [4], v: i8[2] = [5,6]) {axis=1}\n"});
  defs.push_back(
      {.name = "TopK",
       .onnx_since = {1, 10, 11},
       .min_inputs = 2,
       .max_inputs = 2,
       .dtypes = kNumericTypes,
       .infer = InferTopK,
       .gradient = TopKGradient,
       .differentiable_outputs = 1,
       .reference = TopKReference,
       .upgrade = TopKUpgrade,
       .samples =
           "v, i = TopK(x: f32[3,5], k: i64[1] = [2])\n"
           "v, i = TopK(x: i32[4,2] = index(3), k: i64[1] = [3]) {axis=0, largest=0, sorted=1}\n"
           "v, _ = TopK(x: u64[5], k: i64[1] = [0])\n"});
  defs.push_back(
      {.name = "NonZero",
       .onnx_since = {9, 13},
       .dtypes = kAllTypes,
       .infer = InferNonZero,
       .reference = NonZeroReference,
       .samples = "NonZero(x: bool[3,4])\nNonZero(x: f32[0])\nNonZero(x: i8[5] = [0,1,0,-1,2])\n"});
  defs.push_back(
      {.name = "Compress",
       .onnx_since = {9, 11},
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = InferCompress,
       .reference = CompressReference,
       .traits = OpTrait::kStrings,
       .samples =
           "Compress(x: f32[3,4], c: bool[3]) {axis=0}\nCompress(x: i8[3,2], c: bool[5])\n"});
  defs.push_back({.name = "Trilu",
                  .onnx_since = {14},
                  .max_inputs = 2,
                  .infer = [](InferContext& op) -> Status {
                    if (op.input(0).ranked() && op.input(0).rank() < 2)
                      return op.Error("input has shape {}, expected rank 2 or more",
                                      ToString(*op.input(0).shape));
                    return InferSameAsFirst(op);
                  },
                  .gradient = TriluGradient,
                  .reference = TriluReference,
                  .samples = "Trilu(x: f32[3,4])\nTrilu(x: f32[2,3,3], k: i64 = [-1]) {upper=0}\n"
                             "Trilu(x: i64[3,0], k: i64 = [1])\n"});
  return defs;
}

}  // namespace minim::ops
