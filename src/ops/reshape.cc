// Ops that give the same elements another shape: Reshape, Flatten, Squeeze, Unsqueeze.
#include <algorithm>

#include "ops/movement.h"

namespace minim::ops {
namespace {

Status ReshapeGradient(GradContext& g) {
  g.SetInputGrad(0, g.Reshape(g.output_grad(0), g.type(g.input(0)).dims()));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .infer = std::move(infer),
          .gradient = ReshapeGradient,
          .reference = CopyReference,
          .traits = OpTrait::kAlias | OpTrait::kStrings,
          .samples = std::move(samples)};
}

// Fills the one dim given as -1 from the element count, if that is known.
Status ResolveWildcard(InferContext& op, Shape& shape, int wildcard) {
  Shape others = shape;
  if (wildcard >= 0) others[wildcard] = Dim(1);
  const auto have = ElementsOf(*op.input(0).shape), want = ElementsOf(others);
  if (!have || !want) return {};
  const bool fits = wildcard < 0 ? *have == *want : *want != 0 && *have % *want == 0;
  if (!fits)
    return op.Error("cannot give shape {} to {} elements of {}", ToString(shape), *have,
                    ToString(*op.input(0).shape));
  if (wildcard >= 0) shape[wildcard] = Dim(*have / *want);
  return {};
}

// When every unknown dim of the input is copied over, the wildcard is a matter of the known ones.
void ResolveBySymbols(const Shape& from, Shape& shape, int wildcard) {
  if (wildcard < 0 || shape[wildcard].known()) return;
  int64_t have = 1, want = 1;
  std::vector<Dim> open;
  for (const Dim& dim : from) dim.known() ? void(have *= dim.value()) : open.push_back(dim);
  for (size_t i = 0; i < shape.size(); ++i) {
    if (static_cast<int>(i) == wildcard) continue;
    if (shape[i].known()) {
      want *= shape[i].value();
      continue;
    }
    const auto same =
        std::find_if(open.begin(), open.end(), [&](const Dim& dim) { return dim.Same(shape[i]); });
    if (same == open.end()) return;
    open.erase(same);
  }
  if (open.empty() && want != 0 && have % want == 0)
    shape[wildcard] = Dim(have / want);
  else if (open.size() == 1 && have == want)
    shape[wildcard] = open[0];
}

Status InferReshape(InferContext& op) {
  const auto wanted = op.IntsInput(1);
  const TensorType& data = op.input(0);
  if (!wanted) {
    const TensorType& spec = op.input(1);
    if (spec.ranked() && spec.rank() == 1 && (*spec.shape)[0].known() &&
        (*spec.shape)[0].value() <= kMaxRank)
      return op.SetOutput(0, data.dtype, Shape((*spec.shape)[0].value()));
    return op.SetUnknown(0, data.dtype);
  }
  const bool allow_zero = op.attributes().Int("allowzero", 0) != 0;
  Shape shape;
  int wildcard = -1;
  for (size_t i = 0; i < wanted->size(); ++i) {
    const int64_t size = (*wanted)[i];
    if (size < -1) return op.Error("dim {} is {}, expected -1 or more", i, size);
    if (size == -1 && wildcard >= 0) return op.Error("dims {} and {} are both -1", wildcard, i);
    if (size == -1) wildcard = static_cast<int>(i);
    if (size != 0 || allow_zero) {
      shape.push_back(size == -1 ? Dim() : Dim(size));
      continue;
    }
    if (data.ranked() && static_cast<int>(i) >= data.rank())
      return op.Error("dim {} copies a dim that {} does not have", i, ToString(*data.shape));
    shape.push_back(data.ranked() ? (*data.shape)[i] : Dim());
  }
  if (!data.ranked()) return op.SetOutput(0, data.dtype, std::move(shape));
  MINIM_TRY(ResolveWildcard(op, shape, wildcard));
  ResolveBySymbols(*data.shape, shape, wildcard);
  return op.SetOutput(0, data.dtype, std::move(shape));
}

Dim Product(const Shape& shape, int first, int last) {
  // A lone unknown dim among ones keeps its name.
  Dim product(1);
  for (int i = first; i < last; ++i) {
    const Dim& dim = shape[i];
    if (product.known() && product.value() == 1)
      product = dim;
    else if (!(dim.known() && dim.value() == 1))
      product = product.known() && dim.known() ? Dim(product.value() * dim.value()) : Dim();
  }
  return product;
}

Status InferFlatten(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) return op.SetOutput(0, x.dtype, Shape(2));
  const int64_t axis = op.attributes().Int("axis", 1), rank = x.rank();
  if (axis < -rank || axis > rank)
    return op.Error("axis {} is outside [{}, {}]", axis, -rank, rank);
  const int split = static_cast<int>(axis < 0 ? axis + rank : axis);
  return op.SetOutput(0, x.dtype,
                      Shape{Product(*x.shape, 0, split), Product(*x.shape, split, x.rank())});
}

