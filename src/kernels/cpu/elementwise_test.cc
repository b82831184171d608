#include "kernels/cpu/elementwise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "core/requantize.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

using Unary = double (*)(double);

struct UnaryCase {
  const char* op;
  Unary definition;
  float low, high;
  double relative, absolute;
};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Softplus(double x) { return x > 30 ? x : std::log1p(std::exp(x)); }

const UnaryCase kUnary[] = {
    {"Neg", [](double x) { return -x; }, -5, 5, 0, 0},
    {"Abs", [](double x) { return std::fabs(x); }, -5, 5, 0, 0},
    {"Sqrt", [](double x) { return std::sqrt(x); }, 0, 5, 6e-8, 0},
    {"Exp", [](double x) { return std::exp(x); }, -110, 95, 3e-7, 1.5e-45},
    {"Log", [](double x) { return std::log(x); }, 1e-6f, 10, 3e-7, 1e-8},
    {"Reciprocal", [](double x) { return 1 / x; }, 1, 10, 6e-8, 0},
    {"Floor", [](double x) { return std::floor(x); }, -9, 9, 0, 0},
    {"Ceil", [](double x) { return std::ceil(x); }, -9, 9, 0, 0},
    {"Round", [](double x) { return std::nearbyint(x); }, -9, 9, 0, 0},
    {"Sign", [](double x) { return double((x > 0) - (x < 0)); }, -9, 9, 0, 0},
    {"Sin", [](double x) { return std::sin(x); }, -9, 9, 1.2e-7, 0},
    {"Atanh", [](double x) { return std::atanh(x); }, -0.9f, 0.9f, 3e-7, 0},
    {"Tanh", [](double x) { return std::tanh(x); }, -12, 12, 5e-7, 1e-12},
    {"Erf", [](double x) { return std::erf(x); }, -5, 5, 5e-7, 0},
    {"Sigmoid", Sigmoid, -100, 100, 5e-7, 0x1p-126},  // which is 0 instead of subnormal
    {"Relu", [](double x) { return x < 0 ? 0 : x; }, -5, 5, 0, 0},
    {"LeakyRelu", [](double x) { return x < 0 ? 0.01f * x : x; }, -5, 5, 1e-7, 0},
    {"Elu", [](double x) { return x < 0 ? std::expm1(x) : x; }, -30, 5, 5e-7, 0},
    {"Selu",
     [](double x) { return 1.05070102214813 * (x < 0 ? 1.67326319217682 * std::expm1(x) : x); },
     -30, 5, 6e-7, 0},
    {"Celu", [](double x) { return x < 0 ? std::expm1(x) : x; }, -30, 5, 5e-7, 0},
    {"Softplus", Softplus, -50, 50, 6e-7, 1e-38},
    {"Softsign", [](double x) { return x / (1 + std::fabs(x)); }, -5, 5, 2e-7, 0},
    {"HardSigmoid", [](double x) { return std::clamp(0.2f * x + 0.5, 0., 1.); }, -5, 5, 0, 2e-7},
    {"HardSwish", [](double x) { return x * std::clamp(x / 6 + 0.5, 0., 1.); }, -5, 5, 2e-7, 4e-7},
    {"Gelu", [](double x) { return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5))); }, -6, 6, 6e-7,
     8e-7},
    {"Mish", [](double x) { return x * std::tanh(Softplus(x)); }, -30, 30, 9e-7, 1e-12},
    {"ThresholdedRelu", [](double x) { return x > 1 ? x : 0; }, -5, 5, 0, 0},
    {"Shrink", [](double x) { return x < -0.5 || x > 0.5 ? x : 0; }, -5, 5, 0, 0},
};

// Rounded once a step where there is fused multiply-add, which the portable level does not use;
// AVX-512 has Gelu by a table of its own.
const std::set<std::string_view> kByPolynomials = {
    "Exp", "Log", "Tanh", "Erf", "Sigmoid", "Elu", "Selu", "Celu", "Softplus", "Gelu", "Mish"};

