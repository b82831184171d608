// Problems that a small model learns in a second, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "compress/fine_tune.h"
#include "core/philox.h"
#include "session/session_impl.h"
#include "train/metrics.h"
#include "train/model_builder.h"

namespace minim {

/// Two interleaved half circles in `n` points, four features of which two are noise.
inline Dataset Moons(int64_t n, uint64_t seed = 3) {
  Dataset data{Tensor(DType::f32, {n, 4}), Tensor(DType::i64, {n})};
  const Philox rng(seed);
  for (int64_t i = 0; i < n; ++i) {
    const bool upper = i % 2 == 0;
    const auto at = static_cast<uint64_t>(5 * i);
    const float angle = 3.14159f * rng.Uniform(at);
    float* x = data.samples.as<float>().data() + 4 * i;
    x[0] = std::cos(angle) + (upper ? 0 : 1) + 0.1f * (rng.Uniform(at + 1) - 0.5f);
    x[1] = std::sin(angle) * (upper ? 1 : -1) + (upper ? 0 : 0.5f);
    x[2] = rng.Uniform(at + 2) - 0.5f;
    x[3] = rng.Uniform(at + 3) - 0.5f;
    data.labels.as<int64_t>()[i] = upper;
  }
  return data;
}

/// 4 -> hidden -> hidden -> 2.
inline Graph MoonsNet(int64_t hidden, uint64_t seed = 1) {
  ModelSpec spec;
  spec.input = {4};
  spec.layers = {{.kind = "linear", .units = hidden},
                 {.kind = "relu"},
                 {.kind = "linear", .units = hidden},
                 {.kind = "relu"},
                 {.kind = "linear", .units = 2}};
  return BuildModel(spec, seed).value();
}

inline double Accuracy(const Graph& graph, const Dataset& data) {
  const auto session = MakeSession(graph, {});
  EXPECT_TRUE(session.ok()) << session.status().message();
  if (!session.ok()) return -1;
  ArraySource source(data);
  const auto metrics = Evaluate(**session, source, LossKind::kCrossEntropy);
  EXPECT_TRUE(metrics.ok()) << metrics.status().message();
  return metrics.ok() ? metrics->accuracy : -1;
}

inline Tensor RunGraph(const Graph& graph, const Tensor& x) {
  const auto session = MakeSession(graph, {});
  EXPECT_TRUE(session.ok()) << session.status().message();
  if (!session.ok()) return {};
  const ConstView views[] = {x.view()};
  auto y = (*session)->Run(views);
  EXPECT_TRUE(y.ok()) << y.status().message();
  return y.ok() ? (*y)[0] : Tensor();
}

/// The largest difference, or infinity where shapes differ.
inline double Distance(const Tensor& a, const Tensor& b) {
  if (a.dims() != b.dims()) return INFINITY;
  double most = 0;
  for (int64_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::fabs(double{a.as<float>()[i]} - b.as<float>()[i]));
  return most;
}

/// Trains `graph` from where it stands; failures end up in the test's result.
inline Graph Tuned(const Graph& graph, const Dataset& data, FineTuneOptions options) {
  auto tuned = FineTune(graph, data, options);
  EXPECT_TRUE(tuned.ok()) << tuned.status().message();
  return tuned.ok() ? std::move(tuned->graph) : graph;
}

struct Fashion {
  Dataset train, test;
};

/// 3,000 and 2,000 images [1,28,28] in [0, 255] of the test set of Fashion-MNIST; empty if it is
/// not installed.
inline Fashion SomeFashion() {
  const Path folder = "/usr/share/datasets/fashion-mnist";
  const Path images = folder / "t10k-images-idx3-ubyte.gz";
  if (!std::filesystem::exists(images)) return {};
  const Dataset all =
      ReadDataset(images, folder / "t10k-labels-idx1-ubyte.gz", {1, 28, 28}).value();
  const auto part = [&](int64_t first, int64_t count) {
    std::vector<int64_t> indices = InOrder(count);
    for (int64_t& index : indices) index += first;
    const Batch batch = GatherBatch(all, indices);
    return Dataset{batch.samples, batch.labels};
  };
  return {part(0, 3000), part(8000, 2000)};
}

/// A convolutional network for Fashion.
inline Graph FashionNet() {
  ModelSpec spec;
  spec.input = {1, 28, 28};
  spec.input_scale = 1.0 / 255;
  spec.layers = {{.kind = "conv", .units = 16, .kernel = 5, .stride = 2, .padding = 2},
                 {.kind = "batch_norm"},
                 {.kind = "relu"},
                 {.kind = "conv", .units = 32, .kernel = 3, .stride = 2, .padding = 1},
                 {.kind = "batch_norm"},
                 {.kind = "relu"},
                 {.kind = "flatten"},
                 {.kind = "linear", .units = 64},
                 {.kind = "relu"},
                 {.kind = "linear", .units = 10}};
  return BuildModel(spec, 1).value();
}

/// FashionNet after three epochs; trained once a process.
inline const Graph& TrainedFashionNet(const Fashion& data) {
  static const Graph trained =
      Tuned(FashionNet(), data.train, {.epochs = 3, .batch = 50, .learning_rate = 3e-3});
  return trained;
}

}  // namespace minim
