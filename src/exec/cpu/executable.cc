#include "exec/cpu/executable.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <set>

#include "core/memory_limit.h"
#include "core/stats.h"
#include "ops/reference.h"

namespace minim {
namespace {

bool IsAlias(const Node& node) {
  const OpDef* def = FindOp(node);
  return def != nullptr && Has(def->traits, OpTrait::kAlias);
}

StepTraits TraitsOf(const Node& node, const BoundStep& bound) {
  StepTraits traits;
  if (IsAlias(node)) {
    traits.kind = StepKind::kAlias;
    return traits;
  }
  if (bound.kernel == nullptr) {
    traits.kind = StepKind::kHost;
    return traits;
  }
  traits.scratch_bytes = bound.kernel->scratch_bytes();
  traits.in_place_input = [kernel = bound.kernel.get()](int output) {
    return kernel->in_place_input(output);
  };
  return traits;
}

// Twice the multiply-adds of a product of `inputs[0]` with matrix or filter weights, else 0.
double FlopsOf(const Graph& graph, int index) {
  const Node& node = graph.nodes[index];
  const bool conv = node.op == "Conv" || node.op == "FusedConv" || node.op == "NhwcFusedConv";
  const bool product = node.op == "Gemm" || node.op == "FusedGemm" || node.op == "MatMul";
  if (!conv && !product) return 0;
  const Dims out = graph.type(node.output(0)).dims(), x = graph.type(node.input(0)).dims();
  const Dims w = graph.type(node.input(1)).dims();
  const bool across = product && node.attributes.Int("transA", 0) != 0;
  const int64_t depth = conv            ? w.Elements(1, w.rank())
                        : x.rank() == 0 ? 1
                                        : x[across ? 0 : x.rank() - 1];
  return 2.0 * static_cast<double>(out.Elements()) * static_cast<double>(depth);
}

}  // namespace

std::byte* ExecContext::Arena(size_t bytes) {
  if (bytes > arena_bytes_ || !arena_.defined()) {
    arena_ = Tensor(DType::u8, {static_cast<int64_t>(bytes)});
    arena_bytes_ = bytes;
  }
  return static_cast<std::byte*>(arena_.data());
}

void** ExecContext::Pointers(size_t count) {
  if (pointers_.size() < count) pointers_.resize(count);
  return pointers_.data();
}

void** ExecContext::CallPointers(size_t count) {
  if (call_pointers_.size() < count) call_pointers_.resize(count);
  return call_pointers_.data();
}

Result<std::unique_ptr<Executable>> Executable::Build(Graph graph, std::shared_ptr<Runtime> runtime,
                                                      int threads, const RecomputeGoal& goal) {
  std::unique_ptr<Executable> result(new Executable(std::move(runtime)));
  std::vector<StepTraits> traits;
  for (const Node& node : graph.nodes) {
    BoundStep bound;
    if (IsAlias(node))
      bound.how = "alias";
    else
      bound = BindNode(graph, node, *result->runtime_, threads);
    traits.push_back(TraitsOf(node, bound));
    result->bound_.push_back(std::move(bound));
  }
  if (goal.mode == RecomputeMode::kNone) {
    result->plan_ = BuildPlan(std::move(graph), traits);
  } else {
    const auto scratch_of = [&](const Graph& within, const Node& node) {
      return TraitsOf(node, BindNode(within, node, *result->runtime_, threads)).scratch_bytes;
    };
    MINIM_TRY(RecomputePlan within,
              PlanRecompute(graph, graph.outputs.at(0), traits, goal, scratch_of));
    result->plan_ = std::move(within.plan);
    result->recomputed_ = within.cost;
    std::vector<BoundStep> bound;
    for (size_t i = 0; i < within.origins.size(); ++i) {
      const int origin = within.origins[i];
      bound.push_back(origin >= 0 ? result->bound_[origin]
                                  : BindNode(result->plan_.graph, result->plan_.graph.nodes[i],
                                             *result->runtime_, threads));
    }
    result->bound_ = std::move(bound);
  }
  for (const Node& node : result->plan_.graph.nodes)
    result->most_pointers_ =
        std::max(result->most_pointers_, node.inputs.size() + node.outputs.size());
  if (result->plan_.arena_bytes > PhysicalMemory())
    return ResourceExhausted(
        "one run needs {} bytes for what lies between its ops; main memory has {}",
        result->plan_.arena_bytes, PhysicalMemory());
  for (const ValueId id : result->plan_.graph.outputs)
    result->output_types_.push_back(result->plan_.graph.type(id));
  result->DropUnread();
  result->constants_.assign(result->plan_.graph.values.size(), nullptr);
  for (const auto& [id, tensor] : result->plan_.graph.constants)
    result->constants_[id] = tensor.data();
  return result;
}

Result<std::unique_ptr<Executable>> Executable::BuildSliced(Graph graph, int64_t slices,
                                                            std::shared_ptr<Runtime> runtime,
                                                            int threads) {
  MINIM_TRY(std::unique_ptr<Executable> result, Build(std::move(graph), std::move(runtime), 1));
  result->slices_ = slices;
  result->workers_ = static_cast<size_t>(std::min<int64_t>(threads, slices));
  for (TensorType& type : result->output_types_)
    (*type.shape)[0] = Dim((*type.shape)[0].value() * slices);
  return result;
}

void Executable::DropUnread() {
  std::set<size_t> read;
  const auto add = [&](ValueId id) {
    if (id != kNoValue && plan_.slots[id].place == Place::kConstant)
      read.insert(plan_.slots[id].where);
  };
  for (const Step& step : plan_.steps) {
    add(step.copy_from);
    add(step.commit_if);
    if (step.kind == StepKind::kAlias || step.node < 0) continue;
    const std::vector<ValueId>& inputs = plan_.graph.nodes[step.node].inputs;
    const Kernel* kernel = bound_[step.node].kernel.get();
    for (size_t i = 0; i < inputs.size(); ++i)
      if (kernel == nullptr || kernel->reads(static_cast<int>(i))) add(inputs[i]);
  }
  std::erase_if(plan_.graph.constants,
                [&](const auto& constant) { return !read.contains(constant.first); });
}

void* Executable::Resolve(const Slot& slot, std::byte* arena, const RunArgs& args) const {
  switch (slot.place) {
    case Place::kArena: return arena + slot.where;
    case Place::kConstant: return const_cast<void*>(constants_[slot.where]);
    case Place::kInput: return const_cast<void*>(args.inputs[slot.where]);
    case Place::kOutput: return args.outputs[slot.where];
    case Place::kState: return args.states[slot.where];
    case Place::kNone: break;
  }
  return nullptr;
}

Status Executable::RunHost(const Step& step, void* const* inputs, void* const* outputs) const {
  const Node& node = plan_.graph.nodes[step.node];
  std::vector<Tensor> copies(node.inputs.size());
  std::vector<const Tensor*> pointers(node.inputs.size(), nullptr);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNoValue) continue;
    const TensorType& type = plan_.graph.type(node.inputs[i]);
    copies[i] = Tensor::Copy({inputs[i], type.dtype, type.dims()});
    pointers[i] = &copies[i];
  }
  MINIM_TRY(const std::vector<Tensor> results, EvaluateNode(node, pointers));
  for (size_t o = 0; o < node.outputs.size(); ++o) {
    if (node.outputs[o] == kNoValue) continue;
    if (results[o].dims() != plan_.graph.type(node.outputs[o]).dims())
      return Internal("{} '{}': produced {}, planned {}", node.op, node.name,
                      results[o].dims().ToString(), plan_.graph.type(node.outputs[o]).ToString());
    if (results[o].bytes() > 0) std::memcpy(outputs[o], results[o].data(), results[o].bytes());
  }
  return {};
}

