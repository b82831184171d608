#include "exec/batch_rows.h"

#include <gtest/gtest.h>

#include "core/philox.h"
#include "exec/program.h"
#include "graph/text.h"
#include "ops/infer.h"

namespace minim {
namespace {

Graph Parse(const std::string& nodes, const std::string& inputs = "x: f32[4,6]") {
  auto graph = ParseText("graph \"g\"(" + inputs + ") -> (y) {" + nodes + "}");
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_TRUE(InferGraph(*graph).ok());
  return *std::move(graph);
}

TEST(BatchRowsTest, RowsThatAreComputedAlone) {
  const std::string w = "const w: f32[6,2] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] ";
  const auto rows = [](const std::string& nodes) { return IndependentRows(Parse(nodes)); };
  EXPECT_EQ(rows("y = Relu(x)"), 4);
  EXPECT_EQ(rows(w + "m = MatMul(x, w) y = Softmax(m)"), 4);
  EXPECT_EQ(rows("const s: i64[3] = [-1, 3, 1] r = Reshape(x, s) y = Flatten(r)"), 0);  // 8 rows
  EXPECT_EQ(rows("const s: i64[2] = [-1, 3] const t: i64[2] = [-1, 6] r = Reshape(x, s) "
                 "z = Softmax(r) y = Reshape(z, t)"),
            4);
  EXPECT_EQ(rows("const b: f32[1,6] = [1, 2, 3, 4, 5, 6] const c: f32 = [2] "
                 "a = Add(b, x) y = Mul(a, c)"),
            4);
  EXPECT_EQ(rows("c = Concat(x, x) {axis=-1} y = Relu(c)"), 4);
  EXPECT_EQ(rows("const a: i64[1] = [-1] m = ReduceMean(x, a) y = Sub(x, m)"), 4);
  EXPECT_EQ(rows("const a: i64[1] = [1] const b: i64[1] = [2] const e: i64[1] = [5] "
                 "y = Slice(x, b, e, a)"),
            4);
  EXPECT_EQ(rows("const i: i64[2] = [3, 0] y = Gather(x, i) {axis=1}"), 4);
}

TEST(BatchRowsTest, RowsThatMeetEachOther) {
  const auto rows = [](const std::string& nodes) { return IndependentRows(Parse(nodes)); };
  EXPECT_EQ(rows("y = Softmax(x) {axis=0}"), 0);
  EXPECT_EQ(rows("y = Concat(x, x) {axis=0}"), 0);
  EXPECT_EQ(rows("y = Concat(x, x) {axis=-2}"), 0);
  EXPECT_EQ(rows("y = Transpose(x) {perm=[1,0]}"), 0);
  EXPECT_EQ(rows("y = Transpose(x)"), 0);
  EXPECT_EQ(rows("t = Transpose(x) {perm=[1,0]} y = MatMul(x, t)"), 0);
  EXPECT_EQ(rows("const a: i64[1] = [0] m = ReduceMean(x, a) y = Sub(x, m)"), 0);
  EXPECT_EQ(rows("y, s, z = DynamicQuantizeLinear(x)"), 0);              // one scale for all rows
  EXPECT_EQ(rows("const b: f32[4,1] = [1, 2, 3, 4] y = Add(x, b)"), 0);  // each row its own
  EXPECT_EQ(rows("const s: i64[1] = [24] y = Reshape(x, s)"), 0);
  EXPECT_EQ(rows("const s: i64[2] = [3, 8] r = Reshape(x, s) y = Relu(r)"), 0);
  EXPECT_EQ(rows("const a: i64 = [0] y = CumSum(x, a)"), 0);
  EXPECT_EQ(rows("const i: i64[4] = [3, 0, 1, 2] y = Gather(x, i)"), 0);
  EXPECT_EQ(rows("const a: i64[2] = [1, -2] y = ReduceMax(x, a) {keepdims=1}"), 0);
  EXPECT_EQ(rows("const a: i64[1] = [0] const b: i64[1] = [3] const e: i64[1] = [-9] "
                 "const t: i64[1] = [-1] y = Slice(x, b, e, a, t)"),
            0);  // the other way around
}

// Where a maximum lies is counted over the batch.
TEST(BatchRowsTest, PlacesOfMaximaAreOfTheBatch) {
  const auto rows = [](const std::string& results) {
    return IndependentRows(Parse(results + " = MaxPool(x) {kernel_shape=[2,2]} y = Cast(p) {to=1}",
                                 "x: f32[4,1,4,4]"));
  };
  EXPECT_EQ(rows("p"), 4);
  EXPECT_EQ(rows("m, p"), 0);
}

// Slices keep all threads at work, or there are none.
TEST(BatchRowsTest, SlicesAreSharedEvenly) {
  const auto together = [](int64_t rows, int threads) {
    return RowsTogether(
        Parse("const w: f32[4,3,1,1] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] y = Conv(x, w)",
              fmt::format("x: f32[{},3,256,256]", rows)),
        rows, threads);
  };
  EXPECT_EQ(together(8, 1), 1);
  EXPECT_EQ(together(8, 4), 1);
  EXPECT_EQ(together(5, 2), 1);   // 2 and 3: a sixth of the time idle
  EXPECT_EQ(together(5, 4), 5);   // the second turn has one
  EXPECT_EQ(together(8, 16), 8);  // half of the threads
}

// 1x1 and 3x3 products, a shortcut, pools, what an exporter writes between them, and a product at
// the end.
constexpr const char* kNet = R"(graph "g"(x: f32[N,3,96,96]) -> (y) {{
  {}
  a = Conv(x, w) {{pads=[1,1,1,1]}} b = Relu(a)
  c = Conv(b, v) {{pads=[1,1,1,1]}} d = Add(c, b) e = Relu(d)
  p = MaxPool(e) {{kernel_shape=[2,2], strides=[2,2]}}
  k = Concat(p, p) {{axis=1}}
  s = Sigmoid(k) m = Mul(s, k)
  g = GlobalAveragePool(m) f = Flatten(g) z = Gemm(f, u) y = Softmax(z) }})";

