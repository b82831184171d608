#include "compress/value_choice.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/text.h"
#include "ops/infer.h"

namespace minim {
namespace {

ValueId Named(const Graph& graph, std::string_view name) {
  for (size_t i = 0; i < graph.values.size(); ++i)
    if (graph.values[i].name == name) return static_cast<ValueId>(i);
  return kNoValue;
}

Graph Parse(const std::string& text) {
  Graph graph = ParseText(text).value();
  EXPECT_TRUE(InferGraph(graph).ok());
  return graph;
}

// Two branches of convolutions, joined by `join`, then a pool and another convolution.
Graph Joined(const char* join) {
  const bool concat = std::string_view(join).starts_with("Concat");
  return Parse(fmt::format(
      R"(graph "g"(x: f32[1,2,4,4]) -> (y, s) {{
    const v: f32[2,2,1,1] = [1, 2, 3, 4]
    const w: f32[3,{},1,1] = [{}]
    a = Conv(x, v)
    r = Relu(a)
    b = Conv(x, v)
    j = {}
    p = MaxPool(j) {{kernel_shape=[2,2]}}
    y = Conv(p, w)
    s = Sigmoid(b) }})",
      concat ? 4 : 2, concat ? "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12" : "1, 2, 3, 4, 5, 6", join));
}

TEST(ValueChoiceTest, WhatAConcatJoinsSharesParameters) {
  const Graph graph = Joined("Concat(r, b) {axis=1}");
  const ValueChoice choice = ChooseQuantized(graph);
  const ValueId root = choice.root.at(Named(graph, "r"));
  for (const char* name : {"b", "j", "p"}) EXPECT_EQ(choice.root.at(Named(graph, name)), root);
  EXPECT_NE(choice.root.at(Named(graph, "x")), root);
  std::vector<ValueId> sources = choice.sources.at(root);
  std::sort(sources.begin(), sources.end());
  EXPECT_EQ(sources, (std::vector<ValueId>{Named(graph, "r"), Named(graph, "b")}));
}

TEST(ValueChoiceTest, BothSidesOfASumAreRoundedAndSoIsTheSum) {
  const Graph graph = Joined("Add(r, b)");
  const ValueChoice choice = ChooseQuantized(graph);
  for (const char* name : {"r", "b", "j"}) EXPECT_TRUE(choice.Chosen(Named(graph, name))) << name;
  EXPECT_NE(choice.root.at(Named(graph, "r")), choice.root.at(Named(graph, "b")));
  EXPECT_EQ(choice.root.at(Named(graph, "p")), choice.root.at(Named(graph, "j")));
}

TEST(ValueChoiceTest, AResultBehindItsActivationIsRoundedForEveryReader) {
  const Graph graph = Joined("Add(r, b)");
  const ValueChoice choice = ChooseQuantized(graph);
  EXPECT_FALSE(choice.Chosen(Named(graph, "a")));  // only the Relu reads it
  EXPECT_FALSE(choice.Chosen(Named(graph, "y")));  // leaves the graph
  for (const Node& node : graph.nodes)
    EXPECT_TRUE(!node.Is("Sigmoid") || ReadsRounded(graph, choice, node, 0));
}

TEST(ValueChoiceTest, NothingWithoutConstantWeights) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2,2], w: f32[2,2]) -> (y) { y = MatMul(x, w) })");
  EXPECT_TRUE(ChooseQuantized(graph).root.empty());
}

}  // namespace
}  // namespace minim
