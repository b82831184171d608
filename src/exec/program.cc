#include "exec/program.h"

#include <algorithm>
#include <set>

#include "core/dtype.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim {

// One compiled binding. Its results are numbered: first the executable's outputs, then those of
// the dynamic nodes, in order.
struct Program::Region {
  std::unique_ptr<Executable> executable;
  std::vector<int> input_map;                    // executable input -> program input
  std::vector<Node> dynamic_nodes;               // outputs of unforeseeable shape, by the reference
  std::vector<std::vector<int>> dynamic_inputs;  // results they read, -1 where omitted
  std::unique_ptr<Program> rest;
  std::vector<int> rest_inputs;  // results it reads
  struct Source {
    bool from_rest;
    int index;
  };
  std::vector<Source> outputs;  // of the program
};

struct Program::Entry {
  std::vector<Dims> dims;
  std::vector<std::pair<int, Tensor>> awaited;  // input, its value
  std::shared_ptr<const Region> region;

  bool Matches(std::span<const ConstView> inputs) const {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (!(dims[i] == inputs[i].dims)) return false;
    for (const auto& [index, value] : awaited)
      if (value.bytes() > 0 && std::memcmp(value.data(), inputs[index].data, value.bytes()) != 0)
        return false;
    return true;
  }
};

namespace {

std::vector<TensorType> OutputTypes(const Graph& graph, const Node& node) {
  std::vector<TensorType> types;
  for (ValueId id : node.outputs)
    types.push_back(id == kNoValue ? TensorType{DType::f32, Shape()} : graph.type(id));
  return types;
}

bool AllStatic(const std::vector<TensorType>& types) {
  return std::all_of(types.begin(), types.end(), [](const TensorType& t) { return t.Static(); });
}

// Splits a specialised graph where shapes stop being known.
class Cutter {
 public:
  explicit Cutter(Graph& graph) : graph_(graph), known_(graph.values.size(), false) {
    for (ValueId id : graph.inputs) known_[id] = true;
    for (const auto& [id, tensor] : graph.constants) known_[id] = true;
  }

  /// Values whose contents the shapes wait for.
  Result<std::vector<ValueId>> Partition() {
    std::vector<ValueId> awaited;
    for (const Node& node : graph_.nodes) {
      const bool ready = std::all_of(node.inputs.begin(), node.inputs.end(),
                                     [&](ValueId id) { return id == kNoValue || known_[id]; });
      if (!ready) {
        late_.push_back(node);
        continue;
      }
      std::vector<int> positions;
      MINIM_TRY(InferNode(graph_, node, &positions));
      if (AllStatic(OutputTypes(graph_, node))) {
        early_.push_back(node);
        for (ValueId id : node.outputs)
          if (id != kNoValue) known_[id] = true;
      } else if (positions.empty()) {
        dynamic_.push_back(node);
      } else {
        for (int position : positions) awaited.push_back(node.input(position));
        late_.push_back(node);
      }
    }
    return awaited;
  }

  const std::vector<Node>& early() const { return early_; }
  const std::vector<Node>& dynamic() const { return dynamic_; }
  const std::vector<Node>& late() const { return late_; }

  /// What the early part hands over: known graph outputs, and what later nodes read.
  std::vector<ValueId> Handed() const {
    std::vector<ValueId> handed;
    std::set<ValueId> seen;
    const auto hand = [&](ValueId id) {
      if (id != kNoValue && known_[id] && seen.insert(id).second) handed.push_back(id);
    };
    for (ValueId id : graph_.outputs) hand(id);
    for (const Node& node : dynamic_)
      for (ValueId id : node.inputs) hand(id);  // constants too: the reference reads results only
    for (const Node& node : late_) {
      for (ValueId id : node.inputs)
        if (id != kNoValue && graph_.constant(id) == nullptr) hand(id);
    }
    return handed;
  }

 private:
  Graph& graph_;
  std::vector<bool> known_;
  std::vector<Node> early_, dynamic_, late_;
};

}  // namespace

Program::Program(Graph graph, std::shared_ptr<Runtime> runtime, ProgramOptions options)
    : graph_(std::move(graph)), runtime_(std::move(runtime)), options_(std::move(options)) {}

Program::~Program() = default;

