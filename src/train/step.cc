#include "train/step.h"

#include <algorithm>
#include <set>

#include "ops/infer.h"
#include "passes/passes.h"
#include "train/straight_through.h"

namespace minim {
namespace {

// How many of a node's inputs may be parameters: neither running statistics of BatchNormalization
// nor scales and zero points of roundings.
size_t TrainableInputs(const Node& node) {
  if (node.Is("BatchNormalization")) return 3;
  return node.Is("QuantizeLinear") || node.Is("DequantizeLinear") ? 1 : node.inputs.size();
}

// What may be trained: float constants that nodes read as parameters, except literals.
std::vector<ValueId> Candidates(const Graph& graph) {
  std::set<ValueId> read;
  for (const Node& node : graph.nodes) {
    const size_t end = std::min(TrainableInputs(node), node.inputs.size());
    read.insert(node.inputs.begin(), node.inputs.begin() + static_cast<ptrdiff_t>(end));
  }
  std::vector<ValueId> candidates;
  for (const auto& [id, tensor] : graph.constants)
    if (tensor.dtype() == DType::f32 && tensor.dims().rank() > 0 && read.contains(id) &&
        !graph.literals.contains(id))
      candidates.push_back(id);
  return candidates;
}

DType DTypeOf(TrainPrecision precision) {
  return precision == TrainPrecision::kBf16 ? DType::bf16 : DType::f16;
}

class StepBuilder {
 public:
  StepBuilder(const TrainConfig& config, const LossBuilder& loss, StepPart part, StepGraph& step)
      : config_(config),
        loss_(loss),
        part_(part),
        step_(step),
        graph_(step.graph),
        builder_(step.graph) {}

  Status Run(TrainPrecision precision, const std::vector<Dims>& input_dims,
             const Tensor& labels_like) {
    precision_ = precision;
    const std::vector<ValueId> candidates = Candidates(graph_);
    MINIM_TRY(graph_, Specialize(graph_, input_dims));
    MINIM_TRY(FoldShapes(candidates));
    AddInputs(labels_like);
    MINIM_TRY(TrainingForms());
    MINIM_TRY(Simplify(graph_, {}).status());
    if (precision != TrainPrecision::kFp32) {
      MINIM_TRY(Autocast(graph_, {.precision = DTypeOf(precision),
                                  .keep_low = true,
                                  .lower = config_.lower_ops,
                                  .fp32 = config_.fp32_ops}));
    }
    MINIM_TRY(WriteOut());
    MINIM_TRY(PassThroughRounding(graph_, candidates));
    MINIM_TRY(const ValueId loss, Loss(graph_.outputs[0], labels_like));
    const ValueId scaled = builder_.Mul(loss, graph_.inputs[kLossScale]);
    MINIM_TRY(builder_.status());
    MINIM_TRY(const std::vector<ValueId> gradients, Autodiff(graph_, scaled, candidates));
    MINIM_TRY(TakeParameters(candidates, gradients));
    graph_.outputs = {loss};
    if (part_ == StepPart::kAccumulate) return Accumulate();
    return Update();
  }

 private:
  // Exporters compute shapes by nodes; what depends on a parameter stays.
  Status FoldShapes(const std::vector<ValueId>& candidates) {
    PassContext context;
    context.variables = {candidates.begin(), candidates.end()};
    MINIM_TRY(FoldConstants(graph_, context).status());
    MINIM_TRY(const bool inlined, InlineBranches(graph_, context));
    return inlined ? FoldConstants(graph_, context).status() : Status();
  }

  void AddInputs(const Tensor& labels_like) {
    const std::vector<ValueId> others(graph_.inputs.begin() + 1, graph_.inputs.end());
    graph_.inputs.resize(1);
    graph_.AddInput("labels", {labels_like.dtype(), ToShape(labels_like.dims())});
    graph_.AddInput("learning_rate", {DType::f32, Shape()});
    graph_.AddInput("loss_scale", {DType::f32, Shape()});
    graph_.AddInput("inverse_scale", {DType::f32, Shape()});
    graph_.AddInput("draw", {DType::i64, Shape()});
    graph_.inputs.insert(graph_.inputs.end(), others.begin(), others.end());
  }

  // Ops that are given by expansion have no gradient of their own; the shapes decide their form.
  Status WriteOut() {
    const bool needed = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [](const Node& node) {
      const OpDef* def = FindOp(node);
      return def != nullptr && def->expand && !def->gradient;
    });
    if (!needed) return {};
    const PassContext context{.has_kernel = [](std::string_view) { return false; }};
    return ExpandFunctions(graph_, context).status();
  }

  // BatchNormalization normalises by the batch and updates its running statistics; Dropout draws.
  Status TrainingForms() {
    uint64_t dropouts = 0;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (graph_.nodes[i].Is("BatchNormalization")) MINIM_TRY(TrainNorm(i));
      if (graph_.nodes[i].Is("Dropout")) TrainDropout(i, dropouts++);
    }
    return {};
  }

