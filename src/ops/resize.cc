// Resize and its older name Upsample. Every mode is linear in x and separable: along each axis an
// output place is a weighted sum of a few input places.
#include <algorithm>

#include "core/resample.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

using namespace resample;

std::vector<double> Doubles(const Tensor& tensor) {
  const Tensor wide = Converted(tensor.view(), DType::f64);
  const auto span = wide.as<double>();
  return {span.begin(), span.end()};
}

// ---- inference

bool Given(const InferContext& op, int i) {
  return op.has_input(i) && !(op.input(i).Static() && op.input(i).dims().Elements() == 0);
}

Status CheckModes(const InferContext& op) {
  const Attributes& a = op.attributes();
  const std::string mode = a.String("mode", "nearest");
  if (mode != "nearest" && mode != "linear" && mode != "cubic")
    return op.Error("mode '{}' is unknown", mode);
  const std::string coordinates = a.String("coordinate_transformation_mode", "half_pixel");
  for (const char* known :
       {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
        "tf_crop_and_resize", "tf_half_pixel_for_nn"})
    if (coordinates == known) return {};
  return op.Error("coordinate_transformation_mode '{}' is unknown", coordinates);
}

Status CheckCount(const InferContext& op, const char* name, size_t count, size_t expected) {
  if (count == expected) return {};
  return op.Error("{} has {} values, expected {}", name, count, expected);
}

Status InferFromScales(InferContext& op, const std::vector<double>& scales) {
  Shape shape = *op.input(0).shape;
  const std::vector<int> axes = ResizedAxes(op.attributes(), op.input(0).rank());
  MINIM_TRY(CheckCount(op, "scales", scales.size(), axes.size()));
  for (size_t i = 0; i < axes.size(); ++i) {
    if (!(scales[i] > 0) || scales[i] > 1e6)
      return op.Error("scales hold {}, expected a positive number", scales[i]);
    if (scales[i] != 1)
      shape[axes[i]] =
          shape[axes[i]].Map([&](int64_t size) { return ScaledSize(size, scales[i]); });
  }
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

Status InferFromSizes(InferContext& op, const std::vector<int64_t>& sizes) {
  const TensorType& x = op.input(0);
  Shape shape = *x.shape;
  const std::vector<int> axes = ResizedAxes(op.attributes(), x.rank());
  MINIM_TRY(CheckCount(op, "sizes", sizes.size(), axes.size()));
  const bool stretch = op.attributes().String("keep_aspect_ratio_policy", "stretch") == "stretch";
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i] < 0 || sizes[i] > INT32_MAX)
      return op.Error("sizes hold {}, expected 0 or more", sizes[i]);
    if ((sizes[i] > 0 || !stretch) && shape[axes[i]] == Dim(0))
      return op.Error("axis {} of {} is empty", axes[i], ToString(*x.shape));
    shape[axes[i]] = stretch ? Dim(sizes[i]) : Dim();
  }
  if (!stretch && x.Static())
    for (const Target& target : TargetsFromSizes(op.attributes(), x.dims(), sizes))
      shape[target.axis] = Dim(target.size);
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status InferResize(InferContext& op) {
  const TensorType& x = op.input(0);
  MINIM_TRY(CheckModes(op));
  if (!Given(op, 2) && !Given(op, 3)) return op.Error("has neither scales nor sizes");
  if (x.ranked()) MINIM_TRY(Axes(op, op.attributes().Ints("axes"), x.rank()).status());
  if (Given(op, 3)) {
    const auto sizes = op.IntsInput(3);
    if (!x.ranked()) return op.SetUnknown(0, x.dtype);
    return sizes ? InferFromSizes(op, *sizes) : op.SetOutput(0, x.dtype, Shape(x.rank()));
  }
  const Tensor* scales = op.ConstantInput(2);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (scales == nullptr) return op.SetOutput(0, x.dtype, Shape(x.rank()));
  return InferFromScales(op, Doubles(*scales));
}

// ---- reference

std::vector<double> Values(const RefContext& op, int i) {
  std::vector<double> values;
  for (int64_t k = 0; op.has_input(i) && k < op.input(i).size(); ++k)
    values.push_back(op.input(i).At(k));
  return values;
}

std::vector<double> ResizeAxis(const std::vector<double>& x, Dims& dims, const AxisPlan& plan,
                               double outside) {
  const int64_t inner = dims.Elements(plan.axis + 1, dims.rank());
  const int64_t outer = dims.Elements(0, plan.axis);
  std::vector<double> y(outer * plan.out * inner);
  for (int64_t row = 0; row < outer * plan.out; ++row) {
    const std::vector<Tap>& taps = plan.taps[row % plan.out];
    double* to = y.data() + row * inner;
    if (taps.empty()) std::fill_n(to, inner, outside);
    for (const Tap& tap : taps) {
      const double* from = x.data() + (row / plan.out * plan.in + tap.place) * inner;
      for (int64_t i = 0; i < inner; ++i) to[i] += tap.weight * from[i];
    }
  }
  dims[plan.axis] = plan.out;
  return y;
}

