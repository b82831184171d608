#include <gtest/gtest.h>

#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

TEST(FlattenProductsTest, RowsOfHigherRankAreRowsOfAMatrix) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2,3,2]) -> (y) {
    const w: f32[2,3] = [1, 2, 3, 4, 5, 6]
    const b: f32[1,3] = [0.5, -0.5, 0.25]
    m = MatMul(x, w) a = Add(b, m) y = Gelu(a) })");
  const Graph flat = Apply(FlattenProducts, graph, 1e-6);
  EXPECT_EQ(OpsOf(flat), Ops({"Reshape", "MatMul", "Add", "Gelu", "Reshape"}));
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, flat, 1e-6)), Ops({"Reshape", "FusedGemm", "Reshape"}));
  const Graph tanh = Parse(R"(graph "g"(x: f32[2,2,2]) -> (y) {
    const w: f32[2,2] = [1, 2, 3, 4]
    const b: f32[2] = [0.5, -0.5]
    m = MatMul(x, w) a = Add(m, b) y = Gelu(a) {approximate="tanh"} })");
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, Apply(FlattenProducts, tanh, 1e-6), 1e-6)),
            Ops({"Reshape", "Gemm", "Gelu", "Reshape"}));
}

TEST(FlattenProductsTest, LeavesOthersAlone) {
  for (const char* text : {
           "m = MatMul(x, w) y = Neg(m)",                              // no bias
           "m = MatMul(x, w) a = Add(m, s) y = Neg(a)",                // a scalar
           "m = MatMul(x, w) a = Add(m, b) c = Neg(m) y = Add(a, c)",  // m is read twice
           "m = MatMul(x, x) a = Add(m, b) y = Neg(a)",                // no constant
       }) {
    const Graph graph = Parse(fmt::format(R"(graph "g"(x: f32[2,2,2]) -> (y) {{
      const w: f32[2,2] = [1, 2, 3, 4]
      const b: f32[2] = [0.5, -0.5]
      const s: f32[] = [2]
      {} }})",
                                          text));
    EXPECT_EQ(OpsOf(Apply(FlattenProducts, graph)), OpsOf(graph)) << text;
  }
}

}  // namespace
}  // namespace minim
