#include <gtest/gtest.h>

#include "passes/passes.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

// As exporters write it, with heads that projections made and a scale before or after a mask.
TEST(FuseAttentionTest, ProductsAroundASoftmaxBecomeOne) {
  const auto fused = [](const std::string& nodes) {
    const Graph graph = Parse(R"(graph "g"(q: f32[2,18,3,4], k: f32[2,7,3,4], v: f32[2,7,3,5],
        m: f32[2,1,1,7]) -> (y) {
      const c: f32 = [0.5]
      const w: f32[7] = [1, 2, 3, 4, 5, 6, 7]
      a: f32[2,3,18,4] = Transpose(q) {perm=[0,2,1,3]}
      b: f32[2,3,4,7] = Transpose(k) {perm=[0,2,3,1]}
      e: f32[2,3,7,5] = Transpose(v) {perm=[0,2,1,3]}
      n: f32[2,1,1,7] = Neg(m)
)" + nodes + "}");
    Graph after = Apply(FuseAttention, graph, 1e-6);
    EXPECT_TRUE(EliminateDeadCode(after, {}).ok());
    return OpsOf(after);
  };
  EXPECT_EQ(fused("s = MatMul(a, b) t = Mul(s, c) p = Softmax(t) {axis=3} z = MatMul(p, e) "
                  "y = Transpose(z) {perm=[0,2,1,3]}"),
            Ops({"FusedAttention"}));
  EXPECT_EQ(fused("s = MatMul(a, b) t = Div(s, c) u = Add(n, t) p = Softmax(u) y = MatMul(p, e)"),
            Ops({"Neg", "FusedAttention"}));
  EXPECT_EQ(fused("s = MatMul(a, b) p = Softmax(s) z = MatMul(p, e) "
                  "y = Transpose(z) {perm=[0,3,2,1]}"),  // rows that do not lie in order
            Ops({"FusedAttention", "Transpose"}));
  EXPECT_EQ(fused("s = MatMul(a, b) p = Softmax(s) z = MatMul(p, e) x = ReduceSum(p) "
                  "y = Add(z, x)"),  // another reads the weights
            Ops({"Transpose", "Transpose", "Transpose", "MatMul", "Softmax", "MatMul", "ReduceSum",
                 "Add"}));
  EXPECT_EQ(fused("s = MatMul(a, b) t = Mul(s, w) p = Softmax(t) y = MatMul(p, e)"),  // no scalar
            Ops({"Transpose", "Transpose", "Transpose", "MatMul", "Mul", "Softmax", "MatMul"}));
  EXPECT_EQ(fused("s = MatMul(a, b) p = Softmax(s) {axis=2} y = MatMul(p, e)"),
            Ops({"Transpose", "Transpose", "Transpose", "MatMul", "Softmax", "MatMul"}));
}

TEST(FuseAttentionTest, LeavesVectorsAlone) {
  const Graph graph = Parse(R"(graph "g"(q: f32[2,18,4], k: f32[4], v: f32[18,5]) -> (y) {
    s = com.microsoft.FusedMatMul(q, k) {transB=1} p = Softmax(s) y = MatMul(p, v) })");
  EXPECT_EQ(OpsOf(Apply(FuseAttention, graph)), OpsOf(graph));
  const Graph last = Parse(R"(graph "g"(q: f32[2,18,4], k: f32[2,4,7], v: f32[7]) -> (y) {
    s = MatMul(q, k) p = Softmax(s) y = com.microsoft.FusedMatMul(p, v) {transB=1} })");
  EXPECT_EQ(OpsOf(Apply(FuseAttention, last)), OpsOf(last));
}

TEST(FuseAttentionTest, OfBf16WhereTheMachineHasItsProducts) {
  for (const Isa isa : {Isa::kAvx512Vnni, Isa::kAmx}) {
    Graph graph = Parse(R"(graph "g"(q: bf16[2,18,4], k: bf16[2,4,7], v: bf16[2,7,5], m: f32[7])
        -> (y) {
      const c: bf16 = [0.5]
      s: bf16[2,18,7] = MatMul(q, k) t: bf16[2,18,7] = Mul(s, c) w: f32[2,18,7] = Cast(t) {to=1}
      u: f32[2,18,7] = Add(w, m) p: f32[2,18,7] = Softmax(u) h: bf16[2,18,7] = Cast(p) {to=16}
      y: bf16[2,18,5] = MatMul(h, v) })");
    PassContext context;
    context.isa = isa;
    EXPECT_EQ(FuseAttention(graph, context).value(), isa == Isa::kAmx);
    EXPECT_TRUE(EliminateDeadCode(graph, {}).ok());
    EXPECT_EQ(OpsOf(graph).size(), isa == Isa::kAmx ? 1u : 7u);
  }
}

}  // namespace
}  // namespace minim
