#include "train/step.h"

#include <algorithm>
#include <set>

#include "ops/builder.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr float kAdamBeta1 = 0.9f, kAdamBeta2 = 0.999f, kAdamEpsilon = 1e-8f;

// Parameters are float constants read at position 1 or later by an op with a gradient, except the
// running statistics of BatchNormalization. Only those of the first `own` values are the model's;
// later ones came with expansions.
std::vector<ValueId> TrainableConstants(const Graph& graph, size_t own) {
  std::vector<ValueId> trainable;
  std::set<ValueId> seen;
  for (const Node& node : graph.nodes) {
    const OpDef* def = FindOp(node);
    if (def == nullptr || !def->gradient) continue;
    const size_t end = node.Is("BatchNormalization") ? 3 : node.inputs.size();
    for (size_t i = 1; i < std::min(end, node.inputs.size()); ++i) {
      const Tensor* tensor = graph.constant(node.input(i));
      const bool parameter = tensor != nullptr && node.input(i) < static_cast<ValueId>(own) &&
                             tensor->dtype() == DType::f32 && tensor->dims().rank() > 0 &&
                             seen.insert(node.input(i)).second;
      if (parameter) trainable.push_back(node.input(i));
    }
  }
  return trainable;
}

class StepBuilder {
 public:
  StepBuilder(const TrainConfig& config, StepGraph& step)
      : config_(config), step_(step), graph_(step.graph), builder_(step.graph) {}

  Status Run(const Dims& sample_dims, const Tensor& labels_like) {
    const size_t own = graph_.values.size();
    MINIM_TRY(WriteOut(sample_dims));
    const std::vector<ValueId> trainable = TrainableConstants(graph_, own);
    if (trainable.empty()) return InvalidArgument("the model has no trainable parameter");
    MINIM_TRY(TrainingForms());
    std::vector<Tensor> values;
    for (ValueId id : trainable) {
      values.push_back(graph_.constants.at(id));
      graph_.constants.erase(id);
      step_.parameter_count += values.back().size();
    }
    // Constants that became states keep their types; only the input is rebound.
    MINIM_TRY(graph_, Specialize(graph_, {sample_dims}));
    const ValueId predictions = graph_.outputs[0];
    MINIM_TRY(const ValueId loss, Loss(predictions, labels_like));
    MINIM_TRY(const std::vector<ValueId> grads, Autodiff(graph_, loss, trainable));
    graph_.outputs = {loss, predictions};
    return Update(trainable, values, grads);
  }