std::string Constant(const std::string& name, const Dims& dims, uint64_t seed) {
  std::string text = fmt::format("const {}: f32{} = [", name, dims.ToString());
  const Philox random(seed);
  for (int64_t i = 0; i < dims.Elements(); ++i)
    text += fmt::format("{}{:.3f}", i ? ", " : "", random.Uniform(static_cast<uint64_t>(i)) - 0.5);
  return text + "]\n";
}

// What a batch gives in slices, on one thread and on several, is what its rows give one by one, and
// takes no more room than a slice for each thread.
TEST(BatchRowsTest, ABatchInSlicesIsItsRows) {
  const std::string text =
      fmt::format(kNet, Constant("w", {16, 3, 3, 3}, 1) + Constant("v", {16, 16, 3, 3}, 2) +
                            Constant("u", {32, 5}, 3));
  for (const int threads : {1, 3}) {
    auto graph = ParseText(text);
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    ASSERT_TRUE(InferGraph(*graph).ok());
    Program program(*std::move(graph), Runtime::Default().value(), {.threads = threads});
    ExecContext context;
    const int64_t row = 3 * 96 * 96;
    Tensor x(DType::f32, {6, 3, 96, 96});
    const Philox random(4);
    for (int64_t i = 0; i < x.size(); ++i)
      x.as<float>()[i] = random.Uniform(static_cast<uint64_t>(i)) - 0.5f;
    const ConstView whole[] = {x.view()};
    const auto batch = program.Run(context, whole);
    ASSERT_TRUE(batch.ok()) << batch.status().message();
    ASSERT_EQ((*batch)[0].dims(), Dims({6, 5}));
    EXPECT_NE(program.Explain().find("slices of the batch"), std::string::npos);
    const size_t in_slices = program.arena_bytes();
    for (int64_t i = 0; i < 6; ++i) {
      const ConstView one[] = {{x.as<float>().data() + i * row, DType::f32, {1, 3, 96, 96}}};
      const auto alone = program.Run(context, one);
      ASSERT_TRUE(alone.ok()) << alone.status().message();
      for (int64_t k = 0; k < 5; ++k)
        EXPECT_NEAR((*batch)[0].as<float>()[i * 5 + k], (*alone)[0].as<float>()[k], 1e-6);
    }
    EXPECT_LE(in_slices, static_cast<size_t>(threads) * program.arena_bytes());
  }
}

}  // namespace
}  // namespace minim