// Element moves, exact in every dtype.
void TakeNearest(const RefTensor& x, RefTensor& y, const std::vector<AxisPlan>& plans,
                 double outside) {
  for (int64_t i = 0; outside != 0 && i < y.size(); ++i) y.SetAt(i, outside);
  const Dims strides = RowMajorStrides(x.dims());
  CopyElements(x, y, [&](const Dims& at) -> int64_t {
    Dims from = at;
    for (const AxisPlan& plan : plans) {
      const std::vector<Tap>& taps = plan.taps[at[plan.axis]];
      if (taps.empty()) return -1;
      from[plan.axis] = taps[0].place;
    }
    return OffsetOf(from, strides);
  });
}

Status ResizeReference(RefContext& op) {
  const Attributes& a = op.attributes();
  Dims dims = op.dims(0);
  const std::vector<Target> targets = op.has_input(3) && op.input(3).size() > 0
                                          ? TargetsFromSizes(a, dims, op.Ints(3))
                                          : TargetsFromScales(a, dims, Values(op, 2));
  const std::vector<AxisPlan> plans = ResizePlans(a, dims, targets, Values(op, 1));
  const double outside = a.Float("extrapolation_value", 0);
  RefTensor& y = op.Output(0);
  if (a.String("mode", "nearest") == "nearest") {
    TakeNearest(op.input(0), y, plans, outside);
    return {};
  }
  std::vector<double> values = Values(op, 0);
  for (const AxisPlan& plan : plans) values = ResizeAxis(values, dims, plan, outside);
  for (int64_t i = 0; i < y.size(); ++i) y.SetAt(i, values[i]);
  return {};
}

// ---- gradient: along each axis the transposed matrix of weights

ValueId Transposed(GradContext& g, const AxisPlan& plan, DType dtype) {
  Tensor matrix(DType::f64, Dims({plan.in, plan.out}));
  for (int64_t at = 0; at < plan.out; ++at)
    for (const Tap& tap : plan.taps[at])
      matrix.as<double>()[tap.place * plan.out + at] += tap.weight;
  return g.Constant(Converted(matrix.view(), dtype));
}

Result<std::vector<double>> Constants(const GradContext& g, const Graph& graph, int i) {
  if (!g.has_input(i)) return std::vector<double>();
  const Tensor* tensor = graph.constant(g.input(i));
  if (tensor == nullptr)
    return Unsupported("Resize '{}': its gradient needs input {} to be constant", g.node().name, i);
  return Doubles(*tensor);
}

Status ResizeGradient(GradContext& g) {
  const Dims x = g.type(g.input(0)).dims();
  MINIM_TRY(const std::vector<double> roi, Constants(g, g.graph(), 1));
  MINIM_TRY(const std::vector<double> scales, Constants(g, g.graph(), 2));
  MINIM_TRY(const std::vector<double> sizes, Constants(g, g.graph(), 3));
  const std::vector<Target> targets =
      sizes.empty() ? TargetsFromScales(g.attributes(), x, scales)
                    : TargetsFromSizes(g.attributes(), x, {sizes.begin(), sizes.end()});
  Dims dims = g.type(g.output(0)).dims();
  ValueId dx = g.output_grad(0);
  for (const AxisPlan& plan : ResizePlans(g.attributes(), x, targets, roi)) {
    const int64_t outer = dims.Elements(0, plan.axis);
    dx = g.Reshape(dx, Dims({outer, plan.out, dims.Elements(plan.axis + 1, dims.rank())}));
    dx = g.Emit("MatMul", {Transposed(g, plan, g.dtype(dx)), dx});
    dims[plan.axis] = plan.in;
    dx = g.Reshape(dx, dims);
  }
  g.SetInputGrad(0, dx);
  return {};
}

// ---- older forms

void MoveInput(Node& node, size_t from, size_t to) {
  if (node.inputs.size() <= to) node.inputs.resize(to + 1, kNoValue);
  std::swap(node.inputs[from], node.inputs[to]);
}

// X and scales, no coordinate mode. Nearest took the floor; Resize-10 the ceiling where it shrank.
void UpgradeScaled(UpgradeContext& u, bool ceil_shrinks) {
  MoveInput(u.node, 1, 2);
  u.node.attributes.Set("coordinate_transformation_mode", std::string("asymmetric"));
  const Tensor* scales = u.graph.constant(u.node.input(2));
  bool grows = scales == nullptr, shrinks = grows;
  for (double scale : scales ? Doubles(*scales) : std::vector<double>())
    (scale < 1 ? shrinks : grows) |= scale != 1;
  const char* rounding = !ceil_shrinks || !shrinks ? "floor" : grows ? "simple" : "ceil";
  u.node.attributes.Set("nearest_mode", std::string(rounding));
}

