#include "passes/passes.h"

#include <gtest/gtest.h>

#include "passes/testing/pass_test.h"

namespace minim {
namespace {

TEST(FuseQdqTest, IslandsBecomeIntegerKernels) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2,3]) -> (y) {
    const xs: f32 = [0.01]
    const xz: u8 = [128]
    const wq: i8[3,2] = [1, 2, 3, 4, 5, -6]
    const ws: f32[2] = [0.02, 0.03]
    const ys: f32 = [0.001]
    const yz: u8 = [0]
    q = QuantizeLinear(x, xs, xz)
    d = DequantizeLinear(q, xs, xz)
    w = DequantizeLinear(wq, ws) {axis=1}
    m = MatMul(d, w)
    r = Relu(m)
    p = QuantizeLinear(r, ys, yz)
    y = DequantizeLinear(p, ys, yz) })");
  EXPECT_EQ(OpsOf(Apply(FuseQdq, graph, 0.0011)),
            Ops({"QuantizeLinear", "QLinearMatMul", "DequantizeLinear"}));
}

// A product between DQ and Q with an activation in the middle.
Graph ActivatedProduct(const char* activation, const char* scale) {
  return Parse(fmt::format(R"(graph "g"(x: f32[2,3]) -> (y) {{
    const xs: f32 = [0.01]
    const xz: u8 = [128]
    const wq: i8[3,2] = [1, 2, 3, 4, 5, -6]
    const ws: f32[2] = [0.02, 0.03]
    const low: f32 = [0]
    const high: f32 = [6]
    const ys: f32 = [{}]
    const yz: u8 = [0]
    q = QuantizeLinear(x, xs, xz)
    d = DequantizeLinear(q, xs, xz)
    w = DequantizeLinear(wq, ws) {{axis=1}}
    m = MatMul(d, w)
    r = {}
    y = QuantizeLinear(r, ys, yz) }})",
                           scale, activation));
}

TEST(FuseQdqTest, AnActivationThatSaturationMakesIsDropped) {
  // 255 steps of 0.0235 end at 5.99: the last step still holds 6; of 0.03, at 7.65.
  EXPECT_EQ(OpsOf(Apply(FuseQdq, ActivatedProduct("Clip(m, low, high)", "0.0235"), 1)),
            Ops({"QuantizeLinear", "QLinearMatMul"}));
  EXPECT_EQ(OpsOf(Apply(FuseQdq, ActivatedProduct("Clip(m, low, high)", "0.03"), 1)),
            Ops({"QuantizeLinear", "MatMulIntegerToFloat", "Clip", "QuantizeLinear"}));
  EXPECT_EQ(OpsOf(Apply(FuseQdq, ActivatedProduct("Clip(m, low)", "0.03"), 1)),
            Ops({"QuantizeLinear", "QLinearMatMul"}));
}

TEST(FuseQdqTest, AProductWithoutAQuantizerEndsInFloatsWithItsBias) {
  const Graph graph = Parse(R"(graph "g"(x: f32[4,2,3]) -> (y) {
    const xs: f32 = [0.01]
    const xz: u8 = [128]
    const wq: i8[3,2] = [1, 2, 3, 4, 5, -6]
    const ws: f32[2] = [0.02, 0.03]
    const b: f32[2] = [1, 2]
    q = QuantizeLinear(x, xs, xz)
    d = DequantizeLinear(q, xs, xz)
    w = DequantizeLinear(wq, ws) {axis=1}
    m = MatMul(d, w)
    y = Add(b, m) })");
  EXPECT_EQ(OpsOf(Apply(FuseQdq, graph, 1e-5)), Ops({"QuantizeLinear", "MatMulIntegerToFloat"}));
}

TEST(FuseQdqTest, PartsOfAConcatAreQuantizedThemselves) {
  const auto ops = [](const char* second_zero) {
    return OpsOf(Apply(FuseQdq,
                       Parse(fmt::format(R"(graph "g"(a: u8[1,2], b: u8[1,3]) -> (y) {{
      const s: f32 = [0.01]
      const z: u8 = [7]
      const z2: u8 = [{}]
      c = DequantizeLinear(a, s, z)
      d = DequantizeLinear(b, s, z2)
      j = Concat(c, d) {{axis=1}}
      y = QuantizeLinear(j, s, z) }})",
                                         second_zero)),
                       0));
  };
  EXPECT_EQ(ops("7"), Ops({"Concat"}));
  EXPECT_EQ(ops("8"), Ops({"DequantizeLinear", "QuantizeLinear", "Concat"}));
}

}  // namespace
}  // namespace minim
