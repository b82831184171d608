// ScatterElements (and its older name Scatter) and ScatterND.
#include "ops/elementwise.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

enum class Reduction { kNone, kAdd, kMul, kMax, kMin };

Result<Reduction> ReductionOf(const Attributes& a) {
  const std::string name = a.String("reduction", "none");
  if (name == "none") return Reduction::kNone;
  if (name == "add") return Reduction::kAdd;
  if (name == "mul") return Reduction::kMul;
  if (name == "max") return Reduction::kMax;
  if (name == "min") return Reduction::kMin;
  return InvalidArgument("reduction is '{}', expected none, add, mul, max or min", name);
}

template <typename T>
T Combine(Reduction reduction, T old, T update) {
  if constexpr (std::is_same_v<T, bool>) {
    if (reduction == Reduction::kAdd || reduction == Reduction::kMax) return old || update;
    return reduction == Reduction::kNone ? update : old && update;
  } else {
    switch (reduction) {
      case Reduction::kNone: return update;
      case Reduction::kAdd: return WrapAdd(old, update);
      case Reduction::kMul: return WrapMul(old, update);
      case Reduction::kMax: return old < update ? update : old;
      case Reduction::kMin: return update < old ? update : old;
    }
    return update;
  }
}

Status InferScatter(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 2));
  if (const DType dtype = op.dtype(1); dtype != DType::i64 && dtype != DType::i32)
    return op.Error("indices are {}, expected i64 or i32", Name(dtype));
  if (auto reduction = ReductionOf(op.attributes()); !reduction.ok())
    return op.Error("{}", reduction.status().message());
  return op.SetOutput(0, op.input(0));
}

Status InferScatterElements(InferContext& op) {
  if (op.input(0).ranked()) {
    MINIM_TRY(op.HasRank(1, op.input(0).rank()));
    MINIM_TRY(op.HasRank(2, op.input(0).rank()));
    MINIM_TRY(op.Axis(op.attributes().Int("axis", 0), op.input(0).rank()).status());
  }
  return InferScatter(op);
}

Result<int64_t> Wrapped(const RefContext& op, int64_t index, int64_t size) {
  if (index < -size || index >= size)
    return op.Error("index {} is outside [{}, {})", index, -size, size);
  return index < 0 ? index + size : index;
}

Status ScatterElementsReference(RefContext& op) {
  MINIM_TRY(CopyReference(op));
  MINIM_TRY(const Reduction reduction, ReductionOf(op.attributes()));
  RefTensor& y = op.MutableOutput(0);
  const Dims &x = y.dims(), &at = op.dims(1);
  if (!(op.dims(2) == at))
    return op.Error("updates are {} and indices {}, expected one shape", op.dims(2).ToString(),
                    at.ToString());
  const int axis = Positive(op.attributes().Int("axis", 0), x.rank());
  for (int i = 0; i < x.rank(); ++i)
    if (i != axis && at[i] > x[i])
      return op.Error("indices {} reach past {} on axis {}", at.ToString(), x.ToString(), i);
  std::vector<int64_t> indices = op.Ints(1);
  for (int64_t& index : indices) {
    MINIM_TRY(index, Wrapped(op, index, x[axis]));
  }
  const Dims strides = RowMajorStrides(x);
  VisitWide(y.wide.dtype(), [&]<typename T>() {
    ForEachIndex(at, [&](int64_t flat, const Dims& place) {
      T& to =
          y.wide.as<T>()[OffsetOf(place, strides) + (indices[flat] - place[axis]) * strides[axis]];
      to = Combine(reduction, to, op.input(2).wide.as<T>()[flat]);
    });
  });
  return {};
}

