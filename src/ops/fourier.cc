// DFT and STFT. The last axis of a signal holds a real number, or a real and an imaginary part.
#include <complex>
#include <numbers>

#include "ops/movement.h"

namespace minim::ops {
namespace {

using Complex = std::complex<double>;

constexpr int64_t kMaxLength = int64_t{1} << 24;

struct Form {
  bool inverse, onesided;

  explicit Form(const Attributes& a)
      : inverse(a.Int("inverse", 0) != 0), onesided(a.Int("onesided", 0) != 0) {}
  /// Half a spectrum is read, and a real signal written.
  bool ToReal() const { return inverse && onesided; }
  int64_t DefaultLength(int64_t size) const { return ToReal() ? 2 * (size - 1) : size; }
  int64_t OutputSize(int64_t length) const {
    return onesided && !inverse ? length / 2 + 1 : length;
  }
};

Status InferDft(InferContext& op) {
  const TensorType& x = op.input(0);
  const Form form(op.attributes());
  std::optional<std::vector<int64_t>> length, axis = std::vector<int64_t>{-2};
  if (op.has_input(1)) length = op.IntsInput(1);
  if (op.has_input(2)) axis = op.IntsInput(2);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (x.rank() < 2 || !(x.shape->back() == Dim(1) || x.shape->back().Compatible(Dim(2))))
    return op.Error("input has shape {}, expected [...,1] or [...,2]", ToString(*x.shape));
  if ((length && length->size() != 1) || (axis && axis->size() != 1))
    return op.Error("dft_length and axis must be one number each");
  if (length && ((*length)[0] < 1 || (*length)[0] > kMaxLength))
    return op.Error("dft_length is {}, expected 1 to {}", (*length)[0], kMaxLength);
  Shape shape(x.rank());
  if (axis) {
    MINIM_TRY(const int along, op.Axis((*axis)[0], x.rank()));
    if (along == x.rank() - 1) return op.Error("axis is {}, that of the parts", along);
    Dim size = op.has_input(1) ? (length ? Dim((*length)[0]) : Dim())
                               : (*x.shape)[along].Map([&](int64_t n) {
                                   return std::max<int64_t>(0, form.DefaultLength(n));
                                 });
    shape = *x.shape;
    shape[along] = size.Map([&](int64_t n) { return form.OutputSize(n); });
  }
  shape.back() = Dim(form.ToReal() ? 1 : 2);
  return op.SetOutput(0, x.dtype, std::move(shape));
}

int64_t SmallestFactor(int64_t n) {
  for (int64_t p = 2; p * p <= n; ++p)
    if (n % p == 0) return p;
  return n;
}

// y[k] = sum over i of x[i stride] exp(turn i k), turn = sign 2 pi / n: the signal is split by its
// smallest factor p into p interleaved ones.
void Transform(const Complex* x, int64_t stride, int64_t n, double sign, Complex* y) {
  if (n == 1) {
    y[0] = x[0];
    return;
  }
  const int64_t p = SmallestFactor(n), m = n / p;
  for (int64_t r = 0; m > 1 && r < p; ++r)
    Transform(x + r * stride, stride * p, m, sign, y + r * m);
  for (int64_t r = 0; m == 1 && r < p; ++r) y[r] = x[r * stride];
  const double turn = sign * 2 * std::numbers::pi / static_cast<double>(n);
  std::vector<Complex> roots(n), parts(p);
  for (int64_t i = 0; i < n; ++i) roots[i] = std::polar(1.0, turn * static_cast<double>(i));
  for (int64_t k = 0; k < m; ++k) {
    for (int64_t r = 0; r < p; ++r) parts[r] = y[r * m + k];
    for (int64_t q = 0; q < p; ++q) {
      const int64_t place = k + q * m;
      Complex sum = 0;
      for (int64_t r = 0; r < p; ++r) sum += parts[r] * roots[r * place % n];
      y[place] = sum;
    }
  }
}

// A line of the input as `length` numbers: cut, or filled with zeros; half a spectrum is mirrored.
std::vector<Complex> ReadLine(const RefTensor& x, int64_t start, int64_t stride, int64_t size,
                              int64_t length, bool mirror) {
  const int64_t parts = x.dims()[x.dims().rank() - 1];
  std::vector<Complex> line(length);
  const int64_t read = std::min(size, mirror ? length / 2 + 1 : length);
  for (int64_t i = 0; i < read; ++i) {
    const int64_t at = start + i * stride;
    line[i] = {x.f64()[at], parts == 2 ? x.f64()[at + 1] : 0};
    if (mirror && i > 0) line[length - i] = std::conj(line[i]);
  }
  if (mirror) line[0] = line[0].real();
  if (mirror && length % 2 == 0) line[length / 2] = line[length / 2].real();
  return line;
}

int AxisOf(const RefContext& op) {
  return Positive(op.has_input(2) ? op.input(2).IntAt(0) : -2, op.dims(0).rank());
}

Status DftReference(RefContext& op) {
  const Form form(op.attributes());
  RefTensor& y = op.Output(0);
  const Dims &x = op.dims(0), &out = y.dims();
  const int axis = AxisOf(op), last = x.rank() - 1;
  const int64_t length = op.has_input(1) ? op.input(1).IntAt(0) : form.DefaultLength(x[axis]);
  if (length < 1) return y.size() > 0 ? op.Error("axis {} has size {}", axis, x[axis]) : Status();
  const int64_t outer = x.Elements(0, axis), inner = x.Elements(axis + 1, last);
  const double scale = form.inverse ? 1 / static_cast<double>(length) : 1;
  std::vector<Complex> spectrum(length);
  for (int64_t line = 0; line < outer * inner; ++line) {
    const int64_t o = line / inner, i = line % inner;
    const std::vector<Complex> signal = ReadLine(op.input(0), (o * x[axis] * inner + i) * x[last],
                                                 inner * x[last], x[axis], length, form.ToReal());
    Transform(signal.data(), 1, length, form.inverse ? 1 : -1, spectrum.data());
    for (int64_t k = 0; k < out[axis]; ++k) {
      const int64_t to = ((o * out[axis] + k) * inner + i) * out[last];
      y.f64()[to] = spectrum[k].real() * scale;
      if (out[last] == 2) y.f64()[to + 1] = spectrum[k].imag() * scale;
    }
  }
  return {};
}

// ---- gradient: the conjugate transform of dy

// `v` cut or filled with zeros to `size` along `axis`.
ValueId Resized(GradContext& g, ValueId v, int axis, int64_t size) {
  const Dims dims = g.type(v).dims();
  if (dims[axis] == size) return v;
  std::vector<int64_t> pads(2 * dims.rank());
  pads[dims.rank() + axis] = size - dims[axis];
  return g.Emit("Pad", {v, g.Ints(pads)});
}

// 1, 2, .., 2, and 1 at the end of an even length: how often half a spectrum's places count.
ValueId Multiplicity(GradContext& g, const Dims& dims, int axis, int64_t length, DType dtype) {
  Dims shape = Dims::Filled(dims.rank(), 1);
  shape[axis] = dims[axis];
  Tensor counts(DType::f64, shape);
  for (int64_t i = 0; i < dims[axis]; ++i)
    counts.as<double>()[i] = i == 0 || 2 * i == length ? 1 : 2;
  return g.Constant(Converted(counts.view(), dtype));
}

Status DftGradient(GradContext& g) {
  const Form form(g.attributes());
  const Dims x = g.type(g.input(0)).dims();
  std::vector<int64_t> axes = {-2}, lengths;
  if (g.has_input(2)) {
    MINIM_TRY(axes, g.ConstantInts(2));
  }
  const int axis = Positive(axes.at(0), x.rank());
  if (g.has_input(1)) {
    MINIM_TRY(lengths, g.ConstantInts(1));
  }
  const int64_t length = lengths.empty() ? form.DefaultLength(x[axis]) : lengths[0];
  const ValueId dy = Resized(g, g.output_grad(0), axis, length);
  const ValueId along = g.Constant(Tensor::Scalar<int64_t>(axis));
  const Attributes attributes = {{"inverse", int64_t{!form.inverse}},
                                 {"onesided", int64_t{form.ToReal()}}};
  ValueId dx = g.Emit("DFT", {dy, kNoValue, along}, attributes);
  const auto count = static_cast<double>(length);
  dx = g.Mul(dx, form.inverse ? 1 / count : count);
  if (form.ToReal()) dx = g.Mul(dx, Multiplicity(g, g.type(dx).dims(), axis, length, g.dtype(dx)));
  dx = Resized(g, Resized(g, dx, axis, x[axis]), x.rank() - 1, x[x.rank() - 1]);
  g.SetInputGrad(0, dx);
  return {};
}

Status DftUpgrade(UpgradeContext& u) {  // 17: the axis was an attribute, 1 unless given
  if (u.from_version >= 20) return {};
  u.SetInput(2, Tensor::Scalar<int64_t>(u.node.attributes.Int("axis", 1)));
  u.node.attributes.Erase("axis");
  return {};
}

// ---- STFT: frames of the signal, times the window, transformed

// The number of samples a frame; unknown until an input that gives it is constant.
Result<Dim> FrameLength(InferContext& op) {
  const Dim window = op.has_input(2) && op.input(2).ranked() ? (*op.input(2).shape)[0] : Dim();
  if (!op.has_input(3)) {
    if (op.has_input(2)) return window;
    return op.Error("has neither window nor frame_length");
  }
  const auto given = op.IntsInput(3);
  if (!given) return window;
  if (given->size() != 1 || (*given)[0] < 1 || !window.Compatible(Dim((*given)[0])))
    return op.Error("frame_length must be one number, the window's size");
  return Dim((*given)[0]);
}

Status InferStft(InferContext& op) {
  const TensorType& x = op.input(0);
  if (op.has_input(2)) MINIM_TRY(op.HasRank(2, 1));
  MINIM_TRY(const Dim length, FrameLength(op));
  const auto step = op.IntsInput(1);
  MINIM_TRY(op.HasRank(0, 3));
  if (step && (step->size() != 1 || (*step)[0] < 1))
    return op.Error("frame_step must be one number of 1 or more");
  const Shape in = x.ranked() ? *x.shape : Shape(3);
  if (!(in[2] == Dim(1) || in[2].Compatible(Dim(2))))
    return op.Error("signal has shape {}, expected [N,length,1] or [N,length,2]", ToString(in));
  Dim frames;
  if (in[1].known() && length.known() && step) {
    if (length.value() < 1 || length.value() > in[1].value())
      return op.Error("frames of {} samples for a signal of {}", length.value(), in[1].value());
    frames = Dim((in[1].value() - length.value()) / (*step)[0] + 1);
  }
  const bool onesided = op.attributes().Int("onesided", 1) != 0;
  const Dim bins = length.Map([&](int64_t n) { return onesided ? n / 2 + 1 : n; });
  return op.SetOutput(0, x.dtype, Shape{in[0], frames, bins, Dim(2)});
}

Status ExpandStft(ExpandContext& e) {
  const Tensor* step = e.graph().constant(e.input(1));
  const Shape& out = *e.type(e.node().output(0)).shape;
  if (step == nullptr || !out[1].known() || !e.type(e.input(0)).Static())
    return Unsupported("STFT '{}': needs static shapes", e.node().name);
  const Tensor* given = e.graph().constant(e.input(3));
  const int64_t length =
      given ? Converted(given->view(), DType::i64).as<int64_t>()[0] : e.type(e.input(2)).dims()[0];
  const int64_t hop = Converted(step->view(), DType::i64).as<int64_t>()[0];
  Tensor places(DType::i64, Dims({out[1].value(), length}));
  for (int64_t i = 0; i < places.size(); ++i)
    places.as<int64_t>()[i] = i / length * hop + i % length;
  ValueId frames =
      e.Emit("Gather", {e.input(0), e.Constant(std::move(places))}, {{"axis", int64_t{1}}});
  if (e.has_input(2)) frames = e.Mul(frames, e.Reshape(e.input(2), Dims({length, 1})));
  e.SetOutput(0, e.Emit("DFT", {frames, kNoValue, e.Constant(Tensor::Scalar<int64_t>(2))},
                        {{"onesided", e.attributes().Int("onesided", 1)}}));
  return {};
}

}  // namespace

std::vector<OpDef> FourierOps() {
  OpDef dft = {.name = "DFT",
               .onnx_since = {17, 20},
               .max_inputs = 3,
               .dtypes = kFloatTypes,
               .infer = InferDft,
               .gradient = DftGradient,
               .reference = DftReference,
               .upgrade = DftUpgrade,
               .precision = PrecisionClass::kFp32,
               .samples =
                   "DFT(x: f32[2,6,1])\nDFT(x: f32[2,5,3,2], _, a: i64 = [1]) {inverse=1}\n"
                   "DFT(x: f32[2,5,1], n: i64 = [8]) {onesided=1}\n"
                   "DFT(x: f32[7,2], n: i32 = [4], a: i64 = [0])\n"
                   "DFT(x: f32[1,5,2]) {inverse=1, onesided=1}\n"
                   "DFT(x: f32[1,4,2], n: i64 = [7]) {inverse=1, onesided=1}\n"
                   "DFT(x: f16[1,4,1])\n"};
  OpDef stft = {.name = "STFT",
                .onnx_since = {17},
                .min_inputs = 2,
                .max_inputs = 4,
                .dtypes = kFloatTypes,
                .infer = InferStft,
                .expand = ExpandStft,
                .precision = PrecisionClass::kFp32,
                .samples =
                    "STFT(x: f32[2,16,1], s: i64 = [4], w: f32[8])\n"
                    "STFT(x: f32[1,9,2], s: i32 = [3], _, n: i32 = [4]) {onesided=0}\n"
                    "STFT(x: f16[1,9,1], s: i64 = [3], w: f16[4], n: i64 = [4])\n"};
  return {std::move(dft), std::move(stft)};
}

}  // namespace minim::ops