Status Executable::RunStep(const Step& step, std::byte* arena, void** pointers,
                           const RunArgs& args) const {
  if (step.kind == StepKind::kAlias) return {};
  if (step.commit_if != kNoValue &&
      !*static_cast<const bool*>(Resolve(plan_.slots[step.commit_if], arena, args)))
    return {};
  if (step.kind == StepKind::kCopy) {
    const TensorType& type = plan_.graph.type(step.copy_from);
    const size_t bytes = static_cast<size_t>(type.dims().Elements()) * SizeOf(type.dtype);
    void* to = Resolve(step.copy_to, arena, args);
    const void* from = Resolve(plan_.slots[step.copy_from], arena, args);
    if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
    return {};
  }
  const Node& node = plan_.graph.nodes[step.node];
  void** inputs = pointers;
  void** outputs = pointers + node.inputs.size();
  for (size_t i = 0; i < node.inputs.size(); ++i)
    inputs[i] =
        node.inputs[i] == kNoValue ? nullptr : Resolve(plan_.slots[node.inputs[i]], arena, args);
  for (size_t i = 0; i < node.outputs.size(); ++i)
    outputs[i] =
        node.outputs[i] == kNoValue ? nullptr : Resolve(plan_.slots[node.outputs[i]], arena, args);
  if (step.kind == StepKind::kHost) {
    MINIM_TRY(RunHost(step, inputs, outputs));
  } else {
    bound_[step.node].kernel->Run({.inputs = {inputs, node.inputs.size()},
                                   .outputs = {outputs, node.outputs.size()},
                                   .scratch = arena + step.scratch_offset,
                                   .threads = args.threads});
  }
  if (args.observer != nullptr) (*args.observer)(node, {outputs, node.outputs.size()});
  return {};
}

Status Executable::RunSteps(std::byte* arena, void** pointers, const RunArgs& args) const {
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    const auto start = args.step_times.empty() ? Clock::time_point() : Clock::now();
    MINIM_TRY(RunStep(plan_.steps[i], arena, pointers, args));
    if (!args.step_times.empty()) args.step_times[i] += Clock::now() - start;
  }
  return {};
}