Status ScatterNDReference(RefContext& op) {
  MINIM_TRY(CopyReference(op));
  MINIM_TRY(const Reduction reduction, ReductionOf(op.attributes()));
  RefTensor& y = op.MutableOutput(0);
  const Dims &x = y.dims(), &at = op.dims(1);
  if (at.rank() == 0 || at[at.rank() - 1] > x.rank())
    return op.Error("indices {} do not address {}", at.ToString(), x.ToString());
  const int depth = static_cast<int>(at[at.rank() - 1]);
  const int64_t inner = x.Elements(depth, x.rank()), picks = at.Elements(0, at.rank() - 1);
  if (op.input(2).size() != picks * inner)
    return op.Error("updates {} do not fill {} slices of {}", op.dims(2).ToString(), picks, inner);
  const std::vector<int64_t> coordinates = op.Ints(1);
  for (int64_t p = 0; p < picks; ++p) {
    int64_t start = 0;
    for (int d = 0; d < depth; ++d) {
      MINIM_TRY(const int64_t index, Wrapped(op, coordinates[p * depth + d], x[d]));
      start = start * x[d] + index;
    }
    VisitWide(y.wide.dtype(), [&]<typename T>() {
      for (int64_t i = 0; i < inner; ++i) {
        T& to = y.wide.as<T>()[start * inner + i];
        to = Combine(reduction, to, op.input(2).wide.as<T>()[p * inner + i]);
      }
    });
  }
  return {};
}

// none: overwritten places lose their gradient to the update. add: both keep it.
template <const char* kScatter, const char* kGather>
Status Gradient(GradContext& g) {
  MINIM_TRY(const Reduction reduction, ReductionOf(g.attributes()));
  if (reduction != Reduction::kNone && reduction != Reduction::kAdd)
    return Unsupported("{} '{}': no gradient for reduction '{}', only for none and add",
                       g.node().op, g.node().name, g.attributes().String("reduction", "none"));
  Attributes attributes;
  if (g.attributes().Has("axis")) attributes.Set("axis", g.attributes().Int("axis", 0));
  const ValueId dy = g.output_grad(0);
  g.SetInputGrad(2, g.Emit(kGather, {dy, g.input(1)}, attributes));
  g.SetInputGrad(0, reduction == Reduction::kAdd
                        ? dy
                        : g.Emit(kScatter, {dy, g.input(1), g.ZerosLike(g.input(2))}, attributes));
  return {};
}

constexpr char kScatterElements[] = "ScatterElements", kGatherElements[] = "GatherElements";
constexpr char kScatterND[] = "ScatterND", kGatherND[] = "GatherND";

std::string WithReductions(std::string_view call) {
  std::string text;
  for (std::string_view reduction : {"none", "add"})
    text += fmt::format("{} {{reduction=\"{}\"}}\n", call, reduction);
  return text;
}

}  // namespace

std::vector<OpDef> ScatterOps() {
  OpDef elements = {
      .name = "ScatterElements",
      .onnx_since = {11, 13, 16, 18},
      .min_inputs = 3,
      .max_inputs = 3,
      .infer = InferScatterElements,
      .gradient = Gradient<kScatterElements, kGatherElements>,
      .reference = ScatterElementsReference,
      .traits = OpTrait::kStrings,
      .samples = WithReductions("ScatterElements(x: f32[3,3], i: i64[2,3] = [1,0,2,0,-1,1], "
                                "u: f32[2,3])") +
                 "ScatterElements(x: f32[2,4], i: i32[2,2] = [1,3,0,1], u: f32[2,2]) {axis=1}\n"
                 "ScatterElements(x: i64[3], i: i64[0] = [], u: i64[0])\n"};
  OpDef scatter = elements;  // the name of opset 9, without reductions
  scatter.name = "Scatter";
  scatter.onnx_since = {9};
  scatter.samples = "Scatter(x: f32[2,4], i: i32[2,2] = [1,3,0,1], u: f32[2,2]) {axis=1}\n";
  OpDef nd = {
      .name = "ScatterND",
      .onnx_since = {11, 13, 16, 18},
      .min_inputs = 3,
      .max_inputs = 3,
      .infer = InferScatter,
      .gradient = Gradient<kScatterND, kGatherND>,
      .reference = ScatterNDReference,
      .traits = OpTrait::kStrings,
      .samples = WithReductions("ScatterND(x: f32[4,3], i: i64[2,1] = [1,-1], u: f32[2,3])") +
                 "ScatterND(x: f32[4,3], i: i64[2,2] = [1,0,0,2], u: f32[2])\n"
                 "ScatterND(x: bool[4], i: i64[1,1] = [2], u: bool[1])\n"};
  return {std::move(elements), std::move(scatter), std::move(nd)};
}

}  // namespace minim::ops
