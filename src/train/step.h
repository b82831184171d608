// The training step as a graph: forward, loss, backward, optimizer, with weights and moments as
// states.
#pragma once

#include <functional>

#include "ops/builder.h"
#include "train/update.h"

namespace minim {

/// Appends a scalar loss of the model's output and the labels.
using LossBuilder = std::function<Result<ValueId>(Builder&, ValueId predictions, ValueId labels)>;

/// What one run of a step graph does with its batch: both have the same inputs and states, so that
/// they share them.
enum class StepPart : uint8_t {
  kAccumulate,  // adds its gradients to those accumulated
  kUpdate,      // adds those accumulated to its own and updates the parameters
};

/// Inputs and outputs of a step graph by position. A model's inputs after the first come last.
enum StepInput { kSamples, kLabels, kRate, kLossScale, kInverseScale, kDraw, kStepInputs };
enum StepOutput { kLoss, kFinite, kNorm, kHistogram };

struct StepGraph : StatefulGraph {
  // Inputs: samples; labels; f32 scalars: learning rate, what the loss is multiplied by, what
  // gradients are multiplied by before use; the number of this batch (i64 scalar), which dropout
  // draws by. Outputs: loss; of kUpdate also whether all gradients were finite, their norm and,
  // with an adaptive scaler, their exponents (i64[256]).
  int64_t parameter_count = 0;
};

/// `forward` has one output; `input_dims` are those of its inputs. Its f32 constants that the loss
/// depends on are trained. Gradients go straight through the rounding of a QuantizeLinear and
/// DequantizeLinear. `loss`, if given, stands for config.loss. `precision` is not kAuto. Errors:
/// kUnsupported names an operator without a gradient.
Result<StepGraph> BuildStep(const Graph& forward, const TrainConfig& config,
                            TrainPrecision precision, const std::vector<Dims>& input_dims,
                            const Tensor& labels_like, StepPart part, const LossBuilder& loss = {});

/// `forward` for inference, with its constants replaced by the states of the same name, or by their
/// moving averages where there are any.
Graph WithStates(const Graph& forward, const StepGraph& step, const std::vector<Tensor>& states);

}  // namespace minim
