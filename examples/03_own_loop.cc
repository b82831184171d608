// A training loop of your own in FP16: minim keeps masters, moments and loss scale, the gradients
// are computed here, by hand, for a logistic regression on two features.
//   build/release/examples/03_own_loop
#include <cmath>
#include <cstdio>
#include <random>

#include "minim/mixed_precision.h"

namespace {

constexpr int kSamples = 256;

struct Data {
  float x[kSamples][2];
  float y[kSamples];
};

Data MakeData() {
  Data data;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int i = 0; i < kSamples; ++i) {
    for (float& value : data.x[i]) value = normal(random);
    data.y[i] = data.x[i][0] - 2 * data.x[i][1] + 0.5f > 0 ? 1.0f : 0.0f;
  }
  return data;
}

// Gradients of loss_scale times the mean log-loss with respect to the weights [2] and the bias [1],
// which are given in FP16.
void Gradients(const Data& data, std::span<const minim::Tensor> working, float loss_scale,
               std::span<minim::Tensor> gradients) {
  const auto w = working[0].as<minim::Half>();
  const auto bias = static_cast<float>(working[1].as<minim::Half>()[0]);
  for (int i = 0; i < kSamples; ++i) {
    const float* x = data.x[i];
    const float score = static_cast<float>(w[0]) * x[0] + static_cast<float>(w[1]) * x[1] + bias;
    const float error = 1 / (1 + std::exp(-score)) - data.y[i];
    for (int k = 0; k < 2; ++k) gradients[0].as<float>()[k] += loss_scale * error * x[k] / kSamples;
    gradients[1].as<float>()[0] += loss_scale * error / kSamples;
  }
}

}  // namespace

int main() {
  const Data data = MakeData();
  auto trainer = minim::MixedPrecisionTrainer::Make(
      {{"weights", minim::Tensor(minim::DType::f32, {2})},
       {"bias", minim::Tensor(minim::DType::f32, {1})}},
      {.precision = minim::TrainPrecision::kFp16,
       .optimizer = {.kind = minim::OptimizerKind::kAdamW, .clip_norm = 1}});
  if (!trainer.ok()) {
    std::fprintf(stderr, "%s\n", trainer.status().message().c_str());
    return 1;
  }
  for (int step = 0; step < 300; ++step) {
    const auto result = (*trainer)->Step(
        [&](auto working, float loss_scale, auto gradients) {
          Gradients(data, working, loss_scale, gradients);
          return minim::Status();
        },
        /*rate=*/0.05);
    if (!result.ok()) {
      std::fprintf(stderr, "%s\n", result.status().message().c_str());
      return 1;
    }
    if (step % 100 == 0)
      std::printf("step %d: gradient norm %.4f, loss scale %g%s\n", step, result->norm,
                  result->scale, result->stepped ? "" : ", skipped");
  }
  const auto weights = (*trainer)->masters()[0].as<float>();
  std::printf("weights %.2f %.2f, ratio %.2f (made with -0.5)\n", weights[0], weights[1],
              weights[0] / weights[1]);
}
