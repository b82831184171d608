#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/shape.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

using testing::ElementsAre;

struct Reduction {
  const char* op;
  double start;
  double (*step)(double, double);
  double (*end)(double, int64_t);
};

const Reduction kReductions[] = {
    {"ReduceSum", 0, [](double a, double x) { return a + x; }, [](double a, int64_t) { return a; }},
    {"ReduceMean", 0, [](double a, double x) { return a + x; },
     [](double a, int64_t n) { return a / n; }},
    {"ReduceMax", -INFINITY, [](double a, double x) { return std::max(a, x); },
     [](double a, int64_t) { return a; }},
    {"ReduceMin", INFINITY, [](double a, double x) { return std::min(a, x); },
     [](double a, int64_t) { return a; }},
    {"ReduceProd", 1, [](double a, double x) { return a * x; },
     [](double a, int64_t) { return a; }},
    {"ReduceL1", 0, [](double a, double x) { return a + std::fabs(x); },
     [](double a, int64_t) { return a; }},
    {"ReduceL2", 0, [](double a, double x) { return a + x * x; },
     [](double a, int64_t) { return std::sqrt(a); }},
    {"ReduceSumSquare", 0, [](double a, double x) { return a + x * x; },
     [](double a, int64_t) { return a; }},
    {"ReduceLogSum", 0, [](double a, double x) { return a + x; },
     [](double a, int64_t) { return std::log(a); }},
    {"ReduceLogSumExp", 0, [](double a, double x) { return a + std::exp(x); },
     [](double a, int64_t) { return std::log(a); }},
};

TEST(ReduceTest, EveryOpOverEverySetOfAxes) {
  const Dims dims{3, 4, 5, 20};
  const Tensor x = Uniform(dims, 1, 0.5f, 1.5f);
  const Dims strides = RowMajorStrides(dims);
  for (const Reduction& row : kReductions) {
    for (int mask = 0; mask < 16; ++mask) {
      Dims out;
      std::vector<int64_t> axes;
      for (int i = 0; i < 4; ++i) {
        out.push_back(mask >> i & 1 ? 1 : dims[i]);
        if (mask >> i & 1) axes.push_back(i - 4);
      }
      std::vector<double> expected(out.Elements(), row.start);
      const Dims to = BroadcastStrides(out, dims);
      for (int64_t i = 0; i < x.size(); ++i) {
        int64_t at = 0;
        for (int axis = 0; axis < 4; ++axis) at += i / strides[axis] % dims[axis] * to[axis];
        expected[at] = row.step(expected[at], x.as<float>()[i]);
      }
      for (double& e : expected) e = row.end(e, x.size() / out.Elements());
      KernelCase test{.op = row.op,
                      .attributes = {{"axes", axes}, {"noop_with_empty_axes", int64_t{1}}},
                      .inputs = {x},
                      .outputs = {Tensor(DType::f32, out)},
                      .threads = 2};
      RunCase(test, Isa::kPortable);
      ExpectNear(test.outputs[0].as<float>(), expected, 2.4e-7, 1e-7,
                 fmt::format("{} {}", row.op, mask));
    }
  }
}

TEST(ReduceTest, EmptyAxesAndIntegers) {
  KernelCase empty{.op = "ReduceSum",
                   .inputs = {Tensor(DType::f32, {2, 0})},
                   .outputs = {Tensor(DType::f32, {1, 1})}};
  RunCase(empty, Isa::kPortable);
  EXPECT_EQ(empty.outputs[0].as<float>()[0], 0);
  KernelCase ints{.op = "ReduceSum",
                  .inputs = {Tensor::From<int64_t>({2, 2}, {1, 2, 3, int64_t{1} << 60}),
                             Tensor::From<int64_t>({1}, {1})},
                  .outputs = {Tensor(DType::i64, {2})},
                  .constants = {1}};
  RunCase(ints, Isa::kPortable);
  EXPECT_EQ(ints.outputs[0].as<int64_t>()[1], (int64_t{1} << 60) + 3);
}

TEST(ReduceTest, ArgMaxTies) {
  KernelCase test{.op = "ArgMax",
                  .attributes = {{"axis", int64_t{1}}},
                  .inputs = {Tensor::From<float>({2, 3}, {1, 5, 5, -1, -2, -1})},
                  .outputs = {Tensor(DType::i64, {2, 1})}};
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<int64_t>(), ElementsAre(1, 0));
  test.attributes.Set("select_last_index", int64_t{1});
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<int64_t>(), ElementsAre(2, 2));
  test.op = "ArgMin";
  RunCase(test, Isa::kPortable);
  EXPECT_THAT(test.outputs[0].as<int64_t>(), ElementsAre(0, 1));
}

}  // namespace
}  // namespace minim
