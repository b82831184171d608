#include "minim/mixed_precision.h"

#include <cstring>
#include <set>

#include "core/dtype.h"
#include "exec/cpu/executable.h"
#include "passes/passes.h"
#include "train/checkpoint.h"

namespace minim {
namespace {

DType WorkingType(TrainPrecision precision) {
  if (precision == TrainPrecision::kFp16) return DType::f16;
  return precision == TrainPrecision::kBf16 ? DType::bf16 : DType::f32;
}

Status CheckParameters(const std::vector<MixedPrecisionTrainer::Parameter>& parameters) {
  std::set<std::string> names;
  for (const auto& parameter : parameters) {
    if (!parameter.value.defined() || parameter.value.dtype() != DType::f32)
      return InvalidArgument("parameter '{}': expected an f32 tensor, the master copy",
                             parameter.name);
    if (!names.insert(parameter.name).second)
      return InvalidArgument("two parameters are named '{}'", parameter.name);
  }
  if (parameters.empty()) return InvalidArgument("there are no parameters");
  return {};
}

class MixedPrecisionTrainerImpl final : public MixedPrecisionTrainer {
 public:
  MixedPrecisionTrainerImpl(const MixedPrecisionOptions& options, GradScaler scaler)
      : options_(options), scaler_(std::move(scaler)) {}

  Status Build(const std::vector<Parameter>& parameters) {
    Graph& graph = step_.graph;
    graph.name = "update";
    Parameters all;
    std::vector<ValueId> gradients;
    for (const Parameter& parameter : parameters) {
      const TensorType type{DType::f32, ToShape(parameter.value.dims())};
      all.names.push_back(parameter.name);
      all.reads.push_back(graph.AddValue(parameter.name, type));
      all.values.push_back(parameter.value);
      gradients.push_back(graph.AddInput(parameter.name + ".gradient", type));
      gradients_.emplace_back(DType::f32, parameter.value.dims());
    }
    const UpdateInputs inputs{graph.AddInput("learning_rate", {DType::f32, Shape()}),
                              graph.AddInput("inverse_scale", {DType::f32, Shape()})};
    MINIM_TRY(const UpdateResult result,
              AppendUpdate(step_, all, gradients, inputs,
                           {options_.optimizer, options_.ema_decay, scaler_.adaptive()}));
    graph.outputs = {result.finite, result.norm};
    if (scaler_.adaptive()) graph.outputs.push_back(result.exponents);
    MINIM_TRY(Verify(graph));
    for (const Tensor& state : step_.initial_states) states_.push_back(state.Clone());
    MINIM_TRY(FindStates(parameters));
    PassContext context;
    context.has_kernel = HasCpuKernel;
    Graph compiled = graph;
    MINIM_TRY(runtime_, Runtime::Default());
    MINIM_TRY(RunPipeline(kTrainPipeline, compiled, context));
    MINIM_TRY(executable_, Executable::Build(std::move(compiled), runtime_, options_.threads));
    executable_->Ready(context_);
    return {};
  }

  Result<MixedPrecisionStep> Step(const GradientFunction& gradients, double rate) override {
    MixedPrecisionStep outcome{.scale = scaler_.scale()};
    for (Tensor& gradient : gradients_) std::memset(gradient.data(), 0, gradient.bytes());
    MINIM_TRY(gradients(working_, scaler_.scale(), gradients_));
    for (size_t i = 0; i < gradients_.size(); ++i)
      if (gradients_[i].dtype() != DType::f32 || gradients_[i].dims() != masters_[i].dims())
        return InvalidArgument("gradient {} became {}{}, expected f32{}", i,
                               Name(gradients_[i].dtype()), gradients_[i].dims().ToString(),
                               masters_[i].dims().ToString());
    const auto step_rate = static_cast<float>(rate);
    const float inverse = scaler_.inverse_scale();
    float norm = 0;
    std::vector<const void*> inputs;
    for (const Tensor& gradient : gradients_) inputs.push_back(gradient.data());
    inputs.insert(inputs.end(), {&step_rate, &inverse});
    ExponentHistogram exponents;
    void* outputs[] = {&outcome.stepped, &norm, exponents.counts.data()};
    std::vector<void*> states;
    for (Tensor& state : states_) states.push_back(state.data());
    MINIM_TRY(executable_->Run(context_, {.inputs = inputs,
                                          .outputs = {outputs, executable_->graph().outputs.size()},
                                          .states = states,
                                          .threads = {&runtime_->pool(), options_.threads}}));
    outcome.norm = norm;
    MINIM_TRY(scaler_.adaptive() ? scaler_.Record(0, exponents, outcome.stepped)
                                 : scaler_.Record(0, outcome.stepped));
    MINIM_TRY(scaler_.Update());
    if (outcome.stepped) CopyMasters();
    return outcome;
  }

