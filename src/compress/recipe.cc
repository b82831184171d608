#include "compress/recipe.h"

#include "compress/prune.h"
#include "compress/quantization_aware.h"
#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {
namespace {

Node* ProducerOf(Graph& graph, ValueId id) {
  for (Node& node : graph.nodes)
    for (ValueId output : node.outputs)
      if (output == id) return &node;
  return nullptr;
}

template <typename T>
Result<Trained> Finished(const Trainee& model, T&& tuned) {
  MINIM_TRY(Graph whole, model.Whole(std::move(tuned.graph)));
  return Trained{std::move(whole), tuned.first_loss, tuned.last_loss, tuned.timed_out};
}

bool IsLink(const Node& node) { return node.Is("Softmax") || node.Is("Sigmoid"); }

}  // namespace

Result<Trainee> Trainee::Of(const Graph& model, const Tensor& labels) {
  Trainee trainee;
  trainee.logits_ = model;
  if (model.outputs.size() != 1)
    return Unsupported("training needs a model with one output, found {}", model.outputs.size());
  const ValueId output = model.outputs[0];
  trainee.output_ = model.value(output).name;
  const Node* last = ProducerOf(trainee.logits_, output);
  const bool classes = labels.dtype() == DType::i64;
  if (classes && last != nullptr && IsLink(*last)) {
    trainee.last_ = *last;
    MINIM_TRY(trainee.logits_, trainee.LogitsOf(model));
  }
  const TensorType& type = model.type(output);
  const bool single = type.ranked() && (type.rank() == 1 || type.shape->back() == 1);
  trainee.loss_ = !classes ? LossKind::kMeanSquaredError
                  : single ? LossKind::kBinaryCrossEntropy
                           : LossKind::kCrossEntropy;
  return trainee;
}

Result<Graph> Trainee::LogitsOf(const Graph& other) const {
  Graph graph = other;
  if (!last_) return graph;
  const Node* last = ProducerOf(graph, graph.outputs[0]);
  if (last == nullptr || last->op != last_->op)
    return Unsupported("the last op of the model, {}, is not that of its other form", last_->op);
  graph.outputs[0] = last->input(0);
  MINIM_TRY(EliminateDeadCode(graph, {}).status());
  return graph;
}

Result<Graph> Trainee::Whole(Graph tuned) const {
  if (!last_) return tuned;
  Builder builder(tuned);
  const ValueId made = builder.Emit(last_->op, {tuned.outputs[0]}, last_->attributes);
  MINIM_TRY(builder.status());
  const ValueId old = tuned.FindValue(output_);
  if (old == kNoValue) {
    tuned.outputs[0] = made;
    return tuned;
  }
  tuned.value(old).type = tuned.type(made);
  tuned.nodes.back().outputs[0] = old;  // so that the output keeps its name
  tuned.outputs[0] = old;
  return tuned;
}

std::string Trained::Note() const {
  return fmt::format("loss {:.4g} -> {:.4g}{}", first_loss, last_loss,
                     timed_out ? ", its training cut short by the time budget" : "");
}

Result<Trained> PruneStep(const Trainee& model, const Dataset& train, PruneKind kind,
                          double fraction, const FineTuneOptions& tune) {
  ArraySource source(train);
  const GradualOptions options{.fraction = fraction, .tune = tune};
  const auto prune = kind == PruneKind::kChannels ? PruneChannelsGradually : PruneMagnitude;
  MINIM_TRY(Pruned pruned, prune(model.logits(), source, options, {}));
  return Finished(model, std::move(pruned));
}

Result<Trained> DistillStep(const Trainee& teacher, const std::optional<Graph>& student,
                            const Dataset& train, const StudentTemplate& small,
                            const FineTuneOptions& tune) {
  Graph learner;
  if (student) {
    MINIM_TRY(learner, teacher.LogitsOf(*student));
  } else {
    MINIM_TRY(learner, MakeStudent(teacher.logits(), small));
  }
  ArraySource source(train);
  MINIM_TRY(FineTuned tuned, Distill(teacher.logits(), learner, source, {.tune = tune}));
  return Finished(teacher, std::move(tuned));
}

Result<Trained> QuantizationAwareStep(const Trainee& model, const Graph& prepared,
                                      const Graph& quantized, const Dataset& train,
                                      const FineTuneOptions& tune) {
  MINIM_TRY(const Graph floats, model.LogitsOf(prepared));
  MINIM_TRY(const Graph integers, model.LogitsOf(quantized));
  ArraySource source(train);
  MINIM_TRY(FineTuned tuned, FineTuneQuantized(floats, integers, source, tune));
  return Finished(model, std::move(tuned));
}

}  // namespace minim