  Status TrainNorm(size_t i) {
    graph_.nodes[i].attributes.Set("training_mode", int64_t{1});
    for (int k = 3; k <= 4; ++k) {
      const ValueId id = graph_.nodes[i].input(k);
      const Tensor* tensor = graph_.constant(id);
      if (tensor == nullptr)
        return Unsupported("node '{}': running statistics must be constants", graph_.nodes[i].name);
      const ValueId next = graph_.AddValue("", graph_.type(id));
      graph_.nodes[i].outputs.resize(std::max<size_t>(graph_.nodes[i].outputs.size(), k - 1),
                                     kNoValue);
      graph_.nodes[i].outputs[k - 2] = next;
      step_.AddState({graph_.value(id).name, id, next}, *tensor, StateKind::kStatistic);
      graph_.constants.erase(id);
    }
    return {};
  }

  void TrainDropout(size_t i, uint64_t index) {
    const Tensor* ratio = graph_.constant(graph_.nodes[i].input(1));
    if (ratio != nullptr && ratio->dtype() == DType::f32 && ratio->as<float>()[0] == 0) {
      graph_.nodes[i].inputs.resize(1);  // never drops
      return;
    }
    const ValueId training = builder_.Constant(Tensor::Scalar<bool>(true));
    Node& node = graph_.nodes[i];
    node.inputs.resize(4, kNoValue);
    node.inputs[2] = training;
    node.inputs[3] = graph_.inputs[kDraw];
    node.attributes.Set("seed", static_cast<int64_t>(config_.seed * 1000003 + index));
  }

  Result<ValueId> Loss(ValueId predictions, const Tensor& labels_like) {
    const ValueId labels = graph_.inputs[kLabels];
    if (loss_) return loss_(builder_, predictions, labels);
    if (config_.loss == LossKind::kCrossEntropy) {
      if (labels_like.dtype() != DType::i64)
        return InvalidArgument("cross_entropy needs integer class labels, found {}",
                               Name(labels_like.dtype()));
      std::vector<ValueId> inputs = {predictions, labels};
      if (!config_.class_weights.empty()) inputs.push_back(ClassWeights());
      return builder_.EmitMany("SoftmaxCrossEntropyLoss", inputs, 2,
                               {{"reduction", std::string("mean")}})[0];
    }
    if (labels_like.size() != builder_.DimsOf(predictions).Elements())
      return InvalidArgument("labels of shape {} do not fit predictions of shape {}",
                             labels_like.dims().ToString(),
                             builder_.DimsOf(predictions).ToString());
    const ValueId target =
        builder_.Reshape(builder_.Cast(labels, DType::f32), builder_.DimsOf(predictions));
    ValueId each = kNoValue;
    if (config_.loss == LossKind::kMeanSquaredError) {
      const ValueId error = builder_.Sub(predictions, target);
      each = builder_.Mul(error, error);
    } else {  // softplus(x) - x * y: the logarithms of sigmoid(x) and 1 - sigmoid(x)
      each =
          builder_.Sub(builder_.Emit("Softplus", {predictions}), builder_.Mul(predictions, target));
    }
    const Attributes scalar = {{"keepdims", int64_t{0}}};
    const std::vector<double>& weights = config_.class_weights;
    if (weights.empty()) return builder_.Emit("ReduceMean", {each}, scalar);
    const ValueId weight = builder_.Add(builder_.Mul(target, weights[1] - weights[0]), weights[0]);
    return builder_.Div(builder_.Emit("ReduceSum", {builder_.Mul(each, weight)}, scalar),
                        builder_.Emit("ReduceSum", {weight}, scalar));
  }

  ValueId ClassWeights() {
    Tensor weights(DType::f32, {static_cast<int64_t>(config_.class_weights.size())});
    std::copy(config_.class_weights.begin(), config_.class_weights.end(),
              weights.as<float>().begin());
    return builder_.Constant(std::move(weights));
  }

