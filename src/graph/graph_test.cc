#include "graph/graph.h"

#include <gtest/gtest.h>

#include "graph/text.h"

namespace minim {
namespace {

Graph Chain() {
  return ParseText("graph \"g\"(x: f32[2]) -> (b) { a: f32[2] = Relu(x) b: f32[2] = Neg(a) }")
      .value();
}

TEST(GraphTest, NamesAreMadeUnique) {
  Graph graph;
  EXPECT_EQ(graph.value(graph.AddInput("x", {})).name, "x");
  EXPECT_NE(graph.value(graph.AddValue("x", {})).name, "x");
  EXPECT_FALSE(graph.value(graph.AddValue("", {})).name.empty());
}

TEST(GraphTest, UsesProducersReplace) {
  Graph graph = Chain();
  const ValueId a = graph.FindValue("a"), x = graph.FindValue("x"), b = graph.FindValue("b");
  EXPECT_EQ(graph.Producers()[b], 1);
  EXPECT_EQ(graph.UseCounts()[a], 1);
  graph.ReplaceUses(a, x);
  EXPECT_EQ(graph.UseCounts()[a], 0);
  EXPECT_EQ(graph.nodes[1].inputs[0], x);
}

TEST(VerifyTest, FindsEachBrokenInvariant) {
  Graph twice = Chain();
  twice.nodes[1].outputs = twice.nodes[0].outputs;
  EXPECT_NE(Verify(twice).message().find("defined twice"), std::string::npos);
  Graph early = Chain();
  std::swap(early.nodes[0], early.nodes[1]);
  EXPECT_NE(Verify(early).message().find("before it is defined"), std::string::npos);
  Graph range = Chain();
  range.nodes[0].inputs[0] = 99;
  EXPECT_FALSE(Verify(range).ok());
  Graph constant = Chain();
  constant.AddConstant("c", Tensor(DType::f32, {2}));
  constant.value(constant.FindValue("c")).type.dtype = DType::i8;
  EXPECT_FALSE(Verify(constant).ok());
  Graph conditional = Chain();
  const ValueId read = conditional.AddValue("s", {DType::f32, Shape()});
  conditional.states.push_back({"s", read, read, read});
  EXPECT_NE(Verify(conditional).message().find("expected bool[]"), std::string::npos);
  Graph same = Chain();
  for (int i = 0; i < 2; ++i) {
    const ValueId state = same.AddValue("", {DType::f32, Shape()});
    same.states.push_back({"s", state, state});
  }
  EXPECT_NE(Verify(same).message().find("two states are named 's'"), std::string::npos);
}

TEST(SortTest, OrdersNodesAndFindsCycles) {
  Graph graph = Chain();
  std::swap(graph.nodes[0], graph.nodes[1]);
  ASSERT_TRUE(SortTopologically(graph).ok());
  EXPECT_EQ(graph.nodes[0].op, "Relu");
  graph.nodes[0].inputs[0] = graph.nodes[1].outputs[0];
  EXPECT_NE(SortTopologically(graph).message().find("cycle"), std::string::npos);
}

}  // namespace
}  // namespace minim
