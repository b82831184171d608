#include "exec/region.h"

#include <algorithm>
#include <set>

#include "ops/infer.h"

namespace minim {

namespace {

TensorType WithoutShapes(TensorType type) {
  if (type.is_tensor()) type.shape = std::nullopt;
  if (type.element) type.element = std::make_shared<const TensorType>(WithoutShapes(*type.element));
  return type;
}

}  // namespace

Result<Program*> BodyPrograms::Find(std::span<const HostValue> values) {
  std::lock_guard lock(mutex_);
  for (const auto& program : programs_)
    if (program->Accepts(values)) return program.get();
  Graph graph = *graph_;
  if (values.size() != graph.inputs.size())
    return Internal("a sub-graph of {} inputs was given {}", graph.inputs.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    // Dims may change from one run to the next; dtypes do not.
    TensorType& type = graph.value(graph.inputs[i]).type;
    type = WithoutShapes(TypeOf(values[i], type));
  }
  MINIM_TRY(InferGraph(graph));
  PassContext context;
  context.has_kernel = HasCpuKernel;
  context.skip = options_.skip_passes;
  MINIM_TRY(RunPipeline(kLoadPipeline, graph, context));
  programs_.push_back(std::make_unique<Program>(std::move(graph), runtime_, options_));
  return programs_.back().get();
}

Result<std::vector<HostValue>> BodyPrograms::Run(ExecContext& context,
                                                 std::span<const HostValue> values) {
  MINIM_TRY(Program * program, Find(values));
  return program->RunNested(context, values);
}

std::string BodyPrograms::Explain() const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& program : programs_) text += program->Explain();
  return text;
}

class Region::Builder {
 public:
  Builder(Graph graph, Cut cut, const std::vector<ValueId>& inputs,
          std::shared_ptr<Runtime> runtime, const ProgramOptions& options, int64_t slices)
      : graph_(std::move(graph)),
        cut_(std::move(cut)),
        runtime_(std::move(runtime)),
        options_(options),
        slices_(slices) {
    region_->runtime_ = runtime_;
    region_->threads_ = options.threads;
    for (ValueId id : graph_.inputs) {
      const auto index =
          static_cast<int>(std::find(inputs.begin(), inputs.end(), id) - inputs.begin());
      if (graph_.type(id).dense())
        region_->input_map_.push_back(index);
      else
        sources_[id] = {Source::kInput, index};
    }
    for (ValueId id : cut_.handed) AddResult(id);
  }

  Result<std::shared_ptr<const Region>> Run() {
    for (size_t n = 0; n < cut_.host.size(); ++n) AddHostNode(n);
    if (!cut_.late.empty()) MakeRest();
    for (ValueId id : graph_.outputs) region_->outputs_.push_back(SourceOf(id));
    MINIM_TRY(MakeExecutable());
    return std::shared_ptr<const Region>(std::move(region_));
  }

 private:
  void AddResult(ValueId id) {
    if (id != kNoValue) sources_[id] = {Source::kResult, results_};
    ++results_;
  }

  Source SourceOf(ValueId id) {
    if (id == kNoValue) return {};
    const auto it = sources_.find(id);
    if (it != sources_.end()) return it->second;
    const Tensor* constant = graph_.constant(id);
    MINIM_CHECK(constant != nullptr);
    region_->constants_.emplace_back(*constant);
    return sources_[id] = {Source::kConstant, static_cast<int>(region_->constants_.size()) - 1};
  }

  void AddHostNode(size_t n) {
    HostNode host{.node = cut_.host[n], .types = cut_.host_types[n]};
    host.reference = !RunsOnHost(graph_, host.node);
    for (ValueId id : host.node.inputs) host.inputs.push_back(SourceOf(id));
    for (const auto& [name, body] : host.node.subgraphs)
      host.bodies[name] = std::make_unique<BodyPrograms>(body, runtime_, options_);
    for (ValueId id : host.node.outputs) AddResult(id);
    region_->host_.push_back(std::move(host));
  }

  void MakeRest() {
    Graph rest = graph_;
    rest.nodes = std::move(cut_.late);
    rest.inputs.clear();
    rest.outputs.clear();
    std::set<ValueId> read;
    for (const Node& node : rest.nodes)
      for (ValueId id : node.inputs)
        if (id != kNoValue && rest.constant(id) == nullptr && sources_.contains(id))
          read.insert(id);
    for (ValueId id : read) {
      rest.inputs.push_back(id);
      region_->rest_inputs_.push_back(SourceOf(id));
    }
    for (ValueId id : graph_.outputs) {
      if (sources_.contains(id) || graph_.constant(id) != nullptr) continue;
      sources_[id] = {Source::kRest, static_cast<int>(rest.outputs.size())};
      rest.outputs.push_back(id);
    }
    region_->rest_ = std::make_unique<Program>(std::move(rest), runtime_, options_);
  }