Status Program::CheckInputs(std::span<const ConstView> inputs) const {
  if (inputs.size() != graph_.inputs.size())
    return InvalidArgument("{} inputs were given, the model has {}", inputs.size(),
                           graph_.inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& value = graph_.value(graph_.inputs[i]);
    if (inputs[i].dtype != value.type.dtype)
      return InvalidArgument("input '{}': has dtype {}, expected {}", value.name,
                             Name(inputs[i].dtype), Name(value.type.dtype));
  }
  return {};
}

Result<const Program::Region*> Program::Find(ExecContext& context,
                                             std::span<const ConstView> inputs) {
  MINIM_TRY(CheckInputs(inputs));
  if (context.last_program == this) {
    const auto* entry = static_cast<const Entry*>(context.last_entry.get());
    if (entry->Matches(inputs)) return entry->region.get();
  }
  MINIM_TRY(std::shared_ptr<const Entry> entry, FindShared(inputs));
  const Region* region = entry->region.get();
  context.last_program = this;
  context.last_entry = std::move(entry);
  return region;
}

Result<std::shared_ptr<const Program::Entry>> Program::FindShared(
    std::span<const ConstView> inputs) {
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (!entries_[i]->Matches(inputs)) continue;
      std::rotate(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(i),
                  entries_.begin() + static_cast<ptrdiff_t>(i) + 1);
      return entries_.front();
    }
  }
  // Two threads may compile the same binding at once; both results are right and one is dropped.
  auto entry = std::make_shared<Entry>();
  MINIM_TRY(entry->region, Compile(inputs));
  for (const ConstView& input : inputs) entry->dims.push_back(input.dims);
  std::lock_guard lock(mutex_);
  for (int index : awaited_) entry->awaited.emplace_back(index, Tensor::Copy(inputs[index]));
  entries_.insert(entries_.begin(), entry);
  if (entries_.size() > options_.max_bindings) entries_.pop_back();
  return std::shared_ptr<const Entry>(std::move(entry));
}

Result<std::shared_ptr<const Program::Region>> Program::Compile(std::span<const ConstView> inputs) {
  std::vector<Dims> dims;
  for (const ConstView& input : inputs) dims.push_back(input.dims);
  std::vector<int> awaited;
  {
    std::lock_guard lock(mutex_);
    awaited = awaited_;
  }
  PassContext context;
  context.has_kernel = HasCpuKernel;
  context.skip = options_.skip_passes;
  while (true) {
    Graph graph = graph_;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (std::find(awaited.begin(), awaited.end(), static_cast<int>(i)) == awaited.end()) continue;
      if (inputs[i].data == nullptr && inputs[i].bytes() > 0)
        return Unsupported(
            "input '{}': its value decides shapes, so it cannot be warmed by dims alone",
            graph.value(graph.inputs[i]).name);
      graph.constants.emplace(graph.inputs[i], Tensor::Copy(inputs[i]));
      graph.value(graph.inputs[i]).type.shape = ToShape(inputs[i].dims);
    }
    MINIM_TRY(graph, Specialize(graph, dims));
    std::vector<int> input_map;
    for (size_t i = 0; i < inputs.size(); ++i)
      if (graph.constant(graph.inputs[i]) == nullptr) input_map.push_back(static_cast<int>(i));
    const std::vector<ValueId> all_inputs = graph.inputs;
    std::erase_if(graph.inputs, [&](ValueId id) { return graph.constant(id) != nullptr; });
    MINIM_TRY(RunPipeline(kSpecializePipeline, graph, context));
    Cutter cutter(graph);
    MINIM_TRY(const std::vector<ValueId> waiting, cutter.Partition());
    bool again = false;
    for (ValueId id : waiting) {
      const auto it = std::find(all_inputs.begin(), all_inputs.end(), id);
      if (it == all_inputs.end()) continue;
      const int index = static_cast<int>(it - all_inputs.begin());
      if (std::find(awaited.begin(), awaited.end(), index) != awaited.end()) continue;
      awaited.push_back(index);
      again = true;
    }
    if (again) continue;
    if (cutter.early().empty() && cutter.dynamic().empty() && !cutter.late().empty())
      return Unsupported("node '{}' ({}): its output shape cannot be determined",
                         cutter.late()[0].name, cutter.late()[0].op);
    {
      std::lock_guard lock(mutex_);
      for (int index : awaited)
        if (std::find(awaited_.begin(), awaited_.end(), index) == awaited_.end()) {
          awaited_.push_back(index);
          entries_.clear();  // their keys lack the new values
        }
    }
    return BuildRegion(std::move(graph), cutter.early(), cutter.dynamic(), cutter.late(),
                       cutter.Handed(), std::move(input_map));
  }
}

