// What tests of passes share: graphs from text, and a pass run on one.
#pragma once

#include <gtest/gtest.h>

#include "core/philox.h"
#include "graph/text.h"
#include "ops/infer.h"
#include "ops/reference.h"
#include "passes/passes.h"

namespace minim {

inline Graph Parse(std::string_view text) {
  auto graph = ParseText(text);
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_TRUE(InferGraph(*graph).ok());
  return *std::move(graph);
}

inline std::vector<std::string> OpsOf(const Graph& graph) {
  std::vector<std::string> ops;
  for (const Node& node : graph.nodes) ops.push_back(node.op);
  return ops;
}

// Runs the pass and checks that the outputs on random inputs stay within `tolerance`.
inline Graph Apply(PassFn pass, const Graph& before, double tolerance = 0) {
  Graph after = before;
  EXPECT_TRUE(pass(after, {}).ok());
  EXPECT_TRUE(Verify(after).ok());
  std::vector<Tensor> inputs;
  const Philox rng(1);
  uint64_t drawn = 0;
  for (ValueId id : before.inputs) {
    const DType dtype = before.type(id).dtype;
    Tensor input(dtype, before.type(id).dims());
    if (dtype == DType::u8 || dtype == DType::i8) {
      auto* bytes = static_cast<std::byte*>(input.data());
      for (size_t i = 0; i < input.bytes(); ++i)
        bytes[i] = static_cast<std::byte>(rng.Below(drawn++, 256));
    } else {
      Tensor floats(DType::f32, input.dims());
      for (float& v : floats.as<float>()) v = rng.Uniform(drawn++) * 2 - 1;
      input = Converted(floats.view(), dtype);
    }
    inputs.push_back(std::move(input));
  }
  const auto expected = EvaluateGraph(before, inputs), actual = EvaluateGraph(after, inputs);
  EXPECT_TRUE(expected.ok() && actual.ok());
  for (size_t i = 0; i < expected->size(); ++i) {
    const RefTensor e = ToReference((*expected)[i]), a = ToReference((*actual)[i]);
    EXPECT_EQ(e.dims(), a.dims());
    for (int64_t k = 0; k < e.size(); ++k) EXPECT_NEAR(a.At(k), e.At(k), tolerance);
  }
  return after;
}

using Ops = std::vector<std::string>;

}  // namespace minim
