// Training: a model description or an ONNX file, data, and a recipe become a trained ONNX file.
// Threads: a Trainer is used by one thread; its progress callback runs on that thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "minim/data_source.h"
#include "minim/grad_scaler.h"
#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

/// One layer of a sequential model. `kind` is the layer's name: "conv", "linear", "relu",
/// "sigmoid", "tanh", "max_pool", "average_pool", "global_average_pool", "batch_norm", "dropout",
/// "flatten".
struct LayerSpec {
  std::string kind;
  int64_t units = 0;   // output channels of conv, outputs of linear
  int64_t kernel = 0;  // conv and pools
  int64_t stride = 0;  // 0: 1 for conv, the kernel for pools
  int64_t padding = 0;
  bool bias = true;
  double ratio = 0;  // of dropout
};

struct ModelSpec {
  std::string onnx;               // start from this file; or
  std::vector<int64_t> input;     // sample shape, without the batch (empty: the data's), of
  std::vector<LayerSpec> layers;  // these layers
  /// Above 1: the units of every layer but the last that has some are rounded up to a multiple of
  /// it, as vectors and tensor cores (8 for 16-bit floats) like them.
  int64_t round_up_channels = 0;
  double input_scale = 1;  // samples are multiplied by it, inside the model
  /// The model subtracts each feature's mean and divides by its standard deviation, both of the
  /// training samples: those of a row [F] or a sequence [T, F] along the last axis, of an image
  /// [C, ...] along the first. One-hot columns of a CSV file stay as they are.
  bool standardize = false;
};

/// A table with a header: one column is the label, the others are features. A column of texts
/// becomes one feature a category. How columns became features is in the trained file's metadata
/// ("minim.columns", JSON).
struct CsvSpec {
  std::string file, test_file;           // .csv or .csv.gz; test_file is optional
  std::string target;                    // the label: a class if it is text or the loss needs one
  std::vector<std::string> drop;         // columns to leave out
  std::vector<std::string> categorical;  // columns of numbers that stand for categories
};

enum class SplitKind { kRandom, kChronological };

/// Which part of the training data is for testing only.
struct SplitSpec {
  double test_fraction = 0;             // 0: none
  SplitKind kind = SplitKind::kRandom;  // by `seed`; kChronological: the last samples
  uint64_t seed = 1;
  int64_t gap = 0;  // kChronological: samples left out between the parts, as windows overlap
};

enum class LossKind { kCrossEntropy, kBinaryCrossEntropy, kMeanSquaredError };

/// What tells a better epoch from a worse one. kDefault: the accuracy on the test set if it has
/// classes, else the loss; kLoss: of the test set if there is one, else of training.
enum class MetricKind { kDefault, kLoss, kAccuracy, kAuc };

/// What products are computed in; weights, moments, norms and losses are FP32 in all of them.
/// kAuto: whichever of FP32 and BF16 measures faster on this machine.
enum class TrainPrecision { kFp32, kBf16, kFp16, kAuto };

enum class OptimizerKind { kSgd, kAdam, kAdamW, kAdagrad, kRmsprop, kLamb };

/// Parameters whose name contains `match` have a decay and a share of the learning rate of their
/// own; the first group that matches counts.
struct ParameterGroup {
  std::string match;
  double weight_decay = -1;  // negative: the optimizer's
  double rate_factor = 1;
};

/// The formulas are PyTorch's (LAMB: You et al. 2020); what an optimizer has no use for is ignored.
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kAdam;
  double learning_rate = 1e-3;
  double weight_decay = 0;  // added to gradients; of AdamW and LAMB: taken from parameters
  double momentum = -1;     // negative: 0.9 of SGD, 0 of RMSprop
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999;  // Adam, AdamW, LAMB
  double epsilon = -1;                // negative: 1e-8, of Adagrad 1e-10, of LAMB 1e-6
  double alpha = 0.99;                // RMSprop
  double rate_decay = 0;              // Adagrad
  std::vector<ParameterGroup> groups;
  double clip_norm = 0;   // gradients are scaled down to this norm; 0: never
  double clip_value = 0;  // then limited to +- this; 0: never
};

enum class ScheduleKind { kConstant, kStep, kCosine, kOneCycle, kPlateau };

/// How the learning rate moves over the optimizer's steps. Steps that were skipped do not count.
struct ScheduleSpec {
  ScheduleKind kind = ScheduleKind::kConstant;
  int64_t warmup_steps = 0;                       // linear from 0, before constant, step and cosine
  double min_rate = 0;                            // the least of cosine and plateau
  int64_t step_epochs = 10;                       // step: every so many epochs ...
  double factor = 0.1;                            // ... times this; of plateau as well
  double rise = 0.3;                              // one-cycle: the share of steps that rise, ...
  double first_divisor = 25, last_divisor = 1e4;  // ... from rate / first to first rate / last
  int64_t patience = 10;                          // plateau: epochs without improvement
  double threshold = 1e-4;                        // plateau: the least relative improvement
};

/// How values of the forward pass may wait for the backward pass. kHalf is BF16; the integers are
/// rounded at random, by groups of 256 with a range of their own, so that gradients stay unbiased.
enum class ActivationStorage { kWhole, kHalf, kInt8, kInt4 };

/// Gradient checkpointing: values of the forward pass that the backward pass makes again instead of
/// reading them. No bit of the result depends on it; it does on a `storage` other than kWhole.
struct MemorySpec {
  bool sqrt_checkpoints = false;  // keep what crosses the borders of about sqrt(n) segments
  size_t budget_bytes = 0;        // > 0: of arena and states, for the least added work
  ActivationStorage storage = ActivationStorage::kWhole;  // the least that a budget may use
};

