#include "exec/program.h"

#include <algorithm>

#include "core/dtype.h"
#include "exec/batch_rows.h"
#include "exec/cut.h"
#include "exec/region.h"

namespace minim {

namespace {

// True if the value is of the type's kind; element types are left to the ops.
bool Holds(const HostValue& value, const TensorType& type) {
  switch (type.kind) {
    case ValueKind::kTensor: return value.tensor() && value.tensor()->dtype() == type.dtype;
    case ValueKind::kSequence: return value.sequence() != nullptr;
    case ValueKind::kMap: return value.map() != nullptr;
    case ValueKind::kOptional: return value.empty() || Holds(value, *type.element);
  }
  return false;
}

std::vector<ConstView> ViewsOf(std::span<const HostValue> values) {
  std::vector<ConstView> views;
  for (const HostValue& value : values)
    views.push_back(value.tensor() == nullptr ? ConstView() : value.tensor()->view());
  return views;
}

}  // namespace

struct Program::Entry {
  std::vector<Dims> dims;
  std::vector<std::pair<int, Tensor>> awaited;  // input, its value
  std::shared_ptr<const Region> region;

  bool Matches(const Inputs& inputs) const {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (!(dims[i] == inputs[i].dims)) return false;
    for (const auto& [index, value] : awaited)
      if (value.bytes() > 0 && std::memcmp(value.data(), inputs[index].data, value.bytes()) != 0)
        return false;
    return true;
  }
};

Program::Program(Graph graph, std::shared_ptr<Runtime> runtime, ProgramOptions options)
    : constants_(std::exchange(graph.constants, {})),
      graph_(std::move(graph)),
      runtime_(std::move(runtime)),
      options_(std::move(options)) {}

Program::~Program() = default;

Status Program::CheckInputs(const Inputs& inputs) const {
  if (inputs.size() != graph_.inputs.size())
    return InvalidArgument("{} inputs were given, the model has {}", inputs.size(),
                           graph_.inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& value = graph_.value(graph_.inputs[i]);
    if (value.type.is_tensor() && inputs[i].dtype != value.type.dtype)
      return InvalidArgument("input '{}': has dtype {}, expected {}", value.name,
                             Name(inputs[i].dtype), Name(value.type.dtype));
    if (value.type.dense()) continue;
    if (inputs.values == nullptr)
      return InvalidArgument("input '{}' is {}, which no view can hold", value.name,
                             value.type.ToString());
    if (!Holds(inputs.values[i], value.type))
      return InvalidArgument("input '{}': is {}, expected {}", value.name,
                             TypeOf(inputs.values[i]).ToString(), value.type.ToString());
  }
  return {};
}

Result<const Region*> Program::Find(ExecContext& context, const Inputs& inputs) {
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

Result<std::shared_ptr<const Program::Entry>> Program::FindShared(const Inputs& inputs) {
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
  constants_.LetGo(runtime_->packs());
  for (const ConstView& view : inputs.views) entry->dims.push_back(view.dims);
  std::lock_guard lock(mutex_);
  for (int index : awaited_) entry->awaited.emplace_back(index, Tensor::Copy(inputs[index]));
  entries_.insert(entries_.begin(), entry);
  if (entries_.size() > options_.max_bindings) entries_.pop_back();
  return std::shared_ptr<const Entry>(std::move(entry));
}

// A graph for one binding. Without host and late nodes all of it is foreseeable.
struct Program::Specialized {
  Graph graph;
  Cut cut;
  std::vector<ValueId> inputs;  // of the program; those that became constants included

  bool foreseeable() const { return cut.host.empty() && cut.late.empty(); }
};

Result<Program::Specialized> Program::SpecializedFor(const Inputs& inputs) {
  std::vector<Dims> dims;
  for (const ConstView& view : inputs.views) dims.push_back(view.dims);
  std::vector<int> awaited;
  {
    std::lock_guard lock(mutex_);
    awaited = awaited_;
  }
  PassContext context;
  context.has_kernel = HasCpuKernel;
  context.isa = runtime_->isa();
  context.skip = options_.skip_passes;
  const std::map<ValueId, Tensor> constants = constants_.All();
  while (true) {
    Graph graph = graph_;
    graph.constants = constants;
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
    const std::vector<ValueId> all_inputs = graph.inputs;
    std::erase_if(graph.inputs, [&](ValueId id) { return graph.constant(id) != nullptr; });
    MINIM_TRY(RunPipeline(kSpecializePipeline, graph, context));
    MINIM_TRY(Cut cut, CutGraph(graph));
    bool again = false;
    for (ValueId id : cut.awaited) {
      const auto it = std::find(all_inputs.begin(), all_inputs.end(), id);
      if (it == all_inputs.end()) continue;
      const int index = static_cast<int>(it - all_inputs.begin());
      if (std::find(awaited.begin(), awaited.end(), index) != awaited.end()) continue;
      awaited.push_back(index);
      again = true;
    }
    if (again) continue;
    if (cut.early.empty() && cut.host.empty() && !cut.late.empty())
      return Unsupported("node '{}' ({}): its output shape cannot be determined", cut.late[0].name,
                         cut.late[0].op);
    {
      std::lock_guard lock(mutex_);
      for (int index : awaited)
        if (std::find(awaited_.begin(), awaited_.end(), index) == awaited_.end()) {
          awaited_.push_back(index);
          entries_.clear();  // their keys lack the new values
        }
    }
    return Specialized{std::move(graph), std::move(cut), all_inputs};
  }
}

Result<std::shared_ptr<const Region>> Program::Compile(const Inputs& inputs) {
  MINIM_TRY(Specialized s, SpecializedFor(inputs));
  int64_t slices = 1;
  if (const int64_t rows = s.foreseeable() ? IndependentRows(s.graph) : 0; rows > 1) {
    int64_t together = 0;
    if (!runtime_->tuning().empty())
      together = runtime_->tuning().RowsTogether(BatchSignature(s.graph, options_.threads));
    if (together == 0) together = RowsTogether(s.graph, rows, options_.threads);
    slices = SliceBatch(s.graph, together);
  }
  if (slices > 1) {
    MINIM_TRY(s.cut, CutGraph(s.graph));
  }
  return Region::Build(std::move(s.graph), std::move(s.cut), s.inputs, runtime_, options_, slices);
}

Result<std::vector<HostValue>> Program::Run(ExecContext& context,
                                            std::span<const HostValue> values) {
  const std::vector<ConstView> views = ViewsOf(values);
  MINIM_TRY(const Region* region, Find(context, {views, values.data()}));
  return region->Run(context, {views, values.data()});
}

Result<std::vector<HostValue>> Program::RunNested(ExecContext& context,
                                                  std::span<const HostValue> values) {
  const std::vector<ConstView> views = ViewsOf(values);
  const Inputs inputs{views, values.data()};
  MINIM_TRY(CheckInputs(inputs));
  MINIM_TRY(const std::shared_ptr<const Entry> entry, FindShared(inputs));
  return entry->region->Run(context, inputs);
}

bool Program::Accepts(std::span<const HostValue> values) const {
  if (values.size() != graph_.inputs.size()) return false;
  for (size_t i = 0; i < values.size(); ++i)
    if (!Holds(values[i], graph_.type(graph_.inputs[i]))) return false;
  return true;
}

Result<std::vector<Tensor>> Program::Run(ExecContext& context, std::span<const ConstView> views) {
  MINIM_TRY(const Region* region, Find(context, {views}));
  MINIM_TRY(const std::vector<HostValue> values, region->Run(context, {views}));
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < values.size(); ++i) {
    const Tensor* tensor = values[i].tensor();
    if (tensor == nullptr)
      return Unsupported("output '{}' is no tensor: ask for host values",
                         graph_.value(graph_.outputs[i]).name);
    tensors.push_back(*tensor);
  }
  return tensors;
}

Status Program::RunInto(ExecContext& context, std::span<const ConstView> inputs,
                        std::span<const View> outputs) {
  MINIM_TRY(const Region* region, Find(context, {inputs}));
  if (outputs.size() != graph_.outputs.size())
    return InvalidArgument("{} output buffers were given, the model has {} outputs", outputs.size(),
                           graph_.outputs.size());
  if (!region->whole()) {
    MINIM_TRY(const std::vector<HostValue> values, region->Run(context, {inputs}));
    for (size_t i = 0; i < values.size(); ++i) {
      const Tensor* tensor = values[i].tensor();
      if (tensor == nullptr || tensor->dtype() == DType::string)
        return Unsupported("output '{}' is no array of numbers: ask for host values",
                           graph_.value(graph_.outputs[i]).name);
      MINIM_TRY(CheckOutput(i, {tensor->dtype(), ToShape(tensor->dims())}, outputs[i]));
      if (tensor->bytes() > 0) std::memcpy(outputs[i].data, tensor->data(), tensor->bytes());
    }
    return {};
  }
  const Executable& executable = region->executable();
  const std::vector<int>& input_map = region->input_map();
  void** pointers = context.CallPointers(inputs.size() + outputs.size());
  for (size_t i = 0; i < input_map.size(); ++i)
    pointers[i] = const_cast<void*>(inputs[input_map[i]].data);
  for (size_t i = 0; i < outputs.size(); ++i) {
    MINIM_TRY(CheckOutput(i, executable.output_type(i), outputs[i]));
    pointers[inputs.size() + i] = outputs[i].data;
  }
  return executable.Run(context, {.inputs = {pointers, input_map.size()},
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
  MINIM_TRY(const Region* region, Find(context, {views}));
  region->executable().Ready(context);
  context.CallPointers(graph_.inputs.size() + graph_.outputs.size());
  return {};
}

size_t Program::arena_bytes() const {
  std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& entry : entries_) bytes = std::max(bytes, entry->region->arena_bytes());
  return bytes;
}

std::string Program::Explain() const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& entry : entries_) {
    text += "binding";
    for (const Dims& dims : entry->dims) text += " " + dims.ToString();
    text += "\n" + entry->region->Explain();
  }
  return text;
}

