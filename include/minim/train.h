// Training: a model description or an ONNX file, data, and a recipe become a trained ONNX file.
// Threads: a Trainer is used by one thread; its progress callback runs on that thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

/// One layer of a sequential model. `kind` is the layer's name: "conv", "linear", "relu",
/// "sigmoid", "tanh", "max_pool", "average_pool", "global_average_pool", "batch_norm", "flatten".
struct LayerSpec {
  std::string kind;
  int64_t units = 0;   // output channels of conv, outputs of linear
  int64_t kernel = 0;  // conv and pools
  int64_t stride = 0;  // 0: 1 for conv, the kernel for pools
  int64_t padding = 0;
  bool bias = true;
};

struct ModelSpec {
  std::string onnx;               // start from this file; or
  std::vector<int64_t> input;     // sample shape, without the batch, of
  std::vector<LayerSpec> layers;  // these layers
  double input_scale = 1;         // samples are multiplied by it, inside the model
};

enum class LossKind { kCrossEntropy, kMeanSquaredError };
enum class OptimizerKind { kSgd, kAdam };
enum class Schedule { kConstant, kCosine };

struct TrainConfig {
  std::string train_samples, train_labels;  // .npy or IDX (.gz)
  std::string test_samples, test_labels;    // optional
  ModelSpec model;
  LossKind loss = LossKind::kCrossEntropy;
  OptimizerKind optimizer = OptimizerKind::kAdam;
  Schedule schedule = Schedule::kConstant;
  double learning_rate = 1e-3;
  double momentum = 0.9;  // of sgd
  double weight_decay = 0;
  int64_t epochs = 1;
  int64_t batch = 64;
  uint64_t seed = 1;
  int threads = 1;
  std::string onnx_out = "model.onnx";
  std::string log_out;     // JSON lines; empty: none
  std::string checkpoint;  // safetensors, written after every epoch; empty: none
  bool resume = false;     // continue from the checkpoint if it exists
};

/// Reads a TOML file (see examples/fashion_mnist.toml). Relative paths are relative to it.
/// Errors: kNotFound; kInvalidArgument names the key, what was found and what is expected.
Result<TrainConfig> ReadTrainConfig(const std::string& path);

struct TrainProgress {
  int64_t epoch = 0, epochs = 0;
  int64_t step = 0, steps = 0;  // of the whole training
  double loss = 0;              // running mean over this epoch
  double seconds = 0;
  double samples_per_second = 0;
  double test_accuracy = -1;  // set after the last step of an epoch; -1: none
};

struct TrainReport {
  std::vector<double> epoch_loss;
  std::vector<double> epoch_accuracy;  // on the test set, if there is one
  double seconds = 0;
  size_t arena_bytes = 0;  // of the training step
  int64_t parameters = 0;
};

/// Trains and writes the ONNX file. `progress` is called after every step; returning false saves a
/// checkpoint (if configured) and stops with kCancelled.
/// Errors: kInvalidArgument for a config that disagrees with itself or the data; kUnsupported for
/// an operator without a gradient; kInternal when the loss is no longer finite.
Result<TrainReport> Train(const TrainConfig& config,
                          const std::function<bool(const TrainProgress&)>& progress = {});

}  // namespace minim