struct TrainConfig {
  // Data comes from files of arrays, a CSV file, or sources of your own.
  std::string train_samples, train_labels;  // .npy, .npz:NAME or IDX (.gz)
  std::string test_samples, test_labels;    // optional
  CsvSpec csv;
  std::shared_ptr<DataSource> train_source, test_source;
  SplitSpec split;      // if there is no test data of its own
  bool shuffle = true;  // every epoch anew, by the seed
  ModelSpec model;
  LossKind loss = LossKind::kCrossEntropy;
  /// Of the classes in the loss of cross-entropies, of binary: {of 0, of 1}. The mean is divided by
  /// the sum of the weights.
  std::vector<double> class_weights;
  bool balance_classes = false;  // weights so that each class counts as much: n / (classes * count)
  TrainPrecision precision = TrainPrecision::kFp32;
  /// Op types or node names that autocast treats otherwise than by its own lists.
  std::vector<std::string> lower_ops, fp32_ops;
  GradScalerOptions scaler;  // of FP16
  MemorySpec memory;
  OptimizerSpec optimizer;
  ScheduleSpec schedule;
  int64_t epochs = 1;
  int64_t batch = 64;
  int64_t accumulate = 1;  // batches whose gradients one step of the optimizer uses
  double ema_decay = 0;    // > 0: a moving average of the weights is tested and exported
  MetricKind metric = MetricKind::kDefault;
  /// > 0: epochs without a better metric before stopping; the best epoch's model is the result.
  int64_t stop_after = 0;
  int64_t bad_steps = 8;  // steps in a row that may be skipped, at the least loss scale or without
  uint64_t seed = 1;
  int threads = 1;
  std::string onnx_out = "model.onnx";
  std::string log_out;           // JSON lines; empty: none
  std::string checkpoint;        // safetensors, written after every epoch; empty: none
  int64_t checkpoint_steps = 0;  // > 0: also after every so many steps
  int64_t keep_checkpoints = 1;  // the last so many; older ones are FILE.1, FILE.2, ...
  bool resume = false;           // continue from the checkpoint if it exists
};

/// Reads a TOML file (see examples/fashion_mnist.toml). Relative paths are relative to it.
/// Errors: kNotFound; kInvalidArgument names the key, what was found and what is expected.
Result<TrainConfig> ReadTrainConfig(const std::string& path);

struct TrainProgress {
  int64_t epoch = 0, epochs = 0;
  int64_t step = 0, steps = 0;  // of the whole training
  double loss = 0;              // running mean over this epoch
  double step_loss = 0;         // of this step
  double learning_rate = 0;
  double gradient_norm = 0;   // of this step, unscaled, before clipping
  double scale = 1;           // of the loss
  int64_t skipped_steps = 0;  // so far, whose gradients were not finite
  double seconds = 0;
  double samples_per_second = 0;
  bool ends_epoch = false;
  // On the test set, after the last step of an epoch; -1: none, or it does not apply.
  double test_loss = -1;  // unweighted; of cross-entropies the log-loss
  double test_accuracy = -1;
  double test_auc = -1;  // of two classes
};

struct TrainReport {
  std::vector<double> epoch_loss;
  std::vector<double> epoch_test_loss, epoch_accuracy, epoch_auc;  // on the test set, if it has any
  double seconds = 0;
  size_t arena_bytes = 0;                                 // of the training step
  size_t kept_arena_bytes = 0;                            // what it would be if nothing ran twice
  int repeated_ops = 0;                                   // of a step, run twice
  int encoded_values = 0;                                 // that wait in fewer bits ...
  ActivationStorage storage = ActivationStorage::kWhole;  // ... as this
  double added_work = 0;                                  // by both, as a share of a step's
  size_t state_bytes = 0;                                 // weights, moments, accumulated gradients
  int64_t parameters = 0;
  TrainPrecision precision = TrainPrecision::kFp32;
  std::string precision_reason;  // of kAuto: what was measured
  int64_t skipped_steps = 0;
  GradScalerStatistics scaler;
  bool stopped_early = false;
  int64_t exported_epoch = 0;  // from 1: the last, or with `stop_after` the best
};

std::string_view Name(TrainPrecision precision);
std::string_view Name(ActivationStorage storage);

/// Trains and writes the ONNX file. `started` is called before the first step, with what is known
/// then: bytes, parameters, precision, what runs twice. `progress` is called after every step;
/// returning false saves a checkpoint (if configured) and stops with kCancelled. Errors:
/// kInvalidArgument for a config that disagrees with itself or the data; kUnsupported for an
/// operator without a gradient; kResourceExhausted for a budget that no step fits, naming the
/// least; kInternal when gradients stay non-finite, naming the first op
/// that made one.
Result<TrainReport> Train(const TrainConfig& config,
                          const std::function<bool(const TrainProgress&)>& progress = {},
                          const std::function<void(const TrainReport&)>& started = {});

/// A setting that was timed.
struct TuneTrial {
  TrainPrecision precision = TrainPrecision::kFp32;
  int threads = 1;
  int64_t batch = 0;
  double step_seconds = 0;  // of the median step
  double samples_per_second = 0;
  size_t bytes = 0;  // of arena and states
};

/// `config` with precision, threads, batch size and, if a step would take more than half of main
/// memory, its budget as they measured best on this machine: some steps on the first samples each,
/// of which nothing is kept. `tried` is called after each; returning false stops with kCancelled.
/// Another batch size learns otherwise. Errors: those of Train before its first step.
Result<TrainConfig> Tune(const TrainConfig& config,
                         const std::function<bool(const TuneTrial&)>& tried = {});

/// What each op of a step takes: one line an op, the median of `runs` runs on the first batch.
/// Nothing is written. Errors: those of Train before its first step.
Result<std::string> ProfileStep(const TrainConfig& config, int runs = 10);

}  // namespace minim