TEST(ElementwiseTest, UnaryOpsMatchTheirDefinitions) {
  for (const UnaryCase& row : kUnary) {
    KernelCase test{.op = row.op,
                    .inputs = {Uniform({3, 1111}, 7, row.low, row.high)},
                    .outputs = {Tensor(DType::f32, {3, 1111})}};
    std::vector<double> expected;
    for (float x : test.inputs[0].as<float>()) expected.push_back(row.definition(x));
    const bool fused = kByPolynomials.contains(row.op);
    std::vector<Tensor> per_level;
    for (Isa isa : TestLevels()) {
      RunCase(test, isa);
      ExpectNear(test.outputs[0].as<float>(), expected, row.relative, row.absolute, row.op);
      const bool table = isa >= Isa::kAvx512 && std::string_view(row.op) == "Gelu";
      if (!table && (isa != Isa::kPortable || !fused)) per_level.push_back(test.outputs[0].Clone());
    }
    for (const Tensor& y : per_level)
      EXPECT_TRUE(SameBytes(per_level.front(), y)) << row.op << " differs by level";
  }
}

TEST(ElementwiseTest, SpecialValues) {
  const float inf = INFINITY, nan = NAN;
  KernelCase test{.op = "Exp",
                  .inputs = {Tensor::From<float>({7}, {nan, inf, -inf, 0, -0.f, 89, -105})},
                  .outputs = {Tensor(DType::f32, {7})}};
  const auto check = [&](const char* op, std::vector<double> expected) {
    test.op = op;
    for (Isa isa : TestLevels()) {
      RunCase(test, isa);
      ExpectNear(test.outputs[0].as<float>(), expected, 1e-6, 1e-12, op);
    }
  };
  check("Exp", {nan, inf, 0, 1, 1, inf, 0});
  check("Log", {nan, inf, nan, -inf, -inf, std::log(89.), nan});
  check("Tanh", {nan, 1, -1, 0, 0, 1, -1});
  check("Erf", {nan, 1, -1, 0, 0, 1, -1});
  check("Sigmoid", {nan, 1, 0, 0.5, 0.5, 1, 0});
  check("Relu", {nan, inf, 0, 0, 0, 89, 0});
  check("Softplus", {nan, inf, 0, std::log(2.), std::log(2.), 89, 0});
  check("Gelu", {nan, inf, nan, 0, 0, 89, 0});  // -inf * 0
}

// Every segment of the table and both sides of its joints, and beyond its end.
TEST(ElementwiseTest, GeluAllAlong) {
  constexpr int kCount = 65537;
  KernelCase test{.op = "Gelu",
                  .inputs = {Tensor(DType::f32, {kCount})},
                  .outputs = {Tensor(DType::f32, {kCount})}};
  for (int i = 0; i < kCount; ++i) {
    const float x = static_cast<float>(i - kCount / 2) * 0x1p-12f;  // -8 to 8
    test.inputs[0].as<float>()[i] = x;
  }
  for (Isa isa : TestLevels()) {
    RunCase(test, isa);
    double worst = 0;  // relative to the operand
    for (int i = 0; i < kCount; ++i) {
      const double x = test.inputs[0].as<float>()[i];
      const double expected = x * 0.5 * std::erfc(-x * std::sqrt(0.5));
      const double error = std::fabs(test.outputs[0].as<float>()[i] - expected);
      if (x != 0) worst = std::max(worst, error / std::fabs(x));
    }
    EXPECT_LT(worst, 3.5e-7) << Name(isa);
  }
}

TEST(ElementwiseTest, BinaryBroadcasts) {
  const Dims dims{2, 3, 5, 7};
  for (const Dims& other :
       {Dims{2, 3, 5, 7}, Dims{}, Dims{7}, Dims{3, 1, 1}, Dims{2, 1, 5, 1}, Dims{1, 3, 1, 7}}) {
    KernelCase test{.op = "Sub",
                    .inputs = {Uniform(dims, 1), Uniform(other, 2)},
                    .outputs = {Tensor(DType::f32, dims)}};
    const auto a = test.inputs[0].as<float>(), b = test.inputs[1].as<float>();
    std::vector<double> expected;
    for (int64_t i = 0; i < dims.Elements(); ++i) {
      const int64_t at[4] = {i / 105, i / 35 % 3, i / 7 % 5, i % 7};
      int64_t offset = 0;
      for (int axis = 0; axis < other.rank(); ++axis) {
        const int64_t index = at[4 - other.rank() + axis];
        offset = offset * other[axis] + (other[axis] == 1 ? 0 : index);
      }
      expected.push_back(a[i] - b[offset]);
    }
    for (Isa isa : TestLevels()) {
      RunCase(test, isa);
      ExpectNear(test.outputs[0].as<float>(), expected, 0, 0, other.ToString());
    }
  }
}

