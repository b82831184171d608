// A metric that is a program of the user's.
#pragma once

#include <string>

#include "compress/metric.h"

namespace minim {

/// Runs `command SCORES.npy LABELS.npy` in a shell (without labels the second name is left out).
/// SCORES.npy holds the answers, f32 [N, ...]. What it prints is either one number a sample, whose
/// mean is the metric, or one number: then it runs again without each of 20 parts of the samples,
/// and what that changes (the jackknife: Efron 1979) tells how sure the number is.
/// Errors: kInvalidArgument for a program that fails or prints anything else.
Result<Measured> MeasureByCommand(const std::string& command, const Tensor& scores,
                                  const Tensor& labels);

}  // namespace minim
