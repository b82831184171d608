#include "train/update.h"

#include <cmath>

#include "ops/builder.h"

namespace minim {
namespace {

// How an optimizer's node looks.
struct Form {
  std::string_view op;
  Attributes attributes;
  std::vector<std::string> states;  // suffixes of their names
};

Form FormOf(const OptimizerSpec& s, double weight_decay) {
  const auto number = [](double value) { return static_cast<float>(value); };
  Attributes a{{"weight_decay", number(weight_decay)}, {"clip_value", number(s.clip_value)}};
  const auto adam = [&](bool decoupled, double epsilon) {
    a.Set("beta1", number(s.beta1));
    a.Set("beta2", number(s.beta2));
    a.Set("epsilon", number(s.epsilon < 0 ? epsilon : s.epsilon));
    a.Set("decoupled", int64_t{decoupled});
  };
  const double usual_momentum = s.kind == OptimizerKind::kSgd ? 0.9 : 0.0;
  const double momentum = s.momentum < 0 ? usual_momentum : s.momentum;
  const std::vector<std::string> moments = {".exp_avg", ".exp_avg_sq"};
  switch (s.kind) {
    case OptimizerKind::kAdam: adam(false, 1e-8); return {"AdamUpdate", a, moments};
    case OptimizerKind::kAdamW: adam(true, 1e-8); return {"AdamUpdate", a, moments};
    case OptimizerKind::kLamb: adam(true, 1e-6); return {"LambUpdate", a, moments};
    case OptimizerKind::kAdagrad:
      a.Set("epsilon", number(s.epsilon < 0 ? 1e-10 : s.epsilon));
      a.Set("rate_decay", number(s.rate_decay));
      return {"AdagradUpdate", a, {".sum"}};
    case OptimizerKind::kRmsprop:
      a.Set("epsilon", number(s.epsilon < 0 ? 1e-8 : s.epsilon));
      a.Set("alpha", number(s.alpha));
      a.Set("momentum", number(momentum));
      if (momentum == 0) return {"RmspropUpdate", a, {".square_avg"}};
      return {"RmspropUpdate", a, {".square_avg", ".momentum_buffer"}};
    case OptimizerKind::kSgd: break;
  }
  a.Set("momentum", number(momentum));
  a.Set("nesterov", int64_t{s.nesterov});
  if (momentum == 0) return {"SgdUpdate", a, {}};
  return {"SgdUpdate", a, {".momentum_buffer"}};
}

class UpdateBuilder {
 public:
  UpdateBuilder(StatefulGraph& to, const Parameters& parameters, const UpdateInputs& inputs,
                const OptimizerSpec& spec)
      : to_(to), builder_(to.graph), parameters_(parameters), inputs_(inputs), spec_(spec) {}

  Result<UpdateResult> Run(const std::vector<ValueId>& gradients, const UpdateSpec& update) {
    gradients_ = &gradients;
    Check();
    if (update.exponents)
      result_.exponents = builder_.EmitMany("ExponentHistogram", gradients, 1, {}, kMinimDomain)[0];
    const ValueId count = to_.graph.AddValue("optimizer.step", {DType::i64, Shape()});
    count_ = builder_.Add(count, builder_.Scalar(1, DType::i64));
    AddState("optimizer.step", count, count_, Tensor::Scalar<int64_t>(0), StateKind::kCount);
    next_.resize(parameters_.names.size());
    for (size_t group = 0; group <= spec_.groups.size(); ++group) MINIM_TRY(UpdateGroup(group));
    if (update.ema_decay > 0) Average(update.ema_decay);
    MINIM_TRY(builder_.status());
    return result_;
  }

 private:
  void Check() {
    std::vector<ValueId> inputs = {inputs_.inverse_scale};
    inputs.insert(inputs.end(), gradients_->begin(), gradients_->end());
    const std::vector<ValueId> out =
        builder_.EmitMany("GradientNorm", inputs, 3,
                          {{"max_norm", static_cast<float>(spec_.clip_norm)}}, kMinimDomain);
    result_.finite = out[0];
    result_.norm = out[1];
    coefficient_ = out[2];
  }

  void AddState(std::string name, ValueId read, ValueId next, Tensor value, StateKind kind) {
    to_.AddState({std::move(name), read, next, result_.finite}, std::move(value), kind);
  }

  size_t GroupOf(const std::string& name) const {
    for (size_t i = 0; i < spec_.groups.size(); ++i)
      if (name.find(spec_.groups[i].match) != std::string::npos) return i;
    return spec_.groups.size();  // those that no group matches
  }

