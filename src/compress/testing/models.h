// Small models, data and measures that the tests of this folder share.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "compress/quantize.h"
#include "core/philox.h"
#include "graph/text.h"
#include "ops/infer.h"
#include "session/session_impl.h"
#include "train/model_builder.h"

namespace minim {

/// f32[n, dims...] uniform in [low, high).
inline Tensor UniformTensor(const Dims& dims, uint64_t seed, float low, float high) {
  Tensor tensor(DType::f32, dims);
  const Philox rng(seed);
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor.as<float>()[i] = low + (high - low) * rng.Uniform(static_cast<uint64_t>(i));
  return tensor;
}

inline Tensor NormalTensor(const Dims& dims, uint64_t seed, float deviation) {
  Tensor tensor(DType::f32, dims);
  const Philox rng(seed);
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor.as<float>()[i] = deviation * rng.Normal(static_cast<uint64_t>(i));
  return tensor;
}

inline Dataset DataOf(Tensor samples) {
  const int64_t n = samples.dims()[0];
  return {std::move(samples), Tensor(DType::i64, {n})};
}

/// Images of SmallNet.
inline Dataset Noise(int64_t n) { return DataOf(UniformTensor({n, 1, 8, 8}, 2, 0, 1)); }

inline Graph SmallNet() {
  ModelSpec spec;
  spec.input = {1, 8, 8};
  spec.layers = {{.kind = "conv", .units = 4, .kernel = 3, .padding = 1},
                 {.kind = "relu"},
                 {.kind = "max_pool", .kernel = 2},
                 {.kind = "flatten"},
                 {.kind = "linear", .units = 16},
                 {.kind = "relu"},
                 {.kind = "linear", .units = 5}};
  return BuildModel(spec, 1).value();
}

/// IR text with inferred types; its inputs after the first become constants, in order.
inline Graph ParseModel(const std::string& text, const std::vector<Tensor>& constants = {}) {
  auto parsed = ParseText(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  Graph graph = std::move(parsed).value();
  for (size_t i = 0; i < constants.size(); ++i)
    graph.constants.emplace(graph.inputs[i + 1], constants[i]);
  graph.inputs.resize(1);
  const Status status = InferGraph(graph);
  EXPECT_TRUE(status.ok()) << status.message();
  return graph;
}

inline std::vector<Tensor> RunAll(const Graph& graph, const std::vector<Tensor>& inputs) {
  const auto session = MakeSession(graph, {});
  EXPECT_TRUE(session.ok()) << session.status().message();
  std::vector<ConstView> views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  auto y = (*session)->Run(views);
  EXPECT_TRUE(y.ok()) << y.status().message();
  return *y;
}

inline Tensor RunGraph(const Graph& graph, const Tensor& x) { return RunAll(graph, {x})[0]; }

inline double RelativeError(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.dims(), b.dims());
  double error = 0, norm = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    error += std::pow(a.as<float>()[i] - b.as<float>()[i], 2);
    norm += std::pow(b.as<float>()[i], 2);
  }
  return std::sqrt(error / norm);
}

inline Graph Prepared(const Graph& graph) { return PrepareForQuantization(graph).value(); }

/// Static INT8 of `graph`, calibrated on `data`.
inline Result<Graph> Quantized(const Graph& graph, const Dataset& data,
                               const StaticOptions& options = {}) {
  MINIM_TRY(const Graph prepared, PrepareForQuantization(graph));
  MINIM_TRY(const ActivationProfile profile, CollectProfile(prepared, data));
  return QuantizeStatic(prepared, profile, options);
}

}  // namespace minim
