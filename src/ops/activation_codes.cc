// EncodeActivation and DecodeActivation: what a training step keeps for its backward pass in 8 or 4
// bits an element. Inputs of the first: x and a number that varies the draws; outputs: codes
// u8[groups, bytes] and ranges f32[groups, 2]. The second takes these and makes the `shape` again.
#include "core/group_codes.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

Result<int> BitsOf(InferContext& op) {
  const int64_t bits = op.attributes().Int("bits", 8);
  if (bits == 8 || bits == 4) return static_cast<int>(bits);
  return op.Error("bits is {}, expected 8 or 4", bits);
}

Status InferEncode(InferContext& op) {
  MINIM_TRY(const int bits, BitsOf(op));
  if (!op.input(0).Static()) return op.Error("needs a static shape");
  const int64_t groups = CodeGroups(op.input(0).dims().Elements());
  MINIM_TRY(op.SetOutput(0, DType::u8, Shape{groups, CodeBytes(bits)}));
  return op.SetOutput(1, DType::f32, Shape{groups, 2});
}

Status InferDecode(InferContext& op) {
  MINIM_TRY(const int bits, BitsOf(op));
  const std::vector<int64_t> shape = op.attributes().Ints("shape");
  if (std::any_of(shape.begin(), shape.end(), [](int64_t size) { return size < 0; }))
    return op.Error("shape has a negative size");
  const Dims dims{std::span(shape)};
  const int64_t groups = CodeGroups(dims.Elements());
  if (op.dtype(0) != DType::u8 || op.dtype(1) != DType::f32)
    return op.Error("codes are {} and ranges {}, expected u8 and f32", Name(op.dtype(0)),
                    Name(op.dtype(1)));
  MINIM_TRY(op.HasShape(0, Shape{groups, CodeBytes(bits)}));
  MINIM_TRY(op.HasShape(1, Shape{groups, 2}));
  return op.SetOutput(0, DType::f32, ToShape(dims));
}

Status EncodeReference(RefContext& op) {
  const auto x = op.input(0).f64();
  const int bits = static_cast<int>(op.attributes().Int("bits", 8));
  const Philox rng(static_cast<uint64_t>(op.attributes().Int("seed", 0)),
                   op.has_input(1) ? static_cast<uint64_t>(op.input(1).IntAt(0)) : 0);
  RefTensor &codes = op.Output(0), &ranges = op.Output(1);
  const auto elements = static_cast<int64_t>(x.size());
  for (int64_t group = 0; group < CodeGroups(elements); ++group) {
    const int64_t first = group * kCodeGroup, count = std::min(kCodeGroup, elements - first);
    const std::vector<float> group_x(x.begin() + first, x.begin() + first + count);
    const CodeRange range = RangeOf(group_x.data(), count, bits);
    ranges.f64()[2 * group] = range.low;
    ranges.f64()[2 * group + 1] = range.step;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t code = CodeOf(group_x[i], range, InverseStep(range), DrawOf(rng, group, i),
                                  static_cast<float>((1 << bits) - 1));
      const bool upper = bits == 4 && i >= kCodeGroup / 2;
      codes.i64()[group * CodeBytes(bits) + (upper ? i - kCodeGroup / 2 : i)] |=
          upper ? code << 4 : code;
    }
  }
  return {};
}

Status DecodeReference(RefContext& op) {
  const int bits = static_cast<int>(op.attributes().Int("bits", 8));
  const auto codes = op.input(0).i64();
  const auto ranges = op.input(1).f64();
  RefTensor& y = op.Output(0);
  std::vector<uint8_t> group_codes(static_cast<size_t>(CodeBytes(bits)));
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t group = i / kCodeGroup;
    if (i % kCodeGroup == 0)
      std::copy_n(codes.begin() + group * CodeBytes(bits), CodeBytes(bits), group_codes.begin());
    const auto step = static_cast<float>(ranges[2 * group + 1]);
    const auto code = static_cast<float>(CodeAt(group_codes.data(), bits, i % kCodeGroup));
    y.f64()[i] = static_cast<float>(ranges[2 * group]) + step * code;
  }
  return {};
}

}  // namespace

std::vector<OpDef> ActivationCodes() {
  return {
      {.name = "EncodeActivation",
       .domain = std::string(kMinimDomain),
       .max_inputs = 2,
       .dtypes = {DType::f32},
       .infer = InferEncode,
       .reference = EncodeReference,
       .precision = PrecisionClass::kFp32,
       .flops = [](const std::vector<TensorType>& inputs, const std::vector<TensorType>&,
                   const Attributes&) { return 20 * inputs[0].dims().Elements(); },
       .samples = "c, r = EncodeActivation(x: f32[3,200], n: i64 = [7]) {seed=5}\n"
                  "c, r = EncodeActivation(x: f32[256]) {bits=4}\n"
                  "c, r = EncodeActivation(x: f32[300] = uniform(0,0), n: i64 = [7]) {bits=4}\n"},
      {.name = "DecodeActivation",
       .domain = std::string(kMinimDomain),
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = InferDecode,
       .reference = DecodeReference,
       .precision = PrecisionClass::kFp32,
       .samples =
           "DecodeActivation(c: u8[2,256] = index(256), r: f32[2,2]) {shape=[3,100]}\n"
           "DecodeActivation(c: u8[1,128] = index(256), r: f32[1,2]) {bits=4, shape=[256]}\n"},
  };
}

}  // namespace minim::ops
