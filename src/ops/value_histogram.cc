// How a value is distributed: counts of its elements in equal bins over range[0] to range[1], those
// beyond in the outermost bins, and how many are exactly 0 (they count in a bin too). NaN counts
// nowhere; where the range is empty all others are in the first bin. Calibration uses it.
#include <algorithm>
#include <cmath>

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

constexpr int64_t kMostBins = 1 << 20;

Status Infer(InferContext& op) {
  const int64_t bins = op.attributes().Int("bins", 0);
  if (bins < 1 || bins > kMostBins)
    return op.Error("bins is {}, expected 1 to {}", bins, kMostBins);
  MINIM_TRY(op.SameDType(0, 1));
  MINIM_TRY(op.HasShape(1, Shape{2}));
  MINIM_TRY(op.SetOutput(0, {DType::i64, Shape{bins}}));
  return op.SetOutput(1, {DType::i64, Shape()});
}

Status Reference(RefContext& op) {
  RefTensor& counts = op.Output(0);
  const double low = op.input(1).At(0), high = op.input(1).At(1);
  const double last = static_cast<double>(counts.size() - 1);
  const double per_unit = high > low ? static_cast<double>(counts.size()) / (high - low) : 0;
  int64_t zeros = 0;
  for (double x : op.input(0).f64()) {
    zeros += x == 0;
    if (std::isnan(x)) continue;
    const double place = per_unit > 0 ? (x - low) * per_unit : 0;
    ++counts.i64()[static_cast<int64_t>(std::clamp(place, 0.0, last))];
  }
  if (op.has_output(1)) op.Output(1).i64()[0] = zeros;
  return {};
}

}  // namespace

OpDef ValueHistogram() {
  return {.name = "ValueHistogram",
          .domain = std::string(kMinimDomain),
          .min_inputs = 2,
          .max_inputs = 2,
          .dtypes = {DType::f32},
          .infer = Infer,
          .reference = Reference,
          .precision = PrecisionClass::kFp32,
          .samples =
              "n, z = ValueHistogram(x: f32[3,70], r: f32[2] = [-1, 0.7]) {bins=16}\n"
              "n, z = ValueHistogram(x: f32[6] = [0, inf, -inf, nan, 0.5, 9], r: f32[2] = "
              "[0, 2]) {bins=3}\n"
              "n = ValueHistogram(x: f32[5], r: f32[2] = [1, 1]) {bins=2048}\n"};
}

}  // namespace minim::ops