Status ResizeUpgrade(UpgradeContext& u) {
  if (u.from_version < 11) UpgradeScaled(u, true);
  return {};
}

Status UpsampleUpgrade(UpgradeContext& u) {
  if (u.from_version < 9) {  // scales were an attribute
    const std::vector<float> scales = u.node.attributes.Floats("scales");
    u.SetInput(1, Tensor::From<float>({static_cast<int64_t>(scales.size())}, scales));
    u.node.attributes.Erase("scales");
  }
  if (u.node.attributes.String("mode", "") == "bilinear")
    u.node.attributes.Set("mode", std::string("linear"));
  u.node.op = "Resize";
  UpgradeScaled(u, false);
  return {};
}

Status InferUpsample(InferContext& op) {
  const TensorType& x = op.input(0);
  const Tensor* scales = op.ConstantInput(1);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (scales == nullptr) return op.SetOutput(0, x.dtype, Shape(x.rank()));
  return InferFromScales(op, Doubles(*scales));
}

Status ExpandUpsample(ExpandContext& e) {
  Attributes attributes = e.attributes();
  attributes.Set("coordinate_transformation_mode", std::string("asymmetric"));
  attributes.Set("nearest_mode", std::string("floor"));
  e.SetOutput(0, e.Emit("Resize", {e.input(0), kNoValue, e.input(1)}, attributes));
  return {};
}

}  // namespace

std::vector<OpDef> ResizeOps() {
  OpDef resize = {
      .name = "Resize",
      .onnx_since = {10, 11, 13, 18, 19},
      .max_inputs = 4,
      .infer = InferResize,
      .gradient = ResizeGradient,
      .reference = ResizeReference,
      .upgrade = ResizeUpgrade,
      .samples =
          "Resize(x: f32[1,2,3,4], _, s: f32[4] = const [1,1,2,0.75])\n"
          "Resize(x: i8[2,3], _, _, z: i64[2] = [3,2]) {nearest_mode=\"floor\", "
          "coordinate_transformation_mode=\"asymmetric\"}\n"
          "Resize(x: bool[4], _, _, z: i64[1] = [7]) {nearest_mode=\"ceil\", "
          "coordinate_transformation_mode=\"half_pixel_symmetric\"}\n"
          "Resize(x: f32[2,5], _, _, z: i64[2] = [7,8]) {nearest_mode=\"round_prefer_ceil\", "
          "keep_aspect_ratio_policy=\"not_larger\"}\n"
          "Resize(x: f32[2,5], _, _, z: i64[2] = [7,8]) {mode=\"linear\", "
          "keep_aspect_ratio_policy=\"not_smaller\"}\n"
          "Resize(x: f32[1,4,5,2], _, _, z: i64[2] = [3,7]) {mode=\"linear\", axes=[2,-3], "
          "coordinate_transformation_mode=\"align_corners\"}\n"
          "Resize(x: f32[6,5], _, s: f32[2] = const [0.5,0.4]) {mode=\"linear\", antialias=1}\n"
          "Resize(x: f32[6,5], _, s: f32[2] = const [0.5,1.6]) {mode=\"cubic\", antialias=1, "
          "cubic_coeff_a=-0.5}\n"
          "Resize(x: f32[4,4], _, s: f32[2] = const [1.5,0.2]) {mode=\"cubic\", "
          "exclude_outside=1, coordinate_transformation_mode=\"pytorch_half_pixel\"}\n"
          "Resize(x: f32[4,4], r: f32[4] = const [0.4,0.6,1.2,0.9], _, z: i64[2] = [3,3]) "
          "{mode=\"linear\", coordinate_transformation_mode=\"tf_crop_and_resize\", "
          "extrapolation_value=10.0}\n"
          "Resize(x: f16[4], r: f16[2] = const [-0.5,0.9], _, z: i64[1] = [4]) "
          "{coordinate_transformation_mode=\"tf_crop_and_resize\", extrapolation_value=2.0}\n"
          "Resize(x: u8[4], _, s: f32[1] = const [1.75]) {mode=\"linear\"}\n"
          "Resize(x: f32[4], _, s: f32[1] = const [1.75]) "
          "{coordinate_transformation_mode=\"tf_half_pixel_for_nn\", nearest_mode=\"floor\"}\n"};
  OpDef upsample = {.name = "Upsample",
                    .onnx_since = {7, 9, 10},
                    .min_inputs = 2,
                    .max_inputs = 2,
                    .infer = InferUpsample,
                    .expand = ExpandUpsample,
                    .upgrade = UpsampleUpgrade,
                    .samples =
                        "Upsample(x: f32[1,1,2,3], s: f32[4] = const [1,1,2,3])\n"
                        "Upsample(x: f32[2,3], s: f32[2] = const [1.5,2]) "
                        "{mode=\"linear\"}\n"};
  return {std::move(resize), std::move(upsample)};
}

}  // namespace minim::ops
