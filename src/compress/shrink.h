// Shrink: makes the variants of a model, measures each on the user's data and this machine, and
// keeps those that pass. Writes a model folder that `minim serve` takes as it is.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "compress/gate.h"
#include "core/file.h"

namespace minim {

enum class ShrinkGoal { kLatency, kBytes };

struct ShrinkOptions {
  std::string model;
  std::string test_samples, test_labels;                // what accuracy is measured on
  std::string calibration_samples, calibration_labels;  // what static INT8 is calibrated on
  int64_t calibration_count = 500;
  double max_loss = 0.02;
  ShrinkGoal goal = ShrinkGoal::kLatency;
  std::string out;  // the model folder; files go to out/1
};

struct VariantReport {
  std::string name;  // "fp32", "bf16", "int8", "int8-dynamic"
  std::string file;  // relative to the version folder
  GateResult gate;   // of fp32: against itself
  int64_t bytes = 0;
  double latency_us = 0;      // batch 1, one thread, median
  double latency_b32_us = 0;  // batch 32
  bool kept = false;          // passed the gate, so written
  std::string reason;         // why it is served, kept or dropped
};

struct ShrinkReport {
  std::vector<VariantReport> variants;
  std::string preferred;  // the tier served by default
};

/// Errors: kInvalidArgument for data that does not fit the model; those of files.
Result<ShrinkReport> Shrink(
    const ShrinkOptions& options,
    const std::function<void(double fraction, const std::string&)>& progress);

}  // namespace minim
