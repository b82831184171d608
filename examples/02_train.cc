// Trains from a TOML recipe with a callback of its own:
//   build/release/examples/02_train examples/fashion_mnist.toml
#include <cstdio>

#include "minim/train.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s recipe.toml\n", argv[0]);
    return 2;
  }
  auto config = minim::ReadTrainConfig(argv[1]);
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", config.status().message().c_str());
    return 1;
  }
  const auto report = minim::Train(*config, [](const minim::TrainProgress& progress) {
    if (progress.test_accuracy >= 0)
      std::printf("epoch %d: accuracy %.4f\n", static_cast<int>(progress.epoch),
                  progress.test_accuracy);
    return true;  // false would save a checkpoint and stop
  });
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", report.status().message().c_str());
    return 1;
  }
  std::printf("wrote %s\n", config->onnx_out.c_str());
}