// Workers take slices in order; those of a profile are timed one by one.
Status Executable::RunSlices(std::byte* arena, void** pointers, const RunArgs& args) const {
  const Graph& graph = plan_.graph;
  const auto bytes = [&](ValueId id) {
    return static_cast<size_t>(graph.type(id).dims().Elements()) * SizeOf(graph.type(id).dtype);
  };
  const int workers = args.step_times.empty() ? static_cast<int>(workers_) : 1;
  std::mutex mutex;
  Status failed;
  args.threads.ParallelFor(workers, [&](int worker) {
    void** own = pointers + worker * WorkerPointers();
    void** inputs = own + most_pointers_;
    void** outputs = inputs + graph.inputs.size();
    RunArgs slice = args;
    slice.inputs = {inputs, graph.inputs.size()};
    slice.outputs = {outputs, graph.outputs.size()};
    slice.threads = {};
    for (int64_t i = slices_ * worker / workers; i < slices_ * (worker + 1) / workers; ++i) {
      const auto place = [&](const void* base, ValueId id) {
        return static_cast<std::byte*>(const_cast<void*>(base)) + i * bytes(id);
      };
      for (size_t k = 0; k < graph.inputs.size(); ++k)
        inputs[k] = place(args.inputs[k], graph.inputs[k]);
      for (size_t k = 0; k < graph.outputs.size(); ++k)
        outputs[k] = place(args.outputs[k], graph.outputs[k]);
      Status status = RunSteps(arena + worker * plan_.arena_bytes, own, slice);
      if (status.ok()) continue;
      std::lock_guard lock(mutex);
      failed = std::move(status);
      return;
    }
  });
  return failed;
}

Status Executable::Run(ExecContext& context, const RunArgs& args) const {
  std::byte* arena = context.Arena(arena_bytes());
  void** pointers = context.Pointers(workers_ * WorkerPointers());
  std::fill(args.step_times.begin(), args.step_times.end(), std::chrono::nanoseconds(0));
  return slices_ > 1 ? RunSlices(arena, pointers, args) : RunSteps(arena, pointers, args);
}

std::string Executable::Describe(size_t index) const {
  const Node& node = plan_.graph.nodes[index];
  std::string text = node.op + "(";
  for (size_t k = 0; k < node.inputs.size(); ++k)
    text += (k ? ", " : "") +
            (node.inputs[k] == kNoValue ? "_" : plan_.graph.type(node.inputs[k]).ToString());
  text += ") -> ";
  text += node.output(0) == kNoValue ? "_" : plan_.graph.type(node.output(0)).ToString();
  return text + "  " + bound_[index].how + "\n";
}

std::string Executable::Explain() const {
  std::string text;
  if (slices_ > 1)
    text += fmt::format("{} slices of the batch, {} at a time:\n", slices_, workers_);
  for (size_t i = 0; i < bound_.size(); ++i) text += Describe(i);
  return text + fmt::format("arena {} bytes (at least {} live at once)\n", plan_.arena_bytes,
                            plan_.live_bytes);
}

Result<std::vector<double>> Executable::StepMedians(ExecContext& context, RunArgs args,
                                                    int runs) const {
  std::vector<std::vector<double>> samples(plan_.steps.size());
  std::vector<std::chrono::nanoseconds> times(plan_.steps.size());
  args.step_times = times;
  for (int run = 0; run < runs; ++run) {
    MINIM_TRY(Run(context, args));
    for (size_t i = 0; i < times.size(); ++i)
      samples[i].push_back(static_cast<double>(times[i].count()) / 1e3);
  }
  std::vector<double> medians;
  for (const auto& sample : samples) medians.push_back(Percentile(sample, 0.5));
  return medians;
}

Result<std::string> Executable::Profile(ExecContext& context, RunArgs args, int runs) const {
  const std::vector<Step>& steps = plan_.steps;
  MINIM_TRY(const std::vector<double> medians, StepMedians(context, args, runs));
  const double total = std::accumulate(medians.begin(), medians.end(), 0.0);
  std::string text =
      slices_ > 1 ? fmt::format("{} slices of the batch, one by one:\n", slices_) : "";
  text += "        us      %  GFLOP/s  step\n";
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind == StepKind::kAlias) continue;
    const double flops =
        steps[i].node < 0 ? 0 : static_cast<double>(slices_) * FlopsOf(plan_.graph, steps[i].node);
    const std::string speed = flops > 0 ? fmt::format("{:.1f}", flops / medians[i] / 1e3) : "";
    text += fmt::format("{:10.1f} {:6.2f} {:>8}  {}", medians[i], 100 * medians[i] / total, speed,
                        steps[i].node < 0 ? "copy to an output\n" : Describe(steps[i].node));
  }
  return text + fmt::format("{:10.1f} 100.00\n", total);
}

}  // namespace minim
