// How fast the tiers of a version are on this machine, side by side.
#pragma once

#include <span>
#include <vector>

#include "serve/model.h"

namespace minim::serve {

/// Inputs for one run of `rows` rows: floats uniform in [0, 1), integers 0 or 1, the same at every
/// call. Empty if dims besides the rows are open, or the rows are not when `rows` is not 1.
std::vector<Tensor> SampleInputs(const Model& model, int64_t rows);

/// models[0]'s time over each model's: the geometric mean, over runs of 1 row and of `max_rows`, of
/// the ratios of median times. The models alternate, so that what else the machine does hits all
/// alike; about `budget` in all, at least three rounds. Zero where a model could not be run.
std::vector<double> MeasureSpeedups(std::span<const std::shared_ptr<const Model>> models,
                                    int64_t max_rows, Duration budget);

}  // namespace minim::serve