  // Constants with a gradient become states.
  Status TakeParameters(const std::vector<ValueId>& candidates,
                        const std::vector<ValueId>& gradients) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (gradients[i] == kNoValue) continue;
      const ValueId id = candidates[i];
      parameters_.names.push_back(graph_.value(id).name);
      parameters_.reads.push_back(id);
      parameters_.values.push_back(graph_.constants.at(id));
      gradients_.push_back(gradients[i]);
      graph_.constants.erase(id);
      step_.parameter_count += parameters_.values.back().size();
    }
    if (gradients_.empty()) return InvalidArgument("the model has no trainable parameter");
    if (config_.accumulate == 1) return {};
    for (size_t i = 0; i < gradients_.size(); ++i) {
      accumulated_.push_back(
          graph_.AddValue(parameters_.names[i] + ".gradient", graph_.type(parameters_.reads[i])));
      gradients_[i] = builder_.Add(accumulated_[i], gradients_[i]);
    }
    return builder_.status();
  }

  Status Update() {
    const UpdateInputs inputs{graph_.inputs[kRate], graph_.inputs[kInverseScale]};
    const size_t statistics = graph_.states.size();
    MINIM_TRY(const UpdateResult result,
              AppendUpdate(step_, parameters_, gradients_, inputs, Spec()));
    for (size_t i = 0; i < statistics; ++i) graph_.states[i].commit_if = result.finite;
    for (size_t i = 0; i < accumulated_.size(); ++i) KeepGradient(i, accumulated_[i]);
    graph_.outputs.insert(graph_.outputs.end(), {result.finite, result.norm});
    if (result.exponents != kNoValue) graph_.outputs.push_back(result.exponents);
    MINIM_TRY(builder_.status());
    return Verify(graph_);
  }

  UpdateSpec Spec() const {
    return {
        config_.optimizer, config_.ema_decay,
        config_.scaler.enabled && config_.scaler.adaptive && precision_ == TrainPrecision::kFp16};
  }

  void KeepGradient(size_t i, ValueId next) {
    step_.AddState({parameters_.names[i] + ".gradient", accumulated_[i], next},
                   Tensor(DType::f32, parameters_.values[i].dims()), StateKind::kGradient);
  }

  // The states of kUpdate, of which only gradients and statistics change.
  Status Accumulate() {
    StepGraph whole = step_;
    const std::vector<ValueId> gradients = gradients_;
    const size_t statistics = graph_.states.size();
    MINIM_TRY(AppendUpdate(whole, parameters_, gradients,
                           {graph_.inputs[kRate], graph_.inputs[kInverseScale]}, Spec())
                  .status());
    for (size_t i = statistics; i < whole.graph.states.size(); ++i) {
      const State& state = whole.graph.states[i];
      const bool parameter = whole.kinds[i] == StateKind::kParameter;
      const ValueId read =
          parameter ? state.read : graph_.AddValue(state.name, whole.graph.type(state.read));
      step_.AddState({state.name, read, read}, whole.initial_states[i], whole.kinds[i]);
    }
    for (size_t i = 0; i < accumulated_.size(); ++i) KeepGradient(i, gradients_[i]);
    MINIM_TRY(builder_.status());
    return Verify(graph_);
  }

  const TrainConfig& config_;
  const LossBuilder& loss_;
  StepPart part_;
  TrainPrecision precision_ = TrainPrecision::kFp32;
  StepGraph& step_;
  Graph& graph_;
  Builder builder_;
  Parameters parameters_;
  std::vector<ValueId> gradients_;    // of the parameters, with those accumulated
  std::vector<ValueId> accumulated_;  // read values; empty without accumulation
};

// A file exported for training has its normalisations and dropouts set to it; what comes out of
// training is for inference.
void SetToInference(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (node.Is("BatchNormalization")) {
      node.attributes.Set("training_mode", int64_t{0});
      node.outputs.resize(1);
    }
    if (node.Is("Dropout")) node.inputs.resize(std::min<size_t>(node.inputs.size(), 2));
  }
}

}  // namespace

Result<StepGraph> BuildStep(const Graph& forward, const TrainConfig& config,
                            TrainPrecision precision, const std::vector<Dims>& input_dims,
                            const Tensor& labels_like, StepPart part, const LossBuilder& loss) {
  if (forward.inputs.empty() || forward.outputs.size() != 1)
    return InvalidArgument("training needs a model with inputs and one output, found {} and {}",
                           forward.inputs.size(), forward.outputs.size());
  if (forward.inputs.size() != input_dims.size())
    return InvalidArgument("the model has {} inputs, the training data gives {}",
                           forward.inputs.size(), input_dims.size());
  StepGraph step;
  step.graph = forward;
  step.graph.name = "train_step";
  MINIM_TRY(StepBuilder(config, loss, part, step).Run(precision, input_dims, labels_like));
  return step;
}

Graph WithStates(const Graph& forward, const StepGraph& step, const std::vector<Tensor>& states) {
  Graph result = forward;
  SetToInference(result);
  const auto put = [&](const std::string& name, const Tensor& value) {
    const auto it = result.constants.find(result.FindValue(name));
    if (it != result.constants.end()) it->second = value.Clone();
  };
  constexpr std::string_view kAverage = ".average";
  for (size_t i = 0; i < states.size(); ++i) {
    const std::string& name = step.graph.states[i].name;
    if (step.kinds[i] == StateKind::kParameter || step.kinds[i] == StateKind::kStatistic)
      put(name, states[i]);
  }
  for (size_t i = 0; i < states.size(); ++i) {
    const std::string& name = step.graph.states[i].name;
    if (step.kinds[i] == StateKind::kAverage)
      put(name.substr(0, name.size() - kAverage.size()), states[i]);
  }
  return result;
}

}  // namespace minim
