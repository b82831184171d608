// Conv, ConvTranspose and the two gradients, all from one enumeration of products.
#include "ops/conv.h"

#include "ops/builder.h"

namespace minim::ops {

Status InferConvolution(InferContext& op, int x, int w, DType dtype) {
  const TensorType &data = op.input(x), &weight = op.input(w);
  if (!data.ranked() || !weight.ranked()) return op.SetUnknown(0, dtype);
  if (data.rank() < 3)
    return op.Error("input has shape {}, expected [N,C,...]", ToString(*data.shape));
  MINIM_TRY(op.HasRank(w, data.rank()));
  Shape shape(data.rank());
  shape[0] = (*data.shape)[0];
  shape[1] = (*weight.shape)[0];
  const int64_t group = op.attributes().Int("group", 1);
  if (group < 1) return op.Error("group is {}, expected 1 or more", group);
  const Dim& channels = (*data.shape)[1];
  const Dim expected = (*weight.shape)[1].Times(group);
  if (!channels.Compatible(expected))
    return op.Error("input has {} channels, the weight {} takes {} in {} groups",
                    channels.ToString(), ToString(*weight.shape), expected.ToString(), group);
  if (shape[1].known() && shape[1].value() % group != 0)
    return op.Error("{} output channels do not divide into {} groups", shape[1].value(), group);
  const auto kernel = ToDims(Shape(weight.shape->begin() + 2, weight.shape->end()));
  const std::vector<int64_t> stated = op.attributes().Ints("kernel_shape");
  if (kernel && !stated.empty() && !(stated.size() < 7 && Dims(stated) == *kernel))
    return op.Error("kernel_shape is [{}], the weight is {}", fmt::join(stated, ","),
                    ToString(*weight.shape));
  // Axis by axis, so that one unknown size leaves the others known.
  for (int i = 2; kernel && i < data.rank(); ++i) {
    Dims in = Dims::Filled(kernel->rank(), 1);
    const Dim& size = (*data.shape)[i];
    if (size.known()) in[i - 2] = size.value();
    auto window = MakeWindow(op.attributes(), *kernel, in);
    if (!window.ok()) return op.Error("{}", window.status().message());
    if (!size.known()) continue;
    shape[i] = WindowOutput(*window, in, false)[i - 2];
  }
  return op.SetOutput(0, dtype, std::move(shape));
}

Status CheckConvBias(const InferContext& op, int bias) {
  const TensorType& y = op.outputs()[0];
  if (!op.has_input(bias) || !op.input(bias).ranked() || !y.ranked()) return {};
  const Shape& shape = *op.input(bias).shape;
  if (shape.size() == 1 && shape[0].Compatible((*y.shape)[1])) return {};
  return op.Error("bias has shape {} for {} output channels", ToString(shape),
                  (*y.shape)[1].ToString());
}

Convolution MakeConvolution(const Attributes& a, const Dims& x, const Dims& w, const Dims& y) {
  return {.window = MakeWindow(a, Spatial(w), Spatial(x)).value(),
          .x = x,
          .w = w,
          .y = y,
          .group = a.Int("group", 1)};
}

int64_t ConvFlops(const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                  const Attributes&) {
  const Dims w = inputs[1].dims();
  return 2 * outputs[0].dims().Elements() * w.Elements(1, w.rank());
}

void ConvolveInto(RefContext& op) {
  RefTensor& y = op.MutableOutput(0);
  const Convolution c = MakeConvolution(op.attributes(), op.dims(0), op.dims(1), y.dims());
  const auto x = op.input(0).f64(), w = op.input(1).f64();
  const auto dst = y.f64();
  const int64_t area = Spatial(c.y).Elements();
  for (int64_t i = 0; op.has_input(2) && i < y.size(); ++i)
    dst[i] = op.input(2).f64()[i / area % c.y[1]];
  ForEachProduct(c, [&](int64_t o, int64_t i, int64_t k) { dst[o] += x[i] * w[k]; });
}

namespace {

Status InferConv(InferContext& op) {
  for (int i = 1; i < op.input_count(); ++i)
    if (op.has_input(i)) MINIM_TRY(op.SameDType(0, i));
  MINIM_TRY(InferConvolution(op, 0, 1, op.dtype(0)));
  return CheckConvBias(op, 2);
}

Status ConvReference(RefContext& op) {
  op.Output(0);
  ConvolveInto(op);
  return {};
}

std::vector<int64_t> AxesBut1(int rank) {
  std::vector<int64_t> axes = {0};
  for (int i = 2; i < rank; ++i) axes.push_back(i);
  return axes;
}

std::vector<int64_t> ToVector(const Dims& dims) { return {dims.begin(), dims.end()}; }

Status ConvGradient(GradContext& g) {
  const ValueId x = g.input(0), w = g.input(1), dy = g.output_grad(0);
  const Dims x_dims = g.type(x).dims(), w_dims = g.type(w).dims();
  MINIM_TRY(const Window window, MakeWindow(g.attributes(), Spatial(w_dims), Spatial(x_dims)));
  Attributes attributes = WithPads(g.attributes(), window);
  attributes.Set("kernel_shape", ToVector(Spatial(w_dims)));
  g.SetInputGrad(1, g.Emit("ConvWeightGrad", {dy, x}, attributes, kMinimDomain));
  attributes.Set("input_shape", ToVector(x_dims));
  g.SetInputGrad(0, g.Emit("ConvInputGrad", {dy, w}, attributes, kMinimDomain));
  if (g.has_input(2)) g.SetInputGrad(2, g.ReduceSum(dy, AxesBut1(x_dims.rank()), false));
  return {};
}

// dy, which is input 0, must be as large as the convolution of x by w.
Status CheckConvolved(const InferContext& op, const TensorType& x, const TensorType& w) {
  if (!x.Static() || !w.Static() || !op.input(0).Static()) return {};
  Graph graph;
  Node node{.op = "Conv", .name = op.node().name, .attributes = op.attributes()};
  node.inputs = {graph.AddValue("", x), graph.AddValue("", w)};
  node.outputs = {graph.AddValue("", {})};
  MINIM_TRY(InferNode(graph, node));
  const Dims y = graph.type(node.outputs[0]).dims();
  if (y == op.input(0).dims()) return {};
  return op.Error("gradient has dims {}, expected {}", op.input(0).dims().ToString(), y.ToString());
}

Status InferInputGrad(InferContext& op) {
  const std::vector<int64_t> dims = op.attributes().Ints("input_shape");
  if (dims.size() < 3 || dims.size() > static_cast<size_t>(kMaxRank))
    return op.Error("input_shape has {} dims, expected 3 to {}", dims.size(), kMaxRank);
  const TensorType x{op.dtype(0), ToShape(Dims(dims))};
  MINIM_TRY(CheckConvolved(op, x, op.input(1)));
  return op.SetOutput(0, x);
}

Status InputGradReference(RefContext& op) {
  RefTensor& dx = op.Output(0);
  const Convolution c = MakeConvolution(op.attributes(), dx.dims(), op.dims(1), op.dims(0));
  const auto dy = op.input(0).f64(), w = op.input(1).f64();
  const auto dst = dx.f64();
  ForEachProduct(c, [&](int64_t o, int64_t i, int64_t k) { dst[i] += dy[o] * w[k]; });
  return {};
}

Status InferWeightGrad(InferContext& op) {
  const std::vector<int64_t> kernel = op.attributes().Ints("kernel_shape");
  if (!op.input(0).ranked() || !op.input(1).ranked()) return op.SetUnknown(0, op.dtype(0));
  if (static_cast<int>(kernel.size()) + 2 != op.input(0).rank())
    return op.Error("kernel_shape has {} dims for shape {}", kernel.size(),
                    ToString(*op.input(0).shape));
  const int64_t group = std::max<int64_t>(1, op.attributes().Int("group", 1));
  Shape shape = {(*op.input(0).shape)[1],
                 (*op.input(1).shape)[1].Map([&](int64_t c) { return c / group; })};
  shape.insert(shape.end(), kernel.begin(), kernel.end());
  MINIM_TRY(CheckConvolved(op, op.input(1), {op.dtype(0), shape}));
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

Status WeightGradReference(RefContext& op) {
  RefTensor& dw = op.Output(0);
  const Convolution c = MakeConvolution(op.attributes(), op.dims(1), dw.dims(), op.dims(0));
  const auto dy = op.input(0).f64(), x = op.input(1).f64();
  const auto dst = dw.f64();
  ForEachProduct(c, [&](int64_t o, int64_t i, int64_t k) { dst[k] += dy[o] * x[i]; });
  return {};
}

// A transposed convolution is the input gradient of the convolution that leads back.
struct Transposed {
  Window window;
  Dims out;
};

// The default strides and dilations come from MakeWindow; pads from output_shape where given.
Result<Transposed> MakeTransposed(const Attributes& a, const Dims& kernel, const Dims& in) {
  Attributes plain = a;
  plain.Erase("auto_pad");
  MINIM_TRY(Window w, MakeWindow(plain, kernel, in));
  const std::string mode = a.String("auto_pad", "NOTSET");
  const std::vector<int64_t> extra = a.Ints("output_padding", std::vector<int64_t>(w.rank(), 0));
  std::vector<int64_t> wanted = a.Ints("output_shape");
  if (static_cast<int>(extra.size()) != w.rank())
    return InvalidArgument("output_padding has {} values, expected {}", extra.size(), w.rank());
  if (wanted.size() > static_cast<size_t>(w.rank()))
    wanted.erase(wanted.begin(), wanted.end() - w.rank());
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (wanted.empty() && same)
    for (int i = 0; i < w.rank(); ++i) wanted.push_back(in[i] * w.strides[i]);
  if (!wanted.empty() && static_cast<int>(wanted.size()) != w.rank())
    return InvalidArgument("output_shape has {} values, expected {}", wanted.size(), w.rank());
  Transposed t;
  for (int i = 0; i < w.rank(); ++i) {
    const int64_t full = w.strides[i] * (in[i] - 1) + extra[i] + w.Extent(i);
    if (!wanted.empty()) {
      const int64_t total = std::max<int64_t>(0, full - wanted[i]);
      w.begins[i] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.ends[i] = total - w.begins[i];
      t.out.push_back(wanted[i]);
    } else {
      t.out.push_back(std::max<int64_t>(0, full - w.begins[i] - w.ends[i]));
    }
  }
  t.window = w;
  return t;
}

Status InferConvTranspose(InferContext& op) {
  MINIM_TRY(op.SameDType(0, 1));
  const TensorType &x = op.input(0), &w = op.input(1);
  if (!x.ranked() || !w.ranked()) return op.SetUnknown(0, x.dtype);
  if (x.rank() < 3) return op.Error("input has shape {}, expected [N,C,...]", ToString(*x.shape));
  MINIM_TRY(op.HasRank(1, x.rank()));
  if (!(*x.shape)[1].Compatible((*w.shape)[0]))
    return op.Error("input {} and weight {} disagree on the channels", ToString(*x.shape),
                    ToString(*w.shape));
  const int64_t group = op.attributes().Int("group", 1);
  if (group < 1) return op.Error("group is {}, expected 1 or more", group);
  Shape shape(x.rank());
  shape[0] = (*x.shape)[0];
  shape[1] = (*w.shape)[1].Times(group);
  const auto kernel = ToDims(Shape(w.shape->begin() + 2, w.shape->end()));
  const auto in = ToDims(Shape(x.shape->begin() + 2, x.shape->end()));
  if (kernel && in) {
    auto t = MakeTransposed(op.attributes(), *kernel, *in);
    if (!t.ok()) return op.Error("{}", t.status().message());
    for (int i = 0; i < in->rank(); ++i) shape[2 + i] = Dim(t->out[i]);
  }
  MINIM_TRY(op.SetOutput(0, x.dtype, std::move(shape)));
  return CheckConvBias(op, 2);
}

Status ConvTransposeReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  MINIM_TRY(const Transposed t,
            MakeTransposed(op.attributes(), Spatial(op.dims(1)), Spatial(op.dims(0))));
  const Convolution back{.window = t.window,
                         .x = y.dims(),
                         .w = op.dims(1),
                         .y = op.dims(0),
                         .group = op.attributes().Int("group", 1)};
  const auto x = op.input(0).f64(), w = op.input(1).f64();
  const auto dst = y.f64();
  const int64_t area = Spatial(y.dims()).Elements();
  for (int64_t i = 0; op.has_input(2) && i < y.size(); ++i)
    dst[i] = op.input(2).f64()[i / area % y.dims()[1]];
  ForEachProduct(back, [&](int64_t o, int64_t i, int64_t k) { dst[i] += x[o] * w[k]; });
  return {};
}

// Padding at the end by output_padding keeps the backward convolution's output at x's size.
Status ConvTransposeGradient(GradContext& g) {
  const ValueId x = g.input(0), w = g.input(1);
  ValueId dy = g.output_grad(0);
  const Dims x_dims = g.type(x).dims(), w_dims = g.type(w).dims();
  MINIM_TRY(const Transposed t, MakeTransposed(g.attributes(), Spatial(w_dims), Spatial(x_dims)));
  Attributes attributes = WithPads(g.attributes(), t.window);
  attributes.Erase("output_padding");
  attributes.Erase("output_shape");
  attributes.Set("kernel_shape", ToVector(Spatial(w_dims)));
  const ValueId dx = g.Emit("Conv", {dy, w}, attributes);
  std::vector<int64_t> starts(t.window.rank(), 0), axes;
  for (int i = 0; i < t.window.rank(); ++i) axes.push_back(i + 2);
  g.SetInputGrad(0, g.Slice(dx, starts, ToVector(Spatial(x_dims)), axes));
  g.SetInputGrad(1, g.Emit("ConvWeightGrad", {x, dy}, attributes, kMinimDomain));
  if (g.has_input(2)) g.SetInputGrad(2, g.ReduceSum(dy, AxesBut1(x_dims.rank()), false));
  return {};
}

OpDef Base(std::string name, std::string domain, std::vector<int> since, int max_inputs) {
  return {.name = std::move(name),
          .domain = std::move(domain),
          .onnx_since = std::move(since),
          .min_inputs = 2,
          .max_inputs = max_inputs,
          .dtypes = kFloatTypes,
          .precision = PrecisionClass::kLower,
          .flops = ConvFlops};
}

OpDef Conv() {
  OpDef def = Base("Conv", "", {1, 11, 22}, 3);
  def.infer = InferConv;
  def.gradient = ConvGradient;
  def.reference = ConvReference;
  def.samples =
      "Conv(x: f32[2,3,5,7], w: f32[4,3,3,2], b: f32[4]) {pads=[1,0,2,1], strides=[2,1]}\n"
      "Conv(x: f32[1,4,6], w: f32[6,2,3]) {group=2, dilations=[2], kernel_shape=[3]}\n"
      "Conv(x: f32[1,2,5,5], w: f32[2,1,3,3]) {group=2, auto_pad=\"SAME_UPPER\", strides=[2,2]}\n"
      "Conv(x: f32[1,2,4,5], w: f32[2,2,2,2]) {auto_pad=\"SAME_LOWER\"}\n"
      "Conv(x: f32[1,2,3,3,3], w: f32[2,2,2,2,2]) {auto_pad=\"VALID\"}\n"
      "Conv(x: f16[1,2,4], w: f16[2,2,1])\nConv(x: bf16[0,2,4], w: bf16[2,2,1])\n";
  return def;
}

OpDef ConvTranspose() {
  OpDef def = Base("ConvTranspose", "", {1, 11, 22}, 3);
  def.infer = InferConvTranspose;
  def.gradient = ConvTransposeGradient;
  def.reference = ConvTransposeReference;
  def.flops = [](const std::vector<TensorType>& inputs, const std::vector<TensorType>&,
                 const Attributes&) {
    const Dims w = inputs[1].dims();
    return 2 * inputs[0].dims().Elements() * w.Elements(1, w.rank());
  };
  def.samples =
      "ConvTranspose(x: f32[2,3,4,3], w: f32[3,2,3,2], b: f32[2]) {strides=[2,1], pads=[1,0,0,1]}\n"
      "ConvTranspose(x: f32[1,4,5], w: f32[4,1,3]) {group=2, dilations=[2]}\n"
      "ConvTranspose(x: f32[1,2,4], w: f32[2,1,3]) {strides=[3], output_padding=[1]}\n"
      "ConvTranspose(x: f32[1,2,4], w: f32[2,1,3]) {strides=[2], output_shape=[8]}\n"
      "ConvTranspose(x: f32[1,1,3], w: f32[1,2,3]) {strides=[2], auto_pad=\"SAME_UPPER\"}\n"
      "ConvTranspose(x: f32[1,1,3], w: f32[1,2,3]) {strides=[2], auto_pad=\"SAME_LOWER\"}\n";
  return def;
}

std::vector<OpDef> Gradients() {
  OpDef input = Base("ConvInputGrad", std::string(kMinimDomain), {}, 2);
  input.infer = InferInputGrad;
  input.reference = InputGradReference;
  input.samples =
      "ConvInputGrad(dy: f32[1,4,3,3], w: f32[4,2,2,2]) {input_shape=[1,2,4,4]}\n"
      "ConvInputGrad(dy: f32[2,2,3], w: f32[2,1,2]) {group=2, strides=[2], "
      "pads=[1,0], input_shape=[2,2,5]}\n";
  OpDef weight = Base("ConvWeightGrad", std::string(kMinimDomain), {}, 2);
  weight.infer = InferWeightGrad;
  weight.reference = WeightGradReference;
  weight.flops = [](const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                    const Attributes&) {
    const Dims dw = outputs[0].dims();
    return 2 * inputs[0].dims().Elements() * dw.Elements(1, dw.rank());
  };
  weight.samples =
      "ConvWeightGrad(dy: f32[1,4,3,3], x: f32[1,2,4,4]) {kernel_shape=[2,2]}\n"
      "ConvWeightGrad(dy: f32[2,2,3], x: f32[2,2,5]) {group=2, strides=[2], "
      "pads=[1,0], kernel_shape=[2]}\n";
  return {std::move(input), std::move(weight)};
}

}  // namespace

std::vector<OpDef> ConvOps() {
  std::vector<OpDef> defs = Gradients();
  defs.push_back(Conv());
  defs.push_back(ConvTranspose());
  return defs;
}

}  // namespace minim::ops