Result<std::shared_ptr<const Program::Region>> Program::BuildRegion(
    Graph graph, std::vector<Node> early, std::vector<Node> dynamic, std::vector<Node> late,
    const std::vector<ValueId>& handed, std::vector<int> input_map) {
  auto region = std::make_shared<Region>();
  region->input_map = std::move(input_map);
  std::map<ValueId, int> results;
  for (ValueId id : handed) results.emplace(id, static_cast<int>(results.size()));
  for (const Node& node : dynamic) {
    std::vector<int> inputs;
    for (ValueId id : node.inputs) inputs.push_back(id == kNoValue ? -1 : results.at(id));
    region->dynamic_inputs.push_back(std::move(inputs));
  }
  for (const Node& node : dynamic) {
    for (ValueId id : node.outputs)
      results.emplace(id == kNoValue ? -2 - static_cast<int>(results.size()) : id,
                      static_cast<int>(results.size()));
  }
  std::vector<int> rest_outputs(graph.values.size(), -1);
  if (!late.empty()) {
    Graph rest = graph;
    rest.nodes = std::move(late);
    rest.inputs.clear();
    rest.outputs.clear();
    std::set<ValueId> read;
    for (const Node& node : rest.nodes)
      for (ValueId id : node.inputs)
        if (id != kNoValue && rest.constant(id) == nullptr && results.contains(id)) read.insert(id);
    for (ValueId id : read) {
      rest.inputs.push_back(id);
      region->rest_inputs.push_back(results.at(id));
    }
    for (ValueId id : graph.outputs) {
      if (results.contains(id) || rest_outputs[id] >= 0) continue;
      rest_outputs[id] = static_cast<int>(rest.outputs.size());
      rest.outputs.push_back(id);
    }
    region->rest = std::make_unique<Program>(std::move(rest), runtime_, options_);
  }
  for (ValueId id : graph.outputs) {
    const auto it = results.find(id);
    region->outputs.push_back(it != results.end() ? Region::Source{false, it->second}
                                                  : Region::Source{true, rest_outputs[id]});
  }
  region->dynamic_nodes = std::move(dynamic);
  const bool whole = region->rest == nullptr && region->dynamic_nodes.empty();
  if (whole) {
    for (size_t i = 0; i < region->outputs.size(); ++i)
      region->outputs[i] = {false, static_cast<int>(i)};
  } else {
    graph.outputs = handed;
  }
  graph.nodes = std::move(early);
  MINIM_TRY(region->executable, Executable::Build(std::move(graph), runtime_, options_.threads));
  return std::shared_ptr<const Region>(std::move(region));
}

Result<std::vector<Tensor>> Program::Run(ExecContext& context, std::span<const ConstView> inputs) {
  MINIM_TRY(const Region* region, Find(context, inputs));
  return RunRegion(context, *region, inputs);
}

Result<std::vector<Tensor>> Program::RunRegion(ExecContext& context, const Region& region,
                                               std::span<const ConstView> inputs) {
  const Executable& executable = *region.executable;
  std::vector<Tensor> results;
  std::vector<void*> output_pointers;
  for (ValueId id : executable.graph().outputs) {
    const TensorType& type = executable.graph().type(id);
    results.emplace_back(type.dtype, type.dims());
    output_pointers.push_back(results.back().data());
  }
  std::vector<const void*> input_pointers;
  for (int index : region.input_map) input_pointers.push_back(inputs[index].data);
  const ThreadBudget threads{&runtime_->pool(), options_.threads};
  MINIM_TRY(executable.Run(context, {input_pointers, output_pointers, {}, threads}));
  for (size_t n = 0; n < region.dynamic_nodes.size(); ++n) {
    std::vector<const Tensor*> args;
    for (int index : region.dynamic_inputs[n])
      args.push_back(index < 0 ? nullptr : &results[index]);
    MINIM_TRY(std::vector<Tensor> values, EvaluateNode(region.dynamic_nodes[n], args));
    for (Tensor& value : values) results.push_back(std::move(value));
  }
  std::vector<Tensor> rest_results;
  if (region.rest != nullptr) {
    std::vector<ConstView> views;
    for (int index : region.rest_inputs)
      views.push_back(static_cast<const Tensor&>(results[index]).view());
    MINIM_TRY(const std::shared_ptr<const Entry> entry, region.rest->FindShared(views));
    MINIM_TRY(rest_results, region.rest->RunRegion(context, *entry->region, views));
  }
  std::vector<Tensor> outputs;
  for (const Region::Source& source : region.outputs)
    outputs.push_back(source.from_rest ? rest_results[source.index] : results[source.index]);
  return outputs;
}