TEST(ElementwiseTest, IntegersAreExactAndWrap) {
  KernelCase test{.op = "Mul",
                  .inputs = {Tensor::From<int32_t>({3}, {2147483647, -7, 9}),
                             Tensor::From<int32_t>({3}, {2, 3, 0})},
                  .outputs = {Tensor(DType::i32, {3})}};
  RunCase(test, Isa::kAvx2);
  EXPECT_THAT(std::vector<int32_t>(test.outputs[0].as<int32_t>().begin(),
                                   test.outputs[0].as<int32_t>().end()),
              (std::vector<int32_t>{-2, -21, 0}));
  test.op = "Div";
  RunCase(test, Isa::kPortable);
  EXPECT_EQ(test.outputs[0].as<int32_t>()[1], -2);
  test.op = "Mod";
  RunCase(test, Isa::kPortable);
  EXPECT_EQ(test.outputs[0].as<int32_t>()[1], 2);
  KernelCase big{.op = "Add",
                 .inputs = {Tensor::From<int64_t>({1}, {(int64_t{1} << 60) + 1}),
                            Tensor::From<int64_t>({1}, {1})},
                 .outputs = {Tensor(DType::i64, {1})}};
  RunCase(big, Isa::kPortable);
  EXPECT_EQ(big.outputs[0].as<int64_t>()[0], (int64_t{1} << 60) + 2);
}

TEST(ElementwiseTest, ComparisonWhereAndCast) {
  KernelCase less{.op = "Less",
                  .inputs = {Uniform({37}, 1), Uniform({37}, 2)},
                  .outputs = {Tensor(DType::bool_, {37})}};
  RunCase(less, Isa::kAvx2);
  KernelCase where{.op = "Where",
                   .inputs = {less.outputs[0], less.inputs[0], less.inputs[1]},
                   .outputs = {Tensor(DType::f32, {37})}};
  RunCase(where, Isa::kAvx2);
  for (int i = 0; i < 37; ++i) {
    const float a = less.inputs[0].as<float>()[i], b = less.inputs[1].as<float>()[i];
    EXPECT_EQ(where.outputs[0].as<float>()[i], std::min(a, b));
  }
  for (DType dtype : {DType::f16, DType::bf16, DType::i8, DType::f64, DType::i64}) {
    KernelCase cast{.op = "Cast",
                    .inputs = {Uniform({2050}, 3, -100, 100)},
                    .outputs = {Tensor(dtype, {2050})}};
    RunCase(cast, Isa::kAvx2);
    EXPECT_TRUE(SameBytes(cast.outputs[0], Converted(cast.inputs[0].view(), dtype))) << Name(dtype);
    KernelCase back{
        .op = "Cast", .inputs = {cast.outputs[0]}, .outputs = {Tensor(DType::f32, {2050})}};
    RunCase(back, Isa::kAvx2);
    EXPECT_TRUE(SameBytes(back.outputs[0], Converted(cast.outputs[0].view(), DType::f32)));
  }
}

TEST(ElementwiseTest, VariadicAndClipPropagateNan) {
  KernelCase max{.op = "Max",
                 .inputs = {Tensor::From<float>({3}, {1, NAN, 3}),
                            Tensor::From<float>({3}, {2, 0, NAN}), Tensor::From<float>({1}, {-1})},
                 .outputs = {Tensor(DType::f32, {3})}};
  for (Isa isa : TestLevels()) {
    RunCase(max, isa);
    ExpectNear(max.outputs[0].as<float>(), {2, NAN, NAN}, 0, 0, "Max");
  }
  KernelCase clip{.op = "Clip",
                  .inputs = {max.inputs[0], Tensor(), Tensor::Scalar<float>(2)},
                  .outputs = {Tensor(DType::f32, {3})}};
  RunCase(clip, Isa::kPortable);
  ExpectNear(clip.outputs[0].as<float>(), {1, NAN, 2}, 0, 0, "Clip");
}

