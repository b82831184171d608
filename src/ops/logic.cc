// Comparisons, boolean and bitwise logic, and tests of floats: a table of expressions.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/infer.h"
#include "ops/upgrade.h"

namespace minim::ops {
namespace {

const DTypeList kIntegerTypes = {DType::i64, DType::i32, DType::i16, DType::i8,
                                 DType::u64, DType::u32, DType::u16, DType::u8};
const DTypeList kUnsignedTypes = {DType::u64, DType::u32, DType::u16, DType::u8};

struct Row {
  std::string name;
  std::vector<int> since;
  Reference reference;
  DTypeList dtypes;
  std::string samples;
};

std::string PairSamplesIn(std::string_view op, std::initializer_list<std::string_view> dtypes,
                          std::string_view right = "") {
  std::string text;
  for (std::string_view dtype : dtypes) text += PairSamples(op, dtype, "", right);
  return text;
}

OpDef Define(const Row& row, std::function<Status(InferContext&)> infer, int inputs) {
  return {.name = row.name,
          .onnx_since = row.since,
          .min_inputs = inputs,
          .max_inputs = inputs,
          .dtypes = row.dtypes,
          .infer = std::move(infer),
          .reference = row.reference,
          .upgrade = inputs == 2 ? BroadcastUpgrade : nullptr,
          .precision = IsFloat(row.dtypes[0]) ? PrecisionClass::kWidest : PrecisionClass::kInteger,
          .traits = row.name == "Equal" ? OpTrait::kElementwise | OpTrait::kStrings
                                        : OpTrait::kElementwise,
          .samples = row.samples};
}

std::vector<Row> Comparisons() {
  const auto samples = [](std::string_view op) {
    return PairSamplesIn(op, {"f32", "f16", "bf16", "i32", "i64", "u8", "u64"});
  };
  return {
      {"Equal",
       {1, 7, 11, 13, 19},
       PairCompare([](auto a, auto b) { return a == b; }),
       kAllTypes,
       samples("Equal") + PairSamples("Equal", "bool")},
      {"Greater",
       {1, 7, 9, 13},
       PairCompare([](auto a, auto b) { return a > b; }),
       kNumericTypes,
       samples("Greater")},
      {"GreaterOrEqual",
       {12, 16},
       PairCompare([](auto a, auto b) { return a >= b; }),
       kNumericTypes,
       samples("GreaterOrEqual")},
      {"Less",
       {1, 7, 9, 13},
       PairCompare([](auto a, auto b) { return a < b; }),
       kNumericTypes,
       samples("Less")},
      {"LessOrEqual",
       {12, 16},
       PairCompare([](auto a, auto b) { return a <= b; }),
       kNumericTypes,
       samples("LessOrEqual")},
  };
}

std::vector<Row> Booleans() {
  return {
      {"And",
       {1, 7},
       PairBools([](bool a, bool b) { return a && b; }),
       {DType::bool_},
       PairSamples("And", "bool")},
      {"Or",
       {1, 7},
       PairBools([](bool a, bool b) { return a || b; }),
       {DType::bool_},
       PairSamples("Or", "bool")},
      {"Xor",
       {1, 7},
       PairBools([](bool a, bool b) { return a != b; }),
       {DType::bool_},
       PairSamples("Xor", "bool")},
  };
}

template <typename F>
Reference PairBits(F f) {
  return [f](RefContext& op) -> Status {
    const bool wide = op.input(0).wide.dtype() == DType::u64;
    if (wide)
      Pairwise<uint64_t>(op, f);
    else
      Pairwise<int64_t>(op, f);
    return {};
  };
}

// A shift by the type's width or more leaves nothing.
Status ShiftReference(RefContext& op) {
  const bool left = op.attributes().String("direction", "") == "LEFT";
  const uint64_t bits = SizeOf(op.input(0).dtype) * 8;
  return PairBits([=]<typename T>(T a, T b) -> T {
    const auto count = static_cast<uint64_t>(b);
    if (count >= bits) return T{};
    const auto value = static_cast<uint64_t>(a);
    return static_cast<T>(left ? value << count : value >> count);
  })(op);
}

std::vector<Row> Bits() {
  const auto samples = [](std::string_view op) {
    return PairSamplesIn(op, {"i32", "u8", "u64", "i16"});
  };
  return {
      {"BitwiseAnd",
       {18},
       PairBits([](auto a, auto b) { return a & b; }),
       kIntegerTypes,
       samples("BitwiseAnd")},
      {"BitwiseOr",
       {18},
       PairBits([](auto a, auto b) { return a | b; }),
       kIntegerTypes,
       samples("BitwiseOr")},
      {"BitwiseXor",
       {18},
       PairBits([](auto a, auto b) { return a ^ b; }),
       kIntegerTypes,
       samples("BitwiseXor")},
  };
}

Status InferShift(InferContext& op) {
  const std::string direction = op.attributes().String("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    return op.Error("direction is '{}', expected LEFT or RIGHT", direction);
  return InferBroadcast(op);
}

Row ShiftRow() {
  return {"BitShift",
          {11},
          ShiftReference,
          kUnsignedTypes,
          "BitShift(a: u8[4] = [1,2,255,128], b: u8[4] = [1,7,8,9]) {direction=\"LEFT\"}\n"
          "BitShift(a: u64[2,3], b: u64[3] = index(64)) {direction=\"RIGHT\"}\n"
          "BitShift(a: u16[3], b: u16 = index(16)) {direction=\"LEFT\"}\n"
          "BitShift(a: u32[3], b: u32[1] = index(40)) {direction=\"RIGHT\"}\n"};
}

Status InferTest(InferContext& op) {
  if (!op.input(0).ranked()) return op.SetUnknown(0, DType::bool_);
  return op.SetOutput(0, DType::bool_, *op.input(0).shape);
}

Status InfReference(RefContext& op) {
  const bool negative = op.attributes().Int("detect_negative", 1) != 0;
  const bool positive = op.attributes().Int("detect_positive", 1) != 0;
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) {
    const double x = op.input(0).f64()[i];
    y.b()[i] = std::isinf(x) && (x < 0 ? negative : positive);
  }
  return {};
}

Status NanReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) y.b()[i] = std::isnan(op.input(0).f64()[i]);
  return {};
}

