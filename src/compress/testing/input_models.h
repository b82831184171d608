// Models of several inputs and models with state, for tests.
#pragma once

#include "compress/testing/models.h"
#include "ops/builder.h"

namespace minim {

inline TensorType TypeOf(DType dtype, const std::vector<int64_t>& dims, size_t batch_axis = 0) {
  Shape shape;
  for (size_t i = 0; i < dims.size(); ++i)
    shape.push_back(i == batch_axis ? Dim::Symbol("N") : Dim(dims[i]));
  return {dtype, shape};
}

inline ValueId Weights(Builder& b, const Dims& dims, uint64_t seed, float deviation = 0.4f) {
  return b.Constant(NormalTensor(dims, seed, deviation));
}

inline ValueId Named(Graph& graph, ValueId id, const char* name) {
  graph.value(id).name = name;
  return id;
}

/// input_ids and attention_mask (i64[N,6]) -> logits f32[N,3]: one head of attention over
/// embedded tokens, of those that the mask shows the mean.
inline Graph TokenNet() {
  constexpr int64_t kTokens = 50, kLength = 6, kWidth = 32;
  Graph graph;
  const ValueId ids = graph.AddInput("input_ids", TypeOf(DType::i64, {1, kLength}));
  const ValueId mask = graph.AddInput("attention_mask", TypeOf(DType::i64, {1, kLength}));
  Builder b(graph);
  const ValueId x = b.Emit("Gather", {Weights(b, {kTokens, kWidth}, 1, 1), ids});
  const ValueId shown = b.Cast(mask, DType::f32);
  const ValueId q = b.Emit("MatMul", {x, Weights(b, {kWidth, kWidth}, 2)});
  const ValueId k = b.Emit("MatMul", {x, Weights(b, {kWidth, kWidth}, 3)});
  const ValueId v = b.Emit("MatMul", {x, Weights(b, {kWidth, kWidth}, 4)});
  const ValueId scores = b.Mul(b.Emit("MatMul", {q, b.Transpose(k, {0, 2, 1})}), 0.05);
  const ValueId hidden = b.Mul(b.Add(b.Mul(shown, -1.0), 1.0), -1e4);
  const ValueId masked = b.Add(scores, b.Emit("Unsqueeze", {hidden, b.Ints({1})}));
  const ValueId p = b.Emit("Softmax", {masked}, {{"axis", int64_t{-1}}});
  const ValueId mixed = b.Emit("MatMul", {p, v});
  const ValueId weighted = b.Emit("Mul", {mixed, b.Emit("Unsqueeze", {shown, b.Ints({2})})});
  const ValueId pooled = b.ReduceSum(weighted, {1}, false);
  const ValueId h = b.Emit("Relu", {b.Emit("MatMul", {pooled, Weights(b, {kWidth, 64}, 5)})});
  graph.outputs = {Named(graph, b.Emit("MatMul", {h, Weights(b, {64, 3}, 6)}), "logits")};
  EXPECT_TRUE(b.status().ok()) << b.status().message();
  return graph;
}

/// user f32[N,8] and item f32[N,5] -> score f32[N,1]: a tower for each, then both together.
inline Graph TowersNet() {
  Graph graph;
  const ValueId user = graph.AddInput("user", TypeOf(DType::f32, {1, 8}));
  const ValueId item = graph.AddInput("item", TypeOf(DType::f32, {1, 5}));
  Builder b(graph);
  const auto tower = [&](ValueId x, int64_t width, uint64_t seed) {
    const ValueId h = b.Emit("Relu", {b.Emit("MatMul", {x, Weights(b, {width, 64}, seed)})});
    return b.Emit("Relu", {b.Emit("MatMul", {h, Weights(b, {64, 32}, seed + 1, 0.2f)})});
  };
  const ValueId both =
      b.Emit("Concat", {tower(user, 8, 1), tower(item, 5, 3)}, {{"axis", int64_t{1}}});
  graph.outputs = {Named(graph, b.Emit("MatMul", {both, Weights(b, {64, 1}, 5)}), "score")};
  EXPECT_TRUE(b.status().ok()) << b.status().message();
  return graph;
}

struct LstmWeights {
  int64_t hidden;
  Tensor w = NormalTensor({1, 4 * hidden, 6}, 1, 0.4f);
  Tensor r = NormalTensor({1, 4 * hidden, hidden}, 2, 0.1f);
  Tensor b = NormalTensor({1, 8 * hidden}, 3, 0.2f);
  Tensor head = NormalTensor({hidden, 3}, 4, 0.3f);
};

/// One step: x f32[N,6], h0, c0 f32[1,N,hidden] -> logits f32[N,3], hn, cn.
inline Graph StepNet(int64_t hidden) {
  const LstmWeights weights{hidden};
  Graph graph;
  const ValueId h0 = graph.AddInput("h0", TypeOf(DType::f32, {1, 1, hidden}, 1));
  const ValueId x = graph.AddInput("x", TypeOf(DType::f32, {1, 6}));
  const ValueId c0 = graph.AddInput("c0", TypeOf(DType::f32, {1, 1, hidden}, 1));
  Builder b(graph);
  const std::vector<ValueId> made =
      b.EmitMany("LSTM",
                 {b.Emit("Unsqueeze", {x, b.Ints({0})}), b.Constant(weights.w),
                  b.Constant(weights.r), b.Constant(weights.b), kNoValue, h0, c0},
                 3, {{"hidden_size", hidden}});
  const ValueId state = Named(graph, b.Emit("Squeeze", {made[1], b.Ints({0})}), "state");
  const ValueId logits = b.Emit("MatMul", {state, b.Constant(weights.head)});
  graph.outputs = {Named(graph, made[1], "hn"), Named(graph, logits, "logits"),
                   Named(graph, made[2], "cn")};
  EXPECT_TRUE(b.status().ok()) << b.status().message();
  return graph;
}

/// The same network over a window: x f32[N,steps,6] -> logits f32[steps,N,3].
inline Graph WindowNet(int64_t hidden, int64_t steps) {
  const LstmWeights weights{hidden};
  Graph graph;
  const ValueId x = graph.AddInput("x", TypeOf(DType::f32, {1, steps, 6}));
  Builder b(graph);
  const ValueId y = b.Emit("LSTM",
                           {b.Transpose(x, {1, 0, 2}), b.Constant(weights.w), b.Constant(weights.r),
                            b.Constant(weights.b)},
                           {{"hidden_size", hidden}});
  const ValueId state = Named(graph, b.Emit("Squeeze", {y, b.Ints({1})}), "state");
  graph.outputs = {Named(graph, b.Emit("MatMul", {state, b.Constant(weights.head)}), "logits")};
  EXPECT_TRUE(b.status().ok()) << b.status().message();
  return graph;
}

}  // namespace minim
