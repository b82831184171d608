// Training steps of many equal layers, for tests of what a step keeps.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "graph/text.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {

/// `layers` repeats of `layer`, each from vSELF (and vBEFORE) to vNEXT with a weight wSELF, and the
/// gradients of all weights. Inputs are v0, draw and the weights; outputs the loss and the
/// gradients.
inline Graph TrainingChain(int layers, std::string_view layer, int rows = 8) {
  std::string text = fmt::format("graph \"g\"(v0: f32[{},16], draw: i64", rows);
  for (int i = 0; i < layers; ++i) text += fmt::format(", w{}: f32[16,16]", i);
  text += ") -> (loss) { const ratio: f32 = [0.5] const yes: bool = [1]\n";
  for (int i = 0; i < layers; ++i) {
    std::string line(layer);
    for (const auto& [mark, value] :
         {std::pair("NEXT", i + 1), std::pair("SELF", i), std::pair("BEFORE", std::max(0, i - 1))})
      for (size_t at; (at = line.find(mark)) != std::string::npos;)
        line.replace(at, std::strlen(mark), std::to_string(value));
    text += line + "\n";
  }
  text += fmt::format("loss = ReduceSum(v{}) {{keepdims=0}} }}", layers);
  auto graph = ParseText(text);
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_TRUE(InferGraph(*graph).ok());
  std::vector<ValueId> weights(graph->inputs.begin() + 2, graph->inputs.end());
  const auto gradients = Autodiff(*graph, graph->outputs[0], weights);
  EXPECT_TRUE(gradients.ok()) << gradients.status().message();
  graph->outputs.insert(graph->outputs.end(), gradients->begin(), gradients->end());
  EXPECT_TRUE(EliminateDeadCode(*graph, {}).ok());
  return *std::move(graph);
}

}  // namespace minim