Status NotReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) y.b()[i] = !op.input(0).b()[i];
  return {};
}

std::vector<OpDef> Unary() {
  return {
      Define({"IsNaN",
              {9, 13, 20},
              NanReference,
              kFloatTypes,
              "IsNaN(x: f32[4] = [nan,1,inf,-1])\nIsNaN(x: f16[0])\nIsNaN(x: f64)\n"
              "IsNaN(x: bf16[3])\n"},
             InferTest, 1),
      Define({"IsInf",
              {10, 20},
              InfReference,
              kFloatTypes,
              "IsInf(x: f32[4] = [nan,1,inf,-inf])\nIsInf(x: f16[0])\nIsInf(x: bf16[3])\n"
              "IsInf(x: f64[3] = [nan,inf,-inf]) {detect_negative=0}\n"
              "IsInf(x: f64[3] = [nan,inf,-inf]) {detect_positive=0}\n"},
             InferTest, 1),
      Define({"Not", {1}, NotReference, {DType::bool_}, "Not(x: bool[2,3])\nNot(x: bool[0])\n"},
             InferSameAsFirst, 1),
      Define({"BitwiseNot",
              {18},
              EachNumber([](auto x) {
                if constexpr (std::is_integral_v<decltype(x)>)
                  return ~x;
                else
                  return x;
              }),
              kIntegerTypes,
              "BitwiseNot(x: i32[2,3])\nBitwiseNot(x: u8[5])\nBitwiseNot(x: u64[0])\n"},
             InferSameAsFirst, 1),
  };
}

}  // namespace

std::vector<OpDef> LogicOps() {
  std::vector<OpDef> defs = Unary();
  for (const Row& row : Comparisons()) defs.push_back(Define(row, InferBroadcastBool, 2));
  for (const Row& row : Booleans()) defs.push_back(Define(row, InferBroadcastBool, 2));
  for (const Row& row : Bits()) defs.push_back(Define(row, InferBroadcast, 2));
  defs.push_back(Define(ShiftRow(), InferShift, 2));
  return defs;
}

}  // namespace minim::ops