Status Program::RunInto(ExecContext& context, std::span<const ConstView> inputs,
                        std::span<const View> outputs) {
  MINIM_TRY(const Region* region, Find(context, inputs));
  const Executable& executable = *region->executable;
  if (outputs.size() != graph_.outputs.size())
    return InvalidArgument("{} output buffers were given, the model has {} outputs", outputs.size(),
                           graph_.outputs.size());
  if (region->rest != nullptr || !region->dynamic_nodes.empty()) {
    MINIM_TRY(const std::vector<Tensor> values, Run(context, inputs));
    for (size_t i = 0; i < values.size(); ++i) {
      MINIM_TRY(CheckOutput(i, {values[i].dtype(), ToShape(values[i].dims())}, outputs[i]));
      if (values[i].bytes() > 0) std::memcpy(outputs[i].data, values[i].data(), values[i].bytes());
    }
    return {};
  }
  void** pointers = context.CallPointers(inputs.size() + outputs.size());
  for (size_t i = 0; i < region->input_map.size(); ++i)
    pointers[i] = const_cast<void*>(inputs[region->input_map[i]].data);
  for (size_t i = 0; i < outputs.size(); ++i) {
    MINIM_TRY(CheckOutput(i, executable.graph().type(executable.graph().outputs[i]), outputs[i]));
    pointers[inputs.size() + i] = outputs[i].data;
  }
  return executable.Run(context, {.inputs = {pointers, region->input_map.size()},
                                  .outputs = {pointers + inputs.size(), outputs.size()},
                                  .threads = {&runtime_->pool(), options_.threads}});
}

Status Program::CheckOutput(size_t index, const TensorType& type, const View& buffer) const {
  if (type.dtype == buffer.dtype && type.dims() == buffer.dims) return {};
  return InvalidArgument("output '{}': is {}, the buffer is {}{}",
                         graph_.value(graph_.outputs[index]).name, type.ToString(),
                         Name(buffer.dtype), buffer.dims.ToString());
}

Status Program::Prepare(ExecContext& context, const std::vector<Dims>& input_dims) {
  if (input_dims.size() != graph_.inputs.size())
    return InvalidArgument("{} shapes were given, the model has {} inputs", input_dims.size(),
                           graph_.inputs.size());
  std::vector<ConstView> views;
  for (size_t i = 0; i < input_dims.size(); ++i)
    views.push_back({nullptr, graph_.type(graph_.inputs[i]).dtype, input_dims[i]});
  MINIM_TRY(const Region* region, Find(context, views));
  region->executable->Ready(context);
  context.CallPointers(graph_.inputs.size() + graph_.outputs.size());
  return {};
}

size_t Program::arena_bytes() const {
  std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& entry : entries_) {
    bytes = std::max(bytes, entry->region->executable->plan().arena_bytes);
    if (entry->region->rest) bytes = std::max(bytes, entry->region->rest->arena_bytes());
  }
  return bytes;
}

std::string Program::Explain() const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& entry : entries_) {
    text += "binding";
    for (const Dims& dims : entry->dims) text += " " + dims.ToString();
    text += "\n" + entry->region->executable->Explain();
    for (const Node& node : entry->region->dynamic_nodes)
      text += node.op + " ends the region: its output shape depends on values; by the reference\n";
    if (entry->region->rest) text += "then " + entry->region->rest->Explain();
  }
  return text;
}

}  // namespace minim
