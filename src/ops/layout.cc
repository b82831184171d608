// Ops that permute, repeat, join and cut whole axes: Transpose, Expand, Tile, Concat, Split.
#include <numeric>

#include "ops/movement.h"

namespace minim::ops {
namespace {

std::vector<int64_t> Permutation(const Attributes& a, int rank) {
  std::vector<int64_t> reversed(rank);
  for (int i = 0; i < rank; ++i) reversed[i] = rank - 1 - i;
  return a.Ints("perm", reversed);
}

Status InferTranspose(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  const std::vector<int64_t> perm = Permutation(op.attributes(), x.rank());
  if (static_cast<int>(perm.size()) != x.rank())
    return op.Error("perm has {} axes, expected {}", perm.size(), x.rank());
  MINIM_TRY(const std::vector<int> axes, Axes(op, perm, x.rank()));
  Shape shape;
  for (int axis : axes) shape.push_back((*x.shape)[axis]);
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status TransposeReference(RefContext& op) {
  const Dims& x = op.dims(0);
  const std::vector<int64_t> perm = Permutation(op.attributes(), x.rank());
  const Dims strides = RowMajorStrides(x);
  CopyElements(op.input(0), op.Output(0), [&](const Dims& index) {
    int64_t offset = 0;
    for (int i = 0; i < x.rank(); ++i) offset += index[i] * strides[Positive(perm[i], x.rank())];
    return offset;
  });
  return {};
}

Status TransposeGradient(GradContext& g) {
  const int rank = g.rank(g.input(0));
  const std::vector<int64_t> perm = Permutation(g.attributes(), rank);
  std::vector<int64_t> inverse(rank);
  for (int i = 0; i < rank; ++i) inverse[Positive(perm[i], rank)] = i;
  g.SetInputGrad(0, g.Transpose(g.output_grad(0), inverse));
  return {};
}

Status InferExpand(InferContext& op) {
  const TensorType& x = op.input(0);
  const auto wanted = op.IntsInput(1);
  if (!wanted || !x.ranked()) return op.SetUnknown(0, x.dtype);
  for (int64_t dim : *wanted)
    if (dim < 0) return op.Error("the shape holds {}, expected no negative size", dim);
  auto shape = BroadcastShapes(*x.shape, Shape(wanted->begin(), wanted->end()));
  if (!shape.ok()) return op.Error("{}", shape.status().message());
  return op.SetOutput(0, x.dtype, *std::move(shape));
}

Status ExpandReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Dims strides = BroadcastStrides(op.dims(0), y.dims());
  CopyElements(op.input(0), y, [&](const Dims& index) { return OffsetOf(index, strides); });
  return {};
}

Status ExpandGradient(GradContext& g) {
  g.SetInputGrad(0, g.SumToShapeOf(g.output_grad(0), g.input(0)));
  return {};
}

Status InferTile(InferContext& op) {
  const TensorType& x = op.input(0);
  const auto repeats = op.IntsInput(1);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (!repeats) return op.SetOutput(0, x.dtype, Shape(x.rank()));
  if (static_cast<int>(repeats->size()) != x.rank())
    return op.Error("{} repeats for shape {}, expected one an axis", repeats->size(),
                    ToString(*x.shape));
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t repeat = (*repeats)[i];
    if (repeat < 0) return op.Error("repeat {} is {}, expected 0 or more", i, repeat);
    const Dim& dim = (*x.shape)[i];
    shape.push_back(repeat == 1 ? dim : dim.Times(repeat));
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status TileReference(RefContext& op) {
  const Dims strides = RowMajorStrides(op.dims(0));
  CopyElements(op.input(0), op.Output(0), [&](const Dims& index) {
    int64_t offset = 0;
    for (int i = 0; i < index.rank(); ++i) offset += index[i] % op.dims(0)[i] * strides[i];
    return offset;
  });
  return {};
}

// Axis by axis: [.., repeat * size, ..] is seen as [.., repeat, size, ..] and summed.
Status TileGradient(GradContext& g) {
  const Dims x = g.type(g.input(0)).dims();
  ValueId dx = g.output_grad(0);
  if (x.Elements() == 0) return g.SetInputGrad(0, g.ZerosLike(g.input(0))), Status();
  for (int axis = 0; axis < x.rank(); ++axis) {
    const Dims now = g.type(dx).dims();
    if (now[axis] == x[axis]) continue;
    Dims folded(
        {now.Elements(0, axis), now[axis] / x[axis], x[axis] * now.Elements(axis + 1, now.rank())});
    Dims next = now;
    next[axis] = x[axis];
    dx = g.Reshape(g.ReduceSum(g.Reshape(dx, folded), {1}, false), next);
  }
  g.SetInputGrad(0, dx);
  return {};
}

Status InferConcat(InferContext& op) {
  const TensorType& first = op.input(0);
  for (int k = 0; k < op.input_count(); ++k) {
    MINIM_TRY(op.SameDType(0, k));
    if (!op.input(k).ranked()) return op.SetUnknown(0, first.dtype);
    MINIM_TRY(op.HasRank(k, first.rank()));
  }
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 0), first.rank()));
  Shape shape = *first.shape;
  for (int k = 1; k < op.input_count(); ++k) {
    const Shape& other = *op.input(k).shape;
    for (int i = 0; i < first.rank(); ++i) {
      if (i == axis) {
        const bool known = shape[i].known() && other[i].known();
        shape[i] = known ? Dim(shape[i].value() + other[i].value()) : Dim();
      } else if (!shape[i].Compatible(other[i])) {
        return op.Error("input {} has shape {} and input 0 {}: only axis {} may differ", k,
                        ToString(other), ToString(*first.shape), axis);
      } else if (!shape[i].known()) {
        shape[i] = other[i].known() ? other[i] : shape[i];
      }
    }
  }
  return op.SetOutput(0, first.dtype, std::move(shape));
}

