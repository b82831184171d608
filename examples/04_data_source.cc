// Trains on samples that are computed when they are asked for, from C++ alone: windows of a random
// walk, labelled by whether the walk ends above its mean.
//   build/release/examples/04_data_source
#include <cstdio>
#include <memory>
#include <random>

#include "minim/train.h"

namespace {

constexpr int64_t kSteps = 32;

class Walks final : public minim::DataSource {
 public:
  int64_t size() const override { return 20000; }

  minim::Result<minim::Batch> Gather(std::span<const int64_t> indices) override {
    const auto count = static_cast<int64_t>(indices.size());
    minim::Batch batch{minim::Tensor(minim::DType::f32, {count, kSteps}),
                       minim::Tensor(minim::DType::i64, {count})};
    for (size_t i = 0; i < indices.size(); ++i)
      batch.labels.as<int64_t>()[i] =
          Draw(indices[i], batch.samples.as<float>().subspan(i * kSteps, kSteps));
    return batch;
  }

 private:
  // Fills one walk; the same number gives the same walk.
  static bool Draw(int64_t number, std::span<float> walk) {
    std::mt19937 random(static_cast<unsigned>(number));
    std::normal_distribution<float> step;
    float at = 0, sum = 0;
    for (float& value : walk) {
      value = at += step(random);
      sum += at;
    }
    return at > sum / kSteps;
  }
};

}  // namespace

int main() {
  minim::TrainConfig config;
  config.train_source = std::make_shared<Walks>();
  config.split.test_fraction = 0.2;
  config.model.standardize = true;
  config.model.layers = {
      {.kind = "linear", .units = 16}, {.kind = "relu"}, {.kind = "linear", .units = 2}};
  config.epochs = 2;
  config.onnx_out = "walks.onnx";
  const auto report = minim::Train(config);
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", report.status().message().c_str());
    return 1;
  }
  std::printf("test AUC %.4f, wrote %s\n", report->epoch_auc.back(), config.onnx_out.c_str());
}