  Status UpdateGroup(size_t group) {
    std::vector<size_t> members;
    for (size_t i = 0; i < parameters_.names.size(); ++i)
      if (GroupOf(parameters_.names[i]) == group) members.push_back(i);
    const ParameterGroup all;
    const bool own = group < spec_.groups.size();
    const ParameterGroup& rule = own ? spec_.groups[group] : all;
    if (members.empty() && own)
      return InvalidArgument(
          "optimizer: the group '{}' matches no parameter that a group before it left; the "
          "parameters are {}",
          rule.match, fmt::join(parameters_.names, ", "));
    if (members.empty()) return {};
    const Form form = FormOf(spec_, rule.weight_decay < 0 ? spec_.weight_decay : rule.weight_decay);
    const double factor = rule.rate_factor;
    const ValueId rate = factor == 1 ? inputs_.rate : builder_.Mul(inputs_.rate, factor);
    std::vector<ValueId> inputs = {rate, count_, inputs_.inverse_scale, coefficient_};
    for (size_t i : members) inputs.push_back(parameters_.reads[i]);
    for (size_t i : members) inputs.push_back((*gradients_)[i]);
    std::vector<State> states;
    for (const std::string& suffix : form.states) {
      for (size_t i : members) {
        const std::string name = parameters_.names[i] + suffix;
        inputs.push_back(
            to_.graph.AddValue(name, {DType::f32, ToShape(parameters_.values[i].dims())}));
        states.push_back({name, inputs.back()});
      }
    }
    const int outputs = static_cast<int>(members.size() * (1 + form.states.size()));
    const std::vector<ValueId> out =
        builder_.EmitMany(form.op, inputs, outputs, form.attributes, kMinimDomain);
    for (size_t k = 0; k < members.size(); ++k) {
      const size_t i = members[k];
      next_[i] = out[k];
      AddState(parameters_.names[i], parameters_.reads[i], out[k], parameters_.values[i],
               StateKind::kParameter);
    }
    for (size_t k = 0; k < states.size(); ++k)
      AddState(states[k].name, states[k].read, out[members.size() + k],
               Tensor(DType::f32, parameters_.values[members[k % members.size()]].dims()),
               StateKind::kMoment);
    return {};
  }

  // A step of gradient descent on |average - parameter|^2 / 2 with the rate 1 - decay.
  void Average(double decay) {
    std::vector<ValueId> inputs = {builder_.Scalar(1 - decay, DType::f32),
                                   builder_.Scalar(1, DType::i64), builder_.Scalar(-1, DType::f32),
                                   builder_.Scalar(1, DType::f32)};
    std::vector<ValueId> reads;
    for (size_t i = 0; i < next_.size(); ++i)
      reads.push_back(to_.graph.AddValue(parameters_.names[i] + ".average",
                                         to_.graph.type(parameters_.reads[i])));
    inputs.insert(inputs.end(), reads.begin(), reads.end());
    inputs.insert(inputs.end(), next_.begin(), next_.end());
    const std::vector<ValueId> out =
        builder_.EmitMany("SgdUpdate", inputs, static_cast<int>(reads.size()),
                          {{"weight_decay", 1.0f}}, kMinimDomain);
    for (size_t i = 0; i < reads.size(); ++i)
      AddState(parameters_.names[i] + ".average", reads[i], out[i], parameters_.values[i],
               StateKind::kAverage);
  }

  StatefulGraph& to_;
  Builder builder_;
  const Parameters& parameters_;
  const UpdateInputs& inputs_;
  const OptimizerSpec& spec_;
  const std::vector<ValueId>* gradients_ = nullptr;
  UpdateResult result_;
  ValueId coefficient_ = kNoValue, count_ = kNoValue;
  std::vector<ValueId> next_;  // of each parameter
};

Status Expect(bool good, std::string_view field, double found, std::string_view expected) {
  if (good) return {};
  return InvalidArgument("optimizer: {} is {}, expected {}", field, found, expected);
}

}  // namespace

void StatefulGraph::AddState(State state, Tensor value, StateKind kind) {
  graph.states.push_back(std::move(state));
  initial_states.push_back(std::move(value));
  kinds.push_back(kind);
}

Result<UpdateResult> AppendUpdate(StatefulGraph& to, const Parameters& parameters,
                                  const std::vector<ValueId>& gradients, const UpdateInputs& inputs,
                                  const UpdateSpec& spec) {
  return UpdateBuilder(to, parameters, inputs, spec.optimizer).Run(gradients, spec);
}

Status CheckOptimizer(const OptimizerSpec& s) {
  const auto unit = [](double x) { return x >= 0 && x < 1; };
  const auto positive = [](double x) { return x >= 0 && std::isfinite(x); };
  MINIM_TRY(Expect(s.learning_rate > 0 && std::isfinite(s.learning_rate), "learning_rate",
                   s.learning_rate, "a positive number"));
  MINIM_TRY(Expect(s.momentum < 1, "momentum", s.momentum, "at least 0 and below 1"));
  MINIM_TRY(Expect(unit(s.beta1), "beta1", s.beta1, "at least 0 and below 1"));
  MINIM_TRY(Expect(unit(s.beta2), "beta2", s.beta2, "at least 0 and below 1"));
  MINIM_TRY(Expect(unit(s.alpha), "alpha", s.alpha, "at least 0 and below 1"));
  MINIM_TRY(Expect(positive(s.weight_decay), "weight_decay", s.weight_decay, "at least 0"));
  MINIM_TRY(Expect(positive(s.rate_decay), "rate_decay", s.rate_decay, "at least 0"));
  MINIM_TRY(Expect(positive(s.clip_norm), "clip_norm", s.clip_norm, "at least 0"));
  MINIM_TRY(Expect(positive(s.clip_value), "clip_value", s.clip_value, "at least 0"));
  for (const ParameterGroup& group : s.groups) {
    MINIM_TRY(Expect(std::isfinite(group.weight_decay), "a group's weight_decay",
                     group.weight_decay, "a finite number"));
    MINIM_TRY(Expect(positive(group.rate_factor), "a group's rate_factor", group.rate_factor,
                     "at least 0"));
  }
  return {};
}

}  // namespace minim