Status ConcatReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int axis = Positive(op.attributes().Int("axis", 0), y.dims().rank());
  const Dims strides = RowMajorStrides(y.dims());
  int64_t start = 0;
  for (int k = 0; k < op.input_count(); ++k) {
    VisitWide(y.wide.dtype(), [&]<typename T>() {
      ForEachIndex(op.dims(k), [&](int64_t flat, const Dims& index) {
        y.wide.as<T>()[OffsetOf(index, strides) + start * strides[axis]] =
            op.input(k).wide.as<T>()[flat];
      });
    });
    start += op.dims(k)[axis];
  }
  return {};
}

Status ConcatGradient(GradContext& g) {
  const int64_t axis = Positive(g.attributes().Int("axis", 0), g.rank(g.output(0)));
  int64_t start = 0;
  for (int k = 0; k < g.input_count(); ++k) {
    const int64_t size = g.type(g.input(k)).dims()[static_cast<int>(axis)];
    g.SetInputGrad(k, g.Slice(g.output_grad(0), {start}, {start + size}, {axis}));
    start += size;
  }
  return {};
}

// Sizes of the pieces: input 1, or equal parts of which the last may be smaller.
Result<std::vector<Dim>> PieceSizes(InferContext& op, const Dim& whole) {
  const int64_t count = op.output_count();
  if (op.has_input(1)) {
    const auto sizes = op.IntsInput(1);
    if (!sizes) return std::vector<Dim>(count);
    if (static_cast<int64_t>(sizes->size()) != count)
      return op.Error("{} split sizes for {} outputs", sizes->size(), count);
    const int64_t sum = std::accumulate(sizes->begin(), sizes->end(), int64_t{0});
    const bool negative =
        std::any_of(sizes->begin(), sizes->end(), [](int64_t s) { return s < 0; });
    if (negative || (whole.known() && sum != whole.value()))
      return op.Error("split sizes [{}] do not add up to {}", fmt::join(*sizes, ","),
                      whole.ToString());
    return std::vector<Dim>(sizes->begin(), sizes->end());
  }
  const int64_t wanted = op.attributes().Int("num_outputs", count);
  if (wanted != count) return op.Error("num_outputs is {}, the node has {}", wanted, count);
  if (!whole.known()) return std::vector<Dim>(count);
  const int64_t part = (whole.value() + count - 1) / count;
  std::vector<Dim> sizes;
  for (int64_t i = 0; i < count; ++i)
    sizes.push_back(Dim(std::clamp<int64_t>(whole.value() - i * part, 0, part)));
  return sizes;
}

Status InferSplit(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) {
    for (int k = 0; k < op.output_count(); ++k) MINIM_TRY(op.SetUnknown(k, x.dtype));
    return {};
  }
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 0), x.rank()));
  MINIM_TRY(const std::vector<Dim> sizes, PieceSizes(op, (*x.shape)[axis]));
  for (int k = 0; k < op.output_count(); ++k) {
    Shape shape = *x.shape;
    shape[axis] = sizes[k];
    MINIM_TRY(op.SetOutput(k, x.dtype, std::move(shape)));
  }
  return {};
}

// Omitted outputs still take their place on the axis.
std::vector<int64_t> PlacesOf(std::vector<int64_t> sizes, int64_t whole, int64_t count) {
  const int64_t part = (whole + count - 1) / count;
  for (int64_t k = 0; k < count && static_cast<int64_t>(sizes.size()) < count; ++k)
    sizes.push_back(std::clamp<int64_t>(whole - k * part, 0, part));
  return sizes;
}

Status SplitReference(RefContext& op) {
  const int axis = Positive(op.attributes().Int("axis", 0), op.dims(0).rank());
  const Dims strides = RowMajorStrides(op.dims(0));
  const std::vector<int64_t> sizes = PlacesOf(op.has_input(1) ? op.Ints(1) : std::vector<int64_t>(),
                                              op.dims(0)[axis], op.output_count());
  int64_t start = 0;
  for (int k = 0; k < op.output_count(); ++k) {
    if (op.has_output(k))
      CopyElements(op.input(0), op.Output(k), [&](const Dims& index) {
        return OffsetOf(index, strides) + start * strides[axis];
      });
    start += sizes[k];
  }
  return {};
}

