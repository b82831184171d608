// What a model folder of a repository says of its shrinking.
#pragma once

#include "compress/shrink.h"

namespace minim {

/// Options of a model folder: [shrink] in its minim.toml, whose keys are those of the command line
/// (data, labels, calibration, train_data, ...; paths are relative to the folder; of several inputs
/// data = { NAME = "FILE", ... }; state = { INPUT = "OUTPUT" }; no command: a repository that came
/// from elsewhere must not run programs); without it data/samples, data/labels, data/calibration,
/// data/train_samples and data/train_labels, as .npy, .npz, .csv or .csv.gz. `defaults` hold for
/// what is not said. Model, version and out are not touched. Errors: kNotFound if there is no data;
/// kInvalidArgument for a key.
Result<ShrinkOptions> FolderShrinkOptions(const Path& folder, const ShrinkOptions& defaults);

/// Errors: kInvalidArgument lists the names.
Result<ShrinkGoal> ParseShrinkGoal(std::string_view name);
/// "prune,distill,quantize". Errors: kInvalidArgument lists the steps.
Result<std::vector<std::string>> ParseRecipe(std::string_view text);

}  // namespace minim
