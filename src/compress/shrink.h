// Shrink: makes the variants of a model, measures each on the user's data and this machine, and
// keeps those that pass. Writes a model folder that `minim serve` takes as it is.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "compress/gate.h"
#include "compress/quantize.h"
#include "compress/store_weights.h"
#include "core/file.h"

namespace minim {

enum class ShrinkGoal { kLatency, kBytes };

struct ShrinkOptions {
  std::string model;
  /// Samples and labels that variants are judged on: a FILE, of a model with several inputs a
  /// NAME=FILE for each or a FILE.npz with arrays of their names. Labels may be empty, or in the
  /// table.
  std::vector<std::string> data;
  std::string labels;
  std::vector<std::string> calibration;  // samples; empty: a fifth of the data
  int64_t calibration_count = 500;
  std::vector<std::string> train_data;  // for recipes; empty: none
  std::string train_labels;
  /// Of a model that takes a stream step by step: the output that each of these inputs is at the
  /// next sample. Samples are then steps in order, states zeros at first and after each
  /// `sequence_length` steps (0: never again).
  std::map<std::string, std::string> states;
  int64_t sequence_length = 0;
  std::string metric;            // of Metric::Parse; empty: by labels and answers
  std::string metric_command;    // of MeasureByCommand; instead of a metric
  bool lower_is_better = false;  // of the command's numbers
  std::string output;            // the output that is judged; empty: the first of floats
  double max_loss = 0.02;
  ShrinkGoal goal = ShrinkGoal::kLatency;
  /// Steps of a chain: "prune" (channels), "magnitude" (zeros), "distill", "quantize".
  std::vector<std::string> recipe;
  double prune_fraction = 0.5;            // of the parameters
  int64_t epochs = 2;                     // of each step that trains
  std::optional<Calibrator> calibrator;   // none: what errs least on the calibration samples
  StaticOptions static_int8;              // percentile, symmetric and per_channel of it count
  bool shallower = false;                 // distill: also without every second of like blocks
  std::chrono::seconds time_budget{600};  // searches stop there; what is begun is finished
  uint64_t seed = 1;
  int threads = 1;
  std::string out;  // the model folder; files go to out/VERSION
  int64_t version = 1;
  bool skip_if_done = false;  // if report.json is of the same files and options
  /// With several runs at once: held shared by what works, alone by what times variants.
  std::shared_mutex* quiet = nullptr;
};

/// Of single runs, in microseconds.
struct Latency {
  double p50 = 0;
  double p99 = 0;
  /// Time beside the reference's, of pairs measured one after the other: the median and its 95 %
  /// interval.
  Interval ratio = {1, 1, 1};
};

struct VariantReport {
  std::string name;    // "fp32", "bf16", "fp16", "int8", "int8-dynamic", ...
  std::string file;    // relative to the version folder
  std::string detail;  // how it was made, where that was chosen
  GateResult gate;     // of fp32: against itself
  Likeness likeness;
  int64_t bytes = 0;                      // 0: could not be made, see reason
  std::map<int64_t, size_t> arena_bytes;  // by batch size
  std::map<int64_t, Latency> latency;     // by batch size, one thread
  std::vector<std::string> float_ops;     // that a mixed variant leaves in FP32
  std::vector<TensorRange> stored;        // of 16-bit weights
  bool asked_for = false;    // a step of the recipe: kept even if it gains nothing by itself
  bool kept = false;         // passed the gate and serves the goal, so written
  bool on_frontier = false;  // no other that passes is better in accuracy and the goal
  std::string reason;        // why it is served, kept or dropped
};

/// What an op costs in INT8, by measurement on the calibration samples.
struct OpSensitivity {
  std::string op;       // its first output
  std::string kind;     // "Conv", ...
  double error = 0;     // of the model's answers, relative, if only this op is INT8
  double saved_us = 0;  // at batch 1: all INT8 beside all but this op
};

struct ShrinkReport {
  std::string metric;
  std::vector<VariantReport> variants;
  std::string preferred;                        // the tier served by default
  std::vector<OpSensitivity> sensitivity;       // of "int8", the most sensitive first
  ActivationProfile profile;                    // of the calibration samples
  std::optional<StaticOptions> static_options;  // of "int8"
  std::vector<std::string> warnings;
  int64_t samples = 0, calibration_samples = 0;
  bool was_done = false;  // by an earlier run: metric, preferred and the numbers of variants only
};

/// Told what is being done; returning false stops with kCancelled.
using ShrinkProgress = std::function<bool(double fraction, const std::string& doing)>;

/// Where a run writes its report.
Path ReportOf(const ShrinkOptions& options);

/// Writes variants and report.json (ShrinkReportJson), each file atomically, the report last.
/// An interrupted run that is started again with the same options continues.
/// Errors: kInvalidArgument for data that does not fit the model; those of files.
Result<ShrinkReport> Shrink(const ShrinkOptions& options, const ShrinkProgress& progress = {});

}  // namespace minim
