// Comparison of a model's answers with recorded ones, and whole suites of such cases.
#pragma once

#include <string>
#include <vector>

#include "core/file.h"
#include "minim/tensor.h"

namespace minim {

struct Tolerance {
  double rtol = 1e-3;
  double atol = 1e-7;
};

/// Empty if `actual` matches; else which element differs and both values. NaN equals NaN. The
/// relative tolerance is never below the dtype's own precision.
std::string FindMismatch(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance);

struct CaseResult {
  enum Outcome { kPassed, kFailed, kSkipped } outcome = kPassed;
  std::string reason;
};

/// Runs every test_data_set_* folder below `folder` against `model`.
CaseResult RunCase(const Path& model, const Path& folder, const Tolerance& tolerance);

/// Finds every case below `root` in the layouts of ONNX's backend tests: folders with model.onnx
/// and test_data_set_*, and flat light_X.onnx with light_X_output_0.pb. Prints failures, a line per
/// group of skips, and "N passed, N failed, N skipped". Returns the number failed.
int RunSuite(const Path& root, const Tolerance& tolerance, bool verbose);

}  // namespace minim
