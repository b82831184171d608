// What mixed precision adds to a training step, and the step itself. Limits: conversion, unscaling
// and the check move bytes, so the memory's bandwidth; a step's products, the kernels' GFLOP/s.
#include <benchmark/benchmark.h>

#include "core/dtype.h"
#include "core/philox.h"
#include "minim/mixed_precision.h"
#include "train/model_builder.h"
#include "train/step_runner.h"

namespace minim {
namespace {

constexpr int64_t kElements = 1 << 20;

Tensor Uniform(const Dims& dims) {
  const Philox rng(1);
  Tensor tensor(DType::f32, dims);
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.as<float>()[i] = rng.Uniform(i) - 0.5f;
  return tensor;
}

void SetBytes(benchmark::State& state, double bytes) {
  state.counters["B/s"] = benchmark::Counter(bytes * static_cast<double>(state.iterations()),
                                             benchmark::Counter::kIsRate);
}

void Convert(benchmark::State& state, DType from, DType to) {
  const Tensor source = Converted(Uniform({kElements}).view(), from);
  Tensor target(to, {kElements});
  for (auto _ : state) {
    ConvertElements(source.view(), target.view());
    benchmark::DoNotOptimize(target.data());
  }
  SetBytes(state, static_cast<double>(source.bytes() + target.bytes()));
}
BENCHMARK_CAPTURE(Convert, f32_to_f16, DType::f32, DType::f16);
BENCHMARK_CAPTURE(Convert, f32_to_bf16, DType::f32, DType::bf16);
BENCHMARK_CAPTURE(Convert, f16_to_f32, DType::f16, DType::f32);
BENCHMARK_CAPTURE(Convert, bf16_to_f32, DType::bf16, DType::f32);

// Multiplies and checks.
void Unscale(benchmark::State& state, bool adaptive) {
  GradScaler scaler = GradScaler::Make({.adaptive = adaptive}).value();
  Tensor gradient = Uniform({kElements});
  const View views[] = {gradient.view()};
  for (auto _ : state) {
    if (!scaler.Unscale(0, views).ok() || !scaler.Update().ok()) state.SkipWithError("unscale");
  }
  SetBytes(state, 2 * static_cast<double>(gradient.bytes()));
}
BENCHMARK_CAPTURE(Unscale, by_trial, false);
BENCHMARK_CAPTURE(Unscale, adaptive, true);

void ScaleUpdate(benchmark::State& state) {
  GradScaler scaler = GradScaler::Make().value();
  for (auto _ : state) {
    if (!scaler.Record(0, true).ok() || !scaler.Update().ok()) state.SkipWithError("update");
  }
}
BENCHMARK(ScaleUpdate);

// Check, unscaling, Adam and the cast to working weights of a million parameters.
void Update(benchmark::State& state, TrainPrecision precision) {
  const Tensor gradient = Uniform({kElements});
  auto trainer =
      MixedPrecisionTrainer::Make({{"w", Uniform({kElements})}}, {.precision = precision});
  if (!trainer.ok()) return state.SkipWithError(trainer.status().message().c_str());
  const auto gradients = [&](std::span<const Tensor>, float, std::span<Tensor> to) {
    std::copy_n(gradient.as<float>().data(), kElements, to[0].as<float>().data());
    return Status();
  };
  for (auto _ : state) {
    if (!(*trainer)->Step(gradients, 1e-3).ok()) state.SkipWithError("step");
  }
}
BENCHMARK_CAPTURE(Update, fp32, TrainPrecision::kFp32);
BENCHMARK_CAPTURE(Update, bf16, TrainPrecision::kBf16);
BENCHMARK_CAPTURE(Update, fp16, TrainPrecision::kFp16);

// The CNN of examples/fashion_mnist.toml, one thread; range(0) is the batch.
void Step(benchmark::State& state, TrainPrecision precision, bool scaled) {
  TrainConfig config;
  config.batch = state.range(0);
  config.scaler.enabled = scaled;
  config.model.input = {1, 28, 28};
  config.model.layers = {{.kind = "conv", .units = 16, .kernel = 3, .padding = 1},
                         {.kind = "relu"},
                         {.kind = "max_pool", .kernel = 2},
                         {.kind = "conv", .units = 32, .kernel = 3, .padding = 1},
                         {.kind = "relu"},
                         {.kind = "max_pool", .kernel = 2},
                         {.kind = "flatten"},
                         {.kind = "linear", .units = 10}};
  const Graph forward = BuildModel(config.model, 1).value();
  Batch batch{Uniform({config.batch, 1, 28, 28}), Tensor(DType::i64, {config.batch})};
  const auto runner = StepRunner::Make(forward, config, precision, batch);
  if (!runner.ok()) return state.SkipWithError(runner.status().message().c_str());
  int64_t draw = 0;
  for (auto _ : state) {
    if (!(*runner)->Run({&batch, 1}, 1e-3, draw++).ok()) state.SkipWithError("step");
  }
  state.counters["samples/s"] = benchmark::Counter(
      static_cast<double>(config.batch * state.iterations()), benchmark::Counter::kIsRate);
  state.counters["arena MiB"] = static_cast<double>((*runner)->arena_bytes()) / (1 << 20);
}
void Batches(benchmark::internal::Benchmark* bench) {
  bench->Arg(32)->Arg(64)->Arg(128)->Arg(256)->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(Step, fp32, TrainPrecision::kFp32, false)->Apply(Batches);
BENCHMARK_CAPTURE(Step, bf16, TrainPrecision::kBf16, false)->Apply(Batches);
BENCHMARK_CAPTURE(Step, fp16_scaled, TrainPrecision::kFp16, true)->Apply(Batches);
BENCHMARK_CAPTURE(Step, fp16_unscaled, TrainPrecision::kFp16, false)->Apply(Batches);

}  // namespace
}  // namespace minim