Result<TuneReport> Program::Tune(std::span<const ConstView> inputs, double seconds) {
  MINIM_TRY(CheckInputs({inputs}));
  MINIM_TRY(const Specialized s, SpecializedFor({inputs}));
  if (!s.foreseeable())
    return Unsupported("a model whose shapes depend on values runs in parts that are not measured");
  std::vector<const void*> pointers;
  for (size_t i = 0; i < s.inputs.size(); ++i)
    if (s.graph.constant(s.inputs[i]) == nullptr) pointers.push_back(inputs[i].data);
  return TuneGraph(s.graph, pointers, *runtime_, options_.threads, seconds);
}

Result<std::string> Program::Profile(ExecContext& context, std::span<const ConstView> inputs,
                                     int runs) {
  MINIM_TRY(const Region* region, Find(context, {inputs}));
  if (!region->whole())
    return Unsupported("a model whose shapes depend on values runs in parts that have no profile");
  const Executable& executable = region->executable();
  std::vector<const void*> input_pointers;
  for (int index : region->input_map()) input_pointers.push_back(inputs[index].data);
  std::vector<Tensor> outputs;
  std::vector<void*> output_pointers;
  for (size_t i = 0; i < executable.graph().outputs.size(); ++i) {
    const TensorType& type = executable.output_type(i);
    outputs.emplace_back(type.dtype, type.dims());
    output_pointers.push_back(outputs.back().data());
  }
  const ThreadBudget threads{&runtime_->pool(), options_.threads};
  return executable.Profile(context, {input_pointers, output_pointers, {}, threads}, runs);
}

}  // namespace minim