Status InferSqueeze(InferContext& op) {
  const TensorType& x = op.input(0);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  std::vector<int> axes;
  if (op.has_input(1)) {
    const auto given = op.IntsInput(1);
    if (!given) return op.SetUnknown(0, x.dtype);
    MINIM_TRY(axes, Axes(op, *given, x.rank()));
  } else {
    for (int i = 0; i < x.rank(); ++i) {
      if (!(*x.shape)[i].known()) return op.SetUnknown(0, x.dtype);
      if ((*x.shape)[i].value() == 1) axes.push_back(i);
    }
  }
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    const Dim& dim = (*x.shape)[i];
    if (std::find(axes.begin(), axes.end(), i) == axes.end())
      shape.push_back(dim);
    else if (dim.known() && dim.value() != 1)
      return op.Error("axis {} of {} is {}, expected 1", i, ToString(*x.shape), dim.value());
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status InferUnsqueeze(InferContext& op) {
  const TensorType& x = op.input(0);
  const auto given = op.IntsInput(1);
  if (!given || !x.ranked()) return op.SetUnknown(0, x.dtype);
  const int rank = x.rank() + static_cast<int>(given->size());
  MINIM_TRY(const std::vector<int> axes, Axes(op, *given, rank));
  Shape shape;
  for (int i = 0, from = 0; i < rank; ++i) {
    const bool added = std::find(axes.begin(), axes.end(), i) != axes.end();
    shape.push_back(added ? Dim(1) : (*x.shape)[from++]);
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status AxesUpgrade(UpgradeContext& u) {  // before 13 the axes were an attribute
  u.AttributeToInput("axes", 1);
  return {};
}

Status ReshapeUpgrade(UpgradeContext& u) {  // 1: the shape was an attribute
  if (u.from_version < 5) u.AttributeToInput("shape", 1);
  return {};
}

}  // namespace

std::vector<OpDef> ReshapeOps() {
  std::vector<OpDef> defs = {
      Define("Reshape", {1, 5, 13, 14, 19, 21, 23}, 2, 2, InferReshape,
             "Reshape(x: f32[2,6], s: i64[3] = [3,-1,2])\nReshape(x: f32[2,6], s: i64[2] = [0,6])\n"
             "Reshape(x: f32[0,3], s: i64[2] = [3,0]) {allowzero=1}\n"
             "Reshape(x: i8[1], s: i64[0] = [])\nReshape(x: bool[4], s: i64[2] = [2,2])\n"),
      Define("Flatten", {1, 9, 11, 13, 21, 23}, 1, 1, InferFlatten,
             "Flatten(x: f32[2,3,4])\nFlatten(x: f32[2,3,4]) {axis=-1}\n"
             "Flatten(x: f32[2,3]) {axis=0}\nFlatten(x: i32[2,0]) {axis=2}\n"),
      Define("Squeeze", {1, 11, 13, 21, 23}, 1, 2, InferSqueeze,
             "Squeeze(x: f32[1,3,1])\nSqueeze(x: f32[1,3,1], a: i64[1] = [-1])\n"
             "Squeeze(x: u8[1,0], a: i64[1] = [0])\n"),
      Define("Unsqueeze", {1, 11, 13, 21, 23}, 2, 2, InferUnsqueeze,
             "Unsqueeze(x: f32[3,2], a: i64[2] = [0,-1])\nUnsqueeze(x: f32, a: i64[1] = [0])\n"
             "Unsqueeze(x: i64[0], a: i64[1] = [1])\n"),
  };
  defs[0].upgrade = ReshapeUpgrade;
  defs[2].upgrade = defs[3].upgrade = AxesUpgrade;
  return defs;
}

}  // namespace minim::ops
