// HannWindow, HammingWindow, BlackmanWindow: sums of cosines over a length. MelWeightMatrix.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

constexpr int64_t kFloatId = 1;  // f32 in ONNX

Result<DType> OutputType(const InferContext& op) {
  const int64_t id = op.attributes().Int("output_datatype", kFloatId);
  const auto dtype = DTypeFromOnnx(static_cast<int>(id));
  if (!dtype || *dtype == DType::bool_)
    return op.Error("output_datatype {} is not a number type of minim", id);
  return *dtype;
}

// The value of a scalar input that must lie in [low, INT32_MAX]; unknown until it is constant.
Result<Dim> SizeInput(InferContext& op, int i, int64_t low) {
  const auto value = op.IntsInput(i);
  if (!value) return Dim();
  if (value->size() != 1 || (*value)[0] < low || (*value)[0] > INT32_MAX)
    return op.Error("input {} must be one number of {} or more", i, low);
  return Dim((*value)[0]);
}

// w[i] = a - b cos(2 pi i / n) + c cos(4 pi i / n)
struct WindowRow {
  const char* name;
  double a, b, c;
};

constexpr WindowRow kWindows[] = {
    {"HannWindow", 0.5, 0.5, 0},
    {"HammingWindow", 25.0 / 46, 21.0 / 46, 0},
    {"BlackmanWindow", 0.42, 0.5, 0.08},
};

Status InferWindow(InferContext& op) {
  MINIM_TRY(const DType dtype, OutputType(op));
  MINIM_TRY(const Dim size, SizeInput(op, 0, 0));
  return op.SetOutput(0, dtype, Shape{size});
}

Status WindowReference(RefContext& op, const WindowRow& row) {
  RefTensor& y = op.Output(0);
  const int64_t period = op.attributes().Int("periodic", 1) != 0 ? y.size() : y.size() - 1;
  for (int64_t i = 0; i < y.size(); ++i) {
    const double turn = 2 * std::numbers::pi * static_cast<double>(i) /
                        static_cast<double>(std::max<int64_t>(1, period));
    y.SetAt(i, row.a - row.b * std::cos(turn) + row.c * std::cos(2 * turn));
  }
  return {};
}

OpDef Window(const WindowRow& row) {
  return {.name = row.name,
          .onnx_since = {17},
          .dtypes = {DType::i64, DType::i32},
          .infer = InferWindow,
          .reference = [row](RefContext& op) { return WindowReference(op, row); },
          .precision = PrecisionClass::kFp32,
          .samples = fmt::format("{0}(n: i64 = [5])\n{0}(n: i32 = [4]) {{periodic=0}}\n"
                                 "{0}(n: i64 = [3]) {{output_datatype=11}}\n"
                                 "{0}(n: i64 = [1]) {{periodic=0, output_datatype=7}}\n",
                                 row.name)};
}

// ---- MelWeightMatrix: [dft_length / 2 + 1, num_mel_bins], a triangle over the spectrum for each
// mel band

double MelOf(double hertz) { return 2595 * std::log10(1 + hertz / 700); }
double HertzOf(double mel) { return 700 * (std::pow(10, mel / 2595) - 1); }

Status InferMel(InferContext& op) {
  MINIM_TRY(const DType dtype, OutputType(op));
  MINIM_TRY(const Dim bands, SizeInput(op, 0, 1));
  MINIM_TRY(const Dim length, SizeInput(op, 1, 1));
  return op.SetOutput(0, dtype, Shape{length.Map([](int64_t n) { return n / 2 + 1; }), bands});
}

// The spectral places at which the bands begin, peak and end.
std::vector<int64_t> MelEdges(const RefContext& op, int64_t bands, int64_t last) {
  const double low = MelOf(op.input(3).At(0)), high = MelOf(op.input(4).At(0));
  const double step = (high - low) / static_cast<double>(bands + 2);
  const double per_hertz = (op.input(1).At(0) + 1) / op.input(2).At(0);
  std::vector<int64_t> edges;
  for (int64_t i = 0; i < bands + 2; ++i) {
    const double place = std::floor(per_hertz * HertzOf(low + static_cast<double>(i) * step));
    const double inside = place > 0 ? std::min(place, static_cast<double>(last)) : 0;  // or NaN
    edges.push_back(static_cast<int64_t>(inside));
  }
  return edges;
}

Status MelReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const int64_t rows = y.dims()[0], bands = y.dims()[1];
  if (!(op.input(2).At(0) > 0) || !(op.input(3).At(0) >= 0) || !(op.input(4).At(0) >= 0))
    return op.Error("the rate is {} and the edges {} and {}, expected positive numbers",
                    op.input(2).At(0), op.input(3).At(0), op.input(4).At(0));
  const std::vector<int64_t> edges = MelEdges(op, bands, rows);
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t first = edges[band], peak = edges[band + 1], end = edges[band + 2];
    const auto share = [](int64_t part, int64_t whole) {
      return static_cast<double>(part) / static_cast<double>(whole);
    };
    const auto set = [&](int64_t row, double value) {
      if (row < rows) y.SetAt(row * bands + band, value);
    };
    if (first == peak) set(peak, 1);
    for (int64_t row = first; first != peak && row <= peak; ++row)
      set(row, share(row - first, peak - first));
    for (int64_t row = peak; row < end; ++row) set(row, share(end - row, end - peak));
  }
  return {};
}

}  // namespace

std::vector<OpDef> WindowOps() {
  std::vector<OpDef> defs;
  for (const WindowRow& row : kWindows) defs.push_back(Window(row));
  defs.push_back({.name = "MelWeightMatrix",
                  .onnx_since = {17},
                  .min_inputs = 5,
                  .max_inputs = 5,
                  .dtypes = {DType::i64, DType::i32},
                  .infer = InferMel,
                  .reference = MelReference,
                  .precision = PrecisionClass::kFp32,
                  .samples = "MelWeightMatrix(b: i64 = [8], n: i64 = [16], r: i64 = [8192], "
                             "l: f32 = const [0], h: f32 = const [4096])\n"
                             "MelWeightMatrix(b: i32 = [3], n: i32 = [8], r: i32 = [100], "
                             "l: f64 = const [5], h: f64 = const [50]) {output_datatype=11}\n"});
  return defs;
}

}  // namespace minim::ops
