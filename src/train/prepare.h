// What a training run works out from its config and data before it starts.
#pragma once

#include "graph/graph.h"
#include "train/train_data.h"

namespace minim {

/// Errors: kInvalidArgument for numbers that make no sense, alone or together.
Status CheckConfig(const TrainConfig& config);

/// A full disk or an unwritable folder is an error before training starts, not after it.
Status CheckWritable(const TrainConfig& config);

/// The model to train, which takes samples as those of `batch`: built or imported, standardised if
/// the config says so, with the data's metadata. Sets config.model.input where it is empty.
Result<Graph> BuildForward(TrainConfig& config, const TrainData& data, const Dims& batch);

/// Labels that the loss would ignore are an error: cross_entropy of a model with fewer than
/// `classes` scores.
Status CheckClasses(const Graph& forward, const TrainConfig& config, int64_t classes);

/// Resolves balance_classes and checks class_weights: one for each of the model's classes, 1 for
/// those that never occur.
Status SetClassWeights(TrainConfig& config, const TrainData& data, const Graph& forward);

}  // namespace minim
