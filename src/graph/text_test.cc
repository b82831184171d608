#include "graph/text.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

constexpr const char* kText = R"(graph "net/1"(x: f32[N,4], "a b": i64) -> (y, z) {
  const w: f32[2] = [1.5, -inf]
  const i: i64[1] = [9223372036854775807]
  state "step" (s -> s2: f32)
  state "w" (w0 -> w1 if ok: f32)
  y: f32[N,4], _ = com.microsoft.Thing(x, _, w) {alpha=0.5, axes=[1, -1], f=[0.5, 1.0], mode="q\"x", names=["u", "v"], t=tensor u8[2] [1, 255]} "node one"
  z: f32[*] = If("a b") {then_branch=graph "t"() -> (r) {
    const r: f32 = [1.0]
  }}
  s2: f32 = Identity(s)
  ok: bool = IsNaN(s)
  w1: f32 = Identity(w0)
}
)";

TEST(TextTest, ParsesBackToTheSameText) {
  const auto graph = ParseText(kText);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(ToText(*graph), kText);
  EXPECT_EQ(graph->nodes[0].attributes.Float("alpha", 0), 0.5f);
  EXPECT_EQ(graph->nodes[1].subgraphs.at("then_branch")->constants.size(), 1u);
}

TEST(TextTest, ConstantsOfSmallTypes) {
  constexpr const char* kSmall = R"(graph "g"() -> (a, b, c) {
  const a: f8e5m2[5] = [1.75, -inf, nan, 57344.0, -0.0]
  const b: i4[3] = [-8, 7, 0]
  const c: f8e8m0[3] = [5.877472e-39, 1.0, nan]
  const d: f4e2m1[2] = [0.5, -6.0]
}
)";
  const auto graph = ParseText(kSmall);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(ToText(*graph), kSmall);
  EXPECT_FALSE(ParseText("graph \"g\"() -> () { const c: u4[1] = [16] }").ok());
}

TEST(TextTest, ErrorsNameTheLine) {
  const auto broken = ParseText("graph \"g\"(x: f32) -> (y) {\n y = Relu(q)\n}");
  EXPECT_NE(broken.status().message().find("'q'"), std::string::npos);
  for (const char* text :
       {"", "graph", "graph \"g\"(x: f33) -> () {}", "graph \"g\"() -> (y) {}",
        "graph \"g\"() -> () { const c: f32[2] = [1] }",
        "graph \"g\"() -> () { const c: f32[33333333333333333,3333333333333] = [1] }",
        "graph \"g\"() -> () {} trailing"})
    EXPECT_FALSE(ParseText(text).ok()) << text;
}

}  // namespace
}  // namespace minim