// y = relu(a * x + b) in bf16 with two outputs, on two threads.
TEST(ElementwiseTest, FusedProgram) {
  ElementwiseProgram program{.input_count = 3,
                             .instructions = {{"Mul", {0, 1}}, {"Add", {3, 2}}, {"Relu", {4}}},
                             .outputs = {5, 4}};
  const Tensor x = Converted(Uniform({70000}, 1).view(), DType::bf16);
  KernelCase test{.op = "FusedElementwise",
                  .inputs = {x, Tensor::Scalar<float>(3), Uniform({70000}, 2)},
                  .outputs = {Tensor(DType::bf16, {70000}), Tensor(DType::f32, {70000})},
                  .program = &program,
                  .threads = 2};
  for (Isa isa : TestLevels()) {
    RunCase(test, isa);
    for (int i = 0; i < 70000; ++i) {
      const float sum = static_cast<float>(x.as<BFloat16>()[i]) * 3 + test.inputs[2].as<float>()[i];
      ASSERT_EQ(test.outputs[1].as<float>()[i], sum);
      ASSERT_EQ(test.outputs[0].as<BFloat16>()[i], BFloat16(std::max(sum, 0.f)));
    }
  }
}

// Every value that bytes and halves between them take, NaN and infinities; as core/requantize.h.
TEST(ElementwiseTest, QuantizedBytesAreThoseOfTheSingleOps) {
  std::vector<float> values = {NAN, INFINITY, -INFINITY, 1e38f, -1e38f, 1e-42f, -0.0f};
  for (int i = -1200; i <= 1200; ++i) {
    for (float scale : {0.5f, 0.037f, 1e-3f})
      for (float step : {0.5f, 0.49999997f, 1.0f}) values.push_back(float(i) * scale * step);
  }
  const Tensor draws = Uniform({60000}, 5);
  for (float x : draws.as<float>()) values.push_back(x * 40);
  const auto n = static_cast<int64_t>(values.size());
  Tensor x(DType::f32, {n});
  std::copy(values.begin(), values.end(), x.as<float>().begin());
  std::vector<float> scales = {0.5f, 0.037f, 1e-3f, 3e38f, 1e-40f, 1.9999999f};
  const Tensor more = Uniform({12}, 6);
  for (float x : more.as<float>()) scales.push_back(std::fabs(x) + 1e-3f);
  for (float scale : scales) {
    for (DType dtype : {DType::u8, DType::i8}) {
      const int zero = dtype == DType::u8 ? 131 : -7;
      ElementwiseProgram program{.input_count = 3,
                                 .instructions = {{"QuantizeLinear", {0, 1, 2}, {}, dtype},
                                                  {"DequantizeLinear", {3, 1, 2}, {}, DType::f32}},
                                 .outputs = {3, 4}};
      const Tensor zeros =
          dtype == DType::u8 ? Tensor::Scalar<uint8_t>(zero) : Tensor::Scalar<int8_t>(zero);
      KernelCase test{.op = "FusedElementwise",
                      .inputs = {x, Tensor::Scalar<float>(scale), zeros},
                      .outputs = {Tensor(dtype, {n}), Tensor(DType::f32, {n})},
                      .constants = {1, 2},
                      .program = &program};
      KernelCase single{
          .op = "QuantizeLinear", .inputs = test.inputs, .outputs = {Tensor(dtype, {n})}};
      for (Isa isa : TestLevels()) {
        RunCase(test, isa);
        RunCase(single, isa);
        for (int64_t i = 0; i < n; ++i) {
          const int low = dtype == DType::u8 ? 0 : -128;
          const int byte = Requantize(values[i] / scale, zero, low, low + 255);
          const auto at = [&](const KernelCase& c) {
            return dtype == DType::u8 ? int{c.outputs[0].as<uint8_t>()[i]}
                                      : int{c.outputs[0].as<int8_t>()[i]};
          };
          ASSERT_EQ(at(test), byte) << values[i] << " by " << scale;
          ASSERT_EQ(at(single), byte) << values[i] << " by " << scale;
          ASSERT_EQ(test.outputs[1].as<float>()[i], static_cast<float>(byte - zero) * scale);
        }
      }
    }
  }
}