  std::span<const Tensor> working() const override { return working_; }
  std::span<const Tensor> masters() const override { return masters_; }
  std::span<const Tensor> averages() const override { return averages_; }
  const GradScaler& scaler() const override { return scaler_; }

  size_t bytes() const override {
    size_t sum = executable_->plan().arena_bytes;
    for (const auto* tensors : {&states_, &gradients_}) {
      for (const Tensor& tensor : *tensors) sum += tensor.bytes();
    }
    if (WorkingType(options_.precision) == DType::f32) return sum;
    for (const Tensor& tensor : working_) sum += tensor.bytes();
    return sum;
  }

  Status Save(const std::string& path) const override {
    return WriteCheckpoint(path, step_, states_, scaler_.Save());
  }

  Status Restore(const std::string& path) override {
    std::vector<Tensor> states = states_;
    MINIM_TRY(const SavedValues values, ReadCheckpoint(path, step_, states));
    MINIM_TRY(Annotate(scaler_.Restore(values), path));
    for (size_t i = 0; i < states_.size(); ++i)
      std::memcpy(states_[i].data(), states[i].data(), states[i].bytes());
    CopyMasters();
    return {};
  }

 private:
  // The masters and averages among the states, which share their memory.
  Status FindStates(const std::vector<Parameter>& parameters) {
    const auto find = [&](const std::string& name, StateKind kind) -> const Tensor* {
      for (size_t i = 0; i < states_.size(); ++i)
        if (step_.kinds[i] == kind && step_.graph.states[i].name == name) return &states_[i];
      return nullptr;
    };
    for (const Parameter& parameter : parameters) {
      const Tensor* master = find(parameter.name, StateKind::kParameter);
      MINIM_CHECK(master != nullptr);
      masters_.push_back(*master);
      const Tensor* average = find(parameter.name + ".average", StateKind::kAverage);
      if (average != nullptr) averages_.push_back(*average);
      const DType dtype = WorkingType(options_.precision);
      working_.push_back(dtype == DType::f32 ? *master : Tensor(dtype, master->dims()));
    }
    CopyMasters();
    return {};
  }

  void CopyMasters() {
    if (WorkingType(options_.precision) == DType::f32) return;
    for (size_t i = 0; i < working_.size(); ++i)
      ConvertElements(masters_[i].view(), working_[i].view());
  }

  MixedPrecisionOptions options_;
  GradScaler scaler_;
  StatefulGraph step_;
  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Executable> executable_;
  ExecContext context_;
  std::vector<Tensor> states_, gradients_, masters_, averages_, working_;
};

}  // namespace

Result<std::unique_ptr<MixedPrecisionTrainer>> MixedPrecisionTrainer::Make(
    const std::vector<Parameter>& parameters, const MixedPrecisionOptions& options) {
  if (options.precision == TrainPrecision::kAuto)
    return InvalidArgument("precision auto measures a model's steps; choose fp32, bf16 or fp16");
  if (options.threads < 1)
    return InvalidArgument("threads is {}, expected at least 1", options.threads);
  MINIM_TRY(CheckParameters(parameters));
  MINIM_TRY(CheckOptimizer(options.optimizer));
  GradScalerOptions scaling = options.scaler;
  scaling.enabled = scaling.enabled && options.precision == TrainPrecision::kFp16;
  MINIM_TRY(GradScaler scaler, GradScaler::Make(scaling));
  auto trainer = std::make_unique<MixedPrecisionTrainerImpl>(options, std::move(scaler));
  MINIM_TRY(trainer->Build(parameters));
  return std::unique_ptr<MixedPrecisionTrainer>(std::move(trainer));
}

}  // namespace minim