 private:
  // Ops that are given by expansion have no gradient of their own; the shapes decide their form.
  Status WriteOut(const Dims& sample_dims) {
    const bool needed = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [](const Node& node) {
      const OpDef* def = FindOp(node);
      return def != nullptr && def->expand && !def->gradient;
    });
    if (!needed) return {};
    MINIM_TRY(graph_, Specialize(graph_, {sample_dims}));
    const PassContext context{.has_kernel = [](std::string_view) { return false; }};
    return ExpandFunctions(graph_, context).status();
  }

  // BatchNormalization normalises by the batch and updates its running statistics.
  Status TrainingForms() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!graph_.nodes[i].Is("BatchNormalization")) continue;
      graph_.nodes[i].attributes.Set("training_mode", int64_t{1});
      for (int k = 3; k <= 4; ++k) {
        const ValueId id = graph_.nodes[i].input(k);
        const Tensor* tensor = graph_.constant(id);
        if (tensor == nullptr)
          return Unsupported("node '{}': running statistics must be constants",
                             graph_.nodes[i].name);
        const ValueId next = graph_.AddValue("", graph_.type(id));
        graph_.nodes[i].outputs.resize(std::max<size_t>(graph_.nodes[i].outputs.size(), k - 1),
                                       kNoValue);
        graph_.nodes[i].outputs[k - 2] = next;
        running_.push_back({graph_.value(id).name, id, next});
        running_values_.push_back(*tensor);
        graph_.constants.erase(id);
      }
    }
    for (size_t i = 0; i < running_.size(); ++i) AddState(running_[i], running_values_[i]);
    return {};
  }

  void AddState(State state, Tensor value) {
    graph_.states.push_back(std::move(state));
    step_.initial_states.push_back(std::move(value));
  }

  Result<ValueId> Loss(ValueId predictions, const Tensor& labels_like) {
    const ValueId labels =
        graph_.AddInput("labels", {labels_like.dtype(), ToShape(labels_like.dims())});
    rate_ = graph_.AddInput("learning_rate", {DType::f32, Shape()});
    ValueId loss = kNoValue;
    if (config_.loss == LossKind::kCrossEntropy) {
      if (labels_like.dtype() != DType::i64)
        return InvalidArgument("cross_entropy needs integer class labels, found {}",
                               Name(labels_like.dtype()));
      loss = builder_.EmitMany("SoftmaxCrossEntropyLoss", {predictions, labels}, 2,
                               {{"reduction", std::string("mean")}})[0];
    } else {
      const ValueId target =
          builder_.Reshape(builder_.Cast(labels, DType::f32), builder_.type(predictions).dims());
      const ValueId error = builder_.Sub(predictions, target);
      loss = builder_.Emit("ReduceMean", {builder_.Mul(error, error)}, {{"keepdims", int64_t{0}}});
    }
    MINIM_TRY(builder_.status());
    return loss;
  }

  Status Update(const std::vector<ValueId>& trainable, const std::vector<Tensor>& values,
                const std::vector<ValueId>& grads) {
    const ValueId step = graph_.AddValue("step", {DType::i64, Shape()});
    const ValueId next_step = builder_.Add(step, builder_.Scalar(1, DType::i64));
    AddState({"step", step, next_step}, Tensor::Scalar<int64_t>(0));
    for (size_t i = 0; i < trainable.size(); ++i) {
      const std::string name = graph_.value(trainable[i]).name;
      if (config_.optimizer == OptimizerKind::kAdam)
        Adam(trainable[i], name, values[i], grads[i], next_step);
      else
        Sgd(trainable[i], name, values[i], grads[i], next_step);
    }
    MINIM_TRY(builder_.status());
    return Verify(graph_);
  }

  ValueId Moment(const std::string& name, const Tensor& like) {
    return graph_.AddValue(name, {DType::f32, ToShape(like.dims())});
  }

  void Adam(ValueId x, const std::string& name, const Tensor& value, ValueId grad, ValueId count) {
    const ValueId v = Moment(name + ".adam_v", value), h = Moment(name + ".adam_h", value);
    const std::vector<ValueId> out =
        builder_.EmitMany("Adam", {rate_, count, x, grad, v, h}, 3,
                          {{"alpha", kAdamBeta1},
                           {"beta", kAdamBeta2},
                           {"epsilon", kAdamEpsilon},
                           {"norm_coefficient", static_cast<float>(config_.weight_decay)}},
                          kTrainingDomain);
    AddState({name, x, out[0]}, value);
    AddState({name + ".adam_v", v, out[1]}, Tensor(DType::f32, value.dims()));
    AddState({name + ".adam_h", h, out[2]}, Tensor(DType::f32, value.dims()));
  }

  void Sgd(ValueId x, const std::string& name, const Tensor& value, ValueId grad, ValueId count) {
    const ValueId v = Moment(name + ".momentum", value);
    const std::vector<ValueId> out =
        builder_.EmitMany("Momentum", {rate_, count, x, grad, v}, 2,
                          {{"alpha", static_cast<float>(config_.momentum)},
                           {"beta", 1.0f},
                           {"mode", std::string("standard")},
                           {"norm_coefficient", static_cast<float>(config_.weight_decay)}},
                          kTrainingDomain);
    AddState({name, x, out[0]}, value);
    AddState({name + ".momentum", v, out[1]}, Tensor(DType::f32, value.dims()));
  }

  const TrainConfig& config_;
  StepGraph& step_;
  Graph& graph_;
  Builder builder_;
  ValueId rate_ = kNoValue;
  std::vector<State> running_;
  std::vector<Tensor> running_values_;
};

}  // namespace

Result<StepGraph> BuildStep(const Graph& forward, const TrainConfig& config,
                            const Dims& sample_dims, const Tensor& labels_like) {
  if (forward.inputs.size() != 1 || forward.outputs.size() != 1)
    return InvalidArgument("training needs a model with one input and one output, found {} and {}",
                           forward.inputs.size(), forward.outputs.size());
  StepGraph step;
  step.graph = forward;
  step.graph.name = "train_step";
  MINIM_TRY(StepBuilder(config, step).Run(sample_dims, labels_like));
  return step;
}

Graph WithStates(const Graph& forward, const StepGraph& step, const std::vector<Tensor>& states) {
  Graph result = forward;
  for (size_t i = 0; i < step.graph.states.size(); ++i) {
    const auto it = result.constants.find(result.FindValue(step.graph.states[i].name));
    if (it != result.constants.end()) it->second = states[i].Clone();
  }
  return result;
}

}  // namespace minim