// Lines as long as the tiles may be cut by, longer ones, and of two lengths; a chain that scales,
// shifts and rectifies them and leaves bytes, where a bound at zero does what its Relu would.
TEST(ElementwiseTest, LinesRepeatAndBoundsRectify) {
  ElementwiseProgram program{.input_count = 5,
                             .instructions = {{"Mul", {0, 1}},
                                              {"Add", {5, 2}},
                                              {"Relu", {6}},
                                              {"QuantizeLinear", {7, 3, 4}, {}, DType::u8}},
                             .outputs = {8}};
  for (const int64_t length : {2, 3, 16, 100, 640, 1000, 1024, 1025}) {
    for (const int zero : {0, 9}) {
      for (const bool flat : {false, true}) {
        const int64_t rows = 2000 / length + 3;
        const Dims dims{3, rows, length}, line{length}, other = flat ? line : Dims{rows, 1};
        KernelCase test{.op = "FusedElementwise",
                        .inputs = {Uniform(dims, 1), Uniform(line, 2), Uniform(other, 3),
                                   Tensor::Scalar<float>(0.01f),
                                   Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero))},
                        .outputs = {Tensor(DType::u8, dims)},
                        .constants = {3, 4},
                        .program = &program,
                        .threads = flat ? 3 : 1};
        float* x = test.inputs[0].as<float>().data();
        x[1] = std::numeric_limits<float>::quiet_NaN();
        x[2] = -std::numeric_limits<float>::infinity();
        const auto scales = test.inputs[1].as<float>(), shifts = test.inputs[2].as<float>();
        for (const Isa isa : TestLevels()) {
          RunCase(test, isa);
          const auto y = test.outputs[0].as<uint8_t>();
          for (int64_t i = 0; i < test.inputs[0].size(); ++i) {
            const float scaled = x[i] * scales[i % length];
            const float sum = scaled + shifts[flat ? i % length : i / length % rows];
            const float rectified = sum < 0 ? 0 : sum;
            ASSERT_EQ(y[i], Requantize(rectified / 0.01f, zero, 0, 255))
                << length << " at " << i << ", " << Name(isa);
          }
        }
      }
    }
  }
}

TEST(ElementwiseTest, InPlaceOnlyWhenNothingReadsLater) {
  ElementwiseProgram program{
      .input_count = 2, .instructions = {{"Relu", {0}}, {"Add", {2, 0}}}, .outputs = {2, 3}};
  KernelCase test{.op = "FusedElementwise",
                  .inputs = {Uniform({8}, 1), Uniform({8}, 2)},
                  .outputs = {Tensor(DType::f32, {8}), Tensor(DType::f32, {8})},
                  .program = &program};
  EXPECT_EQ(BoundCase(test, Isa::kPortable).kernel().in_place_input(0), 1);
  KernelCase relu{.op = "Relu", .inputs = {Uniform({8}, 1)}, .outputs = {Tensor(DType::f32, {8})}};
  EXPECT_EQ(BoundCase(relu, Isa::kPortable).kernel().in_place_input(0), 0);
}

TEST(ElementwiseTest, ZeroElementsAndUnknownOp) {
  KernelCase test{.op = "Add",
                  .inputs = {Tensor(DType::f32, {0, 4}), Tensor(DType::f32, {4})},
                  .outputs = {Tensor(DType::f32, {0, 4})}};
  RunCase(test, Isa::kPortable);
  KernelCase bad{
      .op = "Sqrt", .inputs = {Tensor(DType::i64, {2})}, .outputs = {Tensor(DType::i64, {2})}};
  BoundCase bound(bad, Isa::kPortable);
  EXPECT_EQ(bound.status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