Status SplitGradient(GradContext& g) {
  const int64_t axis = Positive(g.attributes().Int("axis", 0), g.rank(g.input(0)));
  Dims dims = g.type(g.input(0)).dims();
  std::vector<int64_t> sizes;
  if (g.has_input(1)) {
    MINIM_TRY(sizes, g.ConstantInts(1));
  }
  sizes = PlacesOf(std::move(sizes), dims[static_cast<int>(axis)], g.output_count());
  std::vector<ValueId> parts;
  for (int k = 0; k < g.output_count(); ++k) {
    dims[static_cast<int>(axis)] = sizes[k];
    parts.push_back(g.output(k) == kNoValue ? g.Filled(0, g.dtype(g.input(0)), dims)
                                            : g.output_grad(k));
  }
  g.SetInputGrad(0, g.Emit("Concat", parts, {{"axis", axis}}));
  return {};
}

Status SplitUpgrade(UpgradeContext& u) {  // before 13 the sizes were an attribute
  u.AttributeToInput("split", 1);
  return {};
}

Status ConcatUpgrade(UpgradeContext& u) {
  if (u.from_version < 4 && !u.node.attributes.Has("axis"))
    u.node.attributes.Set("axis", int64_t{1});
  return {};
}

// 1: input 1 repeats along the one axis that input 2 names.
Status TileUpgrade(UpgradeContext& u) {
  if (u.from_version >= 6) return {};
  const TensorType& x = u.graph.type(u.node.input(0));
  const Tensor* counts[2] = {};
  for (int i = 0; i < 2; ++i) counts[i] = u.graph.constant(u.node.input(i + 1));
  if (!counts[0] || !counts[1] || counts[0]->size() != 1 || counts[1]->size() != 1 || !x.ranked())
    return Unsupported("expected constant tiles and axis, and an input of known rank");
  const auto value = [](const Tensor& t) {
    return Converted(t.view(), DType::i64).as<int64_t>()[0];
  };
  const int64_t axis = value(*counts[1]);
  if (axis < -x.rank() || axis >= x.rank())
    return InvalidArgument("axis {} is outside {}", axis, ToString(*x.shape));
  std::vector<int64_t> repeats(x.rank(), 1);
  repeats[Positive(axis, x.rank())] = value(*counts[0]);
  u.node.inputs.resize(1);
  u.SetInput(1, Tensor::From<int64_t>({static_cast<int64_t>(x.rank())}, repeats));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer,
             std::function<Status(RefContext&)> reference,
             std::function<Status(GradContext&)> gradient, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .infer = std::move(infer),
          .gradient = std::move(gradient),
          .reference = std::move(reference),
          .traits = OpTrait::kStrings,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> LayoutOps() {
  std::vector<OpDef> defs = {
      Define("Transpose", {1, 13, 21, 23}, 1, 1, InferTranspose, TransposeReference,
             TransposeGradient,
             "Transpose(x: f32[2,3,4])\nTranspose(x: f32[2,3,4]) {perm=[1,0,2]}\n"
             "Transpose(x: i8[3,0])\nTranspose(x: f32)\nTranspose(x: bool[2,3])\n"),
      Define("Expand", {8, 13}, 2, 2, InferExpand, ExpandReference, ExpandGradient,
             "Expand(x: f32[3,1], s: i64[3] = [2,1,4])\nExpand(x: f32, s: i64[1] = [3])\n"
             "Expand(x: i64[1], s: i64[2] = [0,2])\nExpand(x: bool[3], s: i64[1] = [1])\n"),
      Define("Tile", {1, 6, 13}, 2, 2, InferTile, TileReference, TileGradient,
             "Tile(x: f32[2,3], r: i64[2] = [2,3])\nTile(x: f32[2,1,3], r: i64[3] = [1,4,2])\n"
             "Tile(x: u8[3], r: i64[1] = [0])\nTile(x: f32[0,2], r: i64[2] = [2,2])\n"),
      Define("Concat", {1, 4, 11, 13}, 1, -1, InferConcat, ConcatReference, ConcatGradient,
             "Concat(a: f32[2,3], b: f32[2,1]) {axis=1}\n"
             "Concat(a: f32[2,3], b: f32[0,3], c: f32[1,3]) {axis=-2}\n"
             "Concat(a: i64[2]) {axis=0}\nConcat(a: bool[1], b: bool[2]) {axis=0}\n"),
      Define("Split", {1, 2, 11, 13, 18}, 1, 2, InferSplit, SplitReference, SplitGradient,
             "a, b = Split(x: f32[6,2], s: i64[2] = [2,4]) {axis=0}\n"
             "a, b, c = Split(x: f32[2,7]) {axis=-1, num_outputs=3}\n"
             "a, _ = Split(x: f32[4])\na, b = Split(x: i8[4], s: i64[2] = [0,4])\n"),
  };
  defs[2].upgrade = TileUpgrade;
  defs[3].upgrade = ConcatUpgrade;
  defs[4].upgrade = SplitUpgrade;
  return defs;
}

}  // namespace minim::ops