  // Where nothing but the executable is needed, its outputs stand in the order of the program, so
  // that they can be written in place.
  Status MakeExecutable() {
    region_->whole_ = region_->host_.empty() && region_->rest_ == nullptr &&
                      std::all_of(graph_.outputs.begin(), graph_.outputs.end(),
                                  [&](ValueId id) { return graph_.type(id).dense(); });
    if (region_->whole_) {
      for (size_t i = 0; i < region_->outputs_.size(); ++i)
        region_->outputs_[i] = {Source::kResult, static_cast<int>(i)};
    } else {
      graph_.outputs = cut_.handed;
    }
    std::erase_if(graph_.inputs, [&](ValueId id) { return !graph_.type(id).dense(); });
    graph_.nodes = std::move(cut_.early);
    MINIM_TRY(region_->executable_,
              slices_ > 1
                  ? Executable::BuildSliced(std::move(graph_), slices_, runtime_, options_.threads)
                  : Executable::Build(std::move(graph_), runtime_, options_.threads));
    return {};
  }

  Graph graph_;
  Cut cut_;
  std::shared_ptr<Runtime> runtime_;
  const ProgramOptions& options_;
  const int64_t slices_;
  std::shared_ptr<Region> region_ = std::make_shared<Region>();
  std::map<ValueId, Source> sources_;
  int results_ = 0;
};

Result<std::shared_ptr<const Region>> Region::Build(Graph graph, Cut cut,
                                                    const std::vector<ValueId>& inputs,
                                                    std::shared_ptr<Runtime> runtime,
                                                    const ProgramOptions& options, int64_t slices) {
  return Builder(std::move(graph), std::move(cut), inputs, std::move(runtime), options, slices)
      .Run();
}

HostValue Region::Get(const Source& source, const Program::Inputs& inputs,
                      const std::vector<HostValue>& results,
                      const std::vector<HostValue>& rest) const {
  switch (source.from) {
    case Source::kNone: break;
    case Source::kResult: return results[source.index];
    case Source::kInput: return inputs.values[source.index];
    case Source::kConstant: return constants_[source.index];
    case Source::kRest: return rest[source.index];
  }
  return {};
}

Result<std::vector<HostValue>> Region::Run(ExecContext& context,
                                           const Program::Inputs& inputs) const {
  std::vector<Tensor> tensors;
  std::vector<void*> output_pointers;
  for (size_t i = 0; i < executable_->graph().outputs.size(); ++i) {
    const TensorType& type = executable_->output_type(i);
    tensors.emplace_back(type.dtype, type.dims());
    output_pointers.push_back(tensors.back().data());
  }
  std::vector<const void*> input_pointers;
  for (int index : input_map_) input_pointers.push_back(inputs.views[index].data);
  const ThreadBudget threads{&runtime_->pool(), threads_};
  MINIM_TRY(executable_->Run(context, {input_pointers, output_pointers, {}, threads}));
  std::vector<HostValue> results(tensors.begin(), tensors.end());
  MINIM_TRY(RunHostNodes(context, inputs, results));
  std::vector<HostValue> rest_results;
  if (rest_ != nullptr) {
    std::vector<HostValue> values;
    for (const Source& source : rest_inputs_) values.push_back(Get(source, inputs, results, {}));
    MINIM_TRY(rest_results, rest_->RunNested(context, values));
  }
  std::vector<HostValue> outputs;
  for (const Source& source : outputs_)
    outputs.push_back(Get(source, inputs, results, rest_results));
  return outputs;
}

Status Region::RunHostNodes(ExecContext& context, const Program::Inputs& inputs,
                            std::vector<HostValue>& results) const {
  for (const HostNode& host : host_) {
    std::vector<HostValue> values;
    for (const Source& source : host.inputs) values.push_back(Get(source, inputs, results, {}));
    std::vector<const HostValue*> pointers;
    for (size_t i = 0; i < values.size(); ++i)
      pointers.push_back(host.inputs[i].from == Source::kNone ? nullptr : &values[i]);
    const SubgraphRunner run = [&](const std::string& name, std::vector<HostValue> arguments) {
      return host.bodies.at(name)->Run(context, arguments);
    };
    MINIM_TRY(std::vector<HostValue> produced,
              host.reference ? EvaluateNode(host.node, pointers, run)
                             : EvaluateHost(host.node, pointers, host.types, run));
    for (HostValue& value : produced) results.push_back(std::move(value));
  }
  return {};
}

size_t Region::arena_bytes() const {
  return std::max(executable_->arena_bytes(), rest_ ? rest_->arena_bytes() : 0);
}

std::string Region::Explain() const {
  std::string text = executable_->Explain();
  for (const HostNode& host : host_) {
    text += fmt::format("{} on the host: {}\n", host.node.op,
                        host.reference ? "its output shape depends on values; by the reference"
                                       : "strings, sequences, optionals, maps or sub-graphs");
    for (const auto& [name, body] : host.bodies) text += body->Explain();
  }
  if (rest_) text += "then " + rest_->Explain();
  return text;
}

}  // namespace minim
