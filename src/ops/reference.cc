#include "ops/reference.h"

#include <algorithm>

#include "core/dtype.h"
#include "ops/builder.h"
#include "ops/host.h"
#include "ops/infer.h"

namespace minim {

DType WideDType(DType dtype) {
  if (IsFloat(dtype) || IsSmallFloat(dtype)) return DType::f64;
  if (dtype == DType::u64 || dtype == DType::bool_) return dtype;  // strings: ranks
  return DType::i64;
}

double RefTensor::At(int64_t i) const {
  return VisitWide(wide.dtype(),
                   [&]<typename T>() { return static_cast<double>(wide.as<T>()[i]); });
}

int64_t RefTensor::IntAt(int64_t i) const {
  return VisitWide(wide.dtype(),
                   [&]<typename T>() { return static_cast<int64_t>(wide.as<T>()[i]); });
}

void RefTensor::SetAt(int64_t i, double value) {
  VisitWide(wide.dtype(), [&]<typename T>() {
    wide.as<T>()[i] = ConvertTo<T>(std::is_integral_v<T> ? std::nearbyint(value) : value);
  });
}

RefTensor ToReference(const Tensor& tensor) {
  return {tensor.dtype(), Converted(tensor.view(), WideDType(tensor.dtype()))};
}

Tensor FromReference(const RefTensor& value) { return Converted(value.wide.view(), value.dtype); }

std::vector<int64_t> RefContext::Ints(int i) const {
  std::vector<int64_t> values(input(i).size());
  for (size_t k = 0; k < values.size(); ++k) values[k] = input(i).IntAt(k);
  return values;
}

RefTensor& RefContext::Output(int i) {
  MINIM_CHECK(output_types_[i].Static());
  return Output(i, output_types_[i].dims());
}

RefTensor& RefContext::Output(int i, const Dims& dims) {
  outputs_[i] = {output_types_[i].dtype, Tensor(WideDType(output_types_[i].dtype), dims)};
  return outputs_[i];
}

Status RefContext::WithAttributes(Attributes attributes,
                                  const std::function<Status(RefContext&)>& reference) {
  Node node = node_;
  node.attributes = std::move(attributes);
  RefContext inner(node, inputs_, output_types_);
  MINIM_TRY(reference(inner));
  outputs_ = std::move(inner.outputs_);
  return {};
}

Status CopyReference(RefContext& op) {
  ConvertElements(op.input(0).wide.view(), op.Output(0).wide.view());
  return {};
}

Result<std::vector<RefTensor>> RefContext::TakeOutputs() && {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (node_.output(i) == kNoValue) continue;
    if (!outputs_[i].wide.defined())
      return Internal("{} '{}': the reference left output {} unset", node_.op, node_.name, i);
    // Rounds to the declared dtype and back.
    if (outputs_[i].dtype != DType::string) outputs_[i] = ToReference(FromReference(outputs_[i]));
  }
  return std::move(outputs_);
}

namespace {

// The strings of one call in order, the empty string first; a reference sees their ranks.
class StringRanks {
 public:
  explicit StringRanks(const std::vector<const Tensor*>& tensors) : sorted_{""} {
    for (const Tensor* tensor : tensors) {
      if (tensor == nullptr || tensor->dtype() != DType::string) continue;
      const auto strings = tensor->as<std::string>();
      sorted_.insert(sorted_.end(), strings.begin(), strings.end());
    }
    std::sort(sorted_.begin(), sorted_.end());
    sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
  }

  RefTensor Ranked(const Tensor& tensor) const {
    if (tensor.dtype() != DType::string) return ToReference(tensor);
    RefTensor ranks{DType::string, Tensor(DType::i64, tensor.dims())};
    for (int64_t i = 0; i < tensor.size(); ++i) {
      const auto it = std::lower_bound(sorted_.begin(), sorted_.end(), tensor.as<std::string>()[i]);
      ranks.i64()[i] = it - sorted_.begin();
    }
    return ranks;
  }

  Tensor Strings(const RefTensor& value) const {
    if (value.dtype != DType::string) return FromReference(value);
    Tensor strings(DType::string, value.dims());
    for (int64_t i = 0; i < value.size(); ++i)
      strings.as<std::string>()[i] = sorted_[value.i64()[i]];
    return strings;
  }

 private:
  std::vector<std::string> sorted_;
};

// A one-node graph whose tensor inputs are constants, so that inference sees their values.
Graph Isolate(const Node& node, const std::vector<const HostValue*>& inputs) {
  Graph graph;
  Node copy = node;
  for (size_t i = 0; i < copy.inputs.size(); ++i) {
    if (copy.inputs[i] == kNoValue || inputs[i] == nullptr) {
      copy.inputs[i] = kNoValue;
    } else if (const Tensor* tensor = inputs[i]->tensor()) {
      copy.inputs[i] = graph.AddConstant("", *tensor);
    } else {
      copy.inputs[i] = graph.AddInput("", TypeOf(*inputs[i]));
    }
  }
  for (ValueId& id : copy.outputs)
    if (id != kNoValue) id = graph.AddValue("", {});
  graph.nodes.push_back(std::move(copy));
  return graph;
}

std::vector<TensorType> OutputTypes(const Graph& graph, const Node& node) {
  std::vector<TensorType> types;
  for (ValueId id : node.outputs)
    types.push_back(id == kNoValue ? TensorType{DType::f32, Shape()} : graph.type(id));
  return types;
}

Result<std::vector<HostValue>> EvaluateExpansion(const OpDef& def, Graph graph) {
  const Node node = graph.nodes[0];
  graph.nodes.clear();
  ExpandContext context(graph, node);
  MINIM_TRY(def.expand(context));
  MINIM_TRY(context.Check());
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) graph.outputs.push_back(context.replacements()[i]);
  MINIM_TRY(std::vector<HostValue> values, EvaluateGraph(graph, std::vector<HostValue>()));
  std::vector<HostValue> outputs(node.outputs.size());
  size_t next = 0;
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) outputs[i] = std::move(values[next++]);
  return outputs;
}

Result<std::vector<HostValue>> EvaluateReference(const OpDef& def, const Node& node,
                                                 const std::vector<const HostValue*>& inputs,
                                                 std::vector<TensorType> types) {
  std::vector<const Tensor*> tensors(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i] != nullptr) tensors[i] = inputs[i]->tensor();
  const StringRanks ranks(tensors);
  std::vector<RefTensor> wide(inputs.size());
  std::vector<const RefTensor*> pointers(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (tensors[i] == nullptr) continue;
    wide[i] = ranks.Ranked(*tensors[i]);
    pointers[i] = &wide[i];
  }
  RefContext context(node, std::move(pointers), std::move(types));
  MINIM_TRY(def.reference(context));
  MINIM_TRY(const std::vector<RefTensor> values, std::move(context).TakeOutputs());
  std::vector<HostValue> outputs(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    if (node.output(i) != kNoValue) outputs[i] = ranks.Strings(values[i]);
  return outputs;
}

Result<std::vector<Tensor>> Tensors(const Node& node, std::vector<HostValue> values) {
  std::vector<Tensor> tensors(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (node.output(i) == kNoValue) continue;
    if (values[i].tensor() == nullptr)
      return Unsupported("{} '{}': output {} is no tensor", node.op, node.name, i);
    tensors[i] = *values[i].tensor();
  }
  return tensors;
}

}  // namespace

Result<std::vector<HostValue>> EvaluateHost(const Node& node,
                                            const std::vector<const HostValue*>& inputs,
                                            std::vector<TensorType> output_types,
                                            const SubgraphRunner& run) {
  HostContext context(node, inputs, std::move(output_types), run);
  MINIM_TRY(FindOp(node)->host(context));
  return std::move(context).TakeOutputs();
}

Result<Tensor> HostContext::TensorInput(int i) const {
  if (has_input(i) && input(i).tensor() != nullptr) return *input(i).tensor();
  return Error("input {} is no tensor", i);
}

Result<Sequence> HostContext::SequenceInput(int i) const {
  if (has_input(i) && input(i).sequence() != nullptr) return *input(i).sequence();
  return Error("input {} is no sequence", i);
}

Result<int64_t> HostContext::IntInput(int i) const {
  MINIM_TRY(const Tensor tensor, TensorInput(i));
  if (tensor.size() != 1 || IsFloat(tensor.dtype()) || tensor.dtype() == DType::string)
    return Error("input {} is {}{}, expected one integer", i, Name(tensor.dtype()),
                 tensor.dims().ToString());
  return Converted(tensor.view(), DType::i64).as<int64_t>()[0];
}

std::vector<HostValue> HostContext::InputsFrom(int first) const {
  std::vector<HostValue> values;
  for (int i = first; i < input_count(); ++i)
    values.push_back(has_input(i) ? input(i) : HostValue());
  return values;
}

TensorType TypeOf(const HostValue& value, const TensorType& hint) {
  if (const Tensor* tensor = value.tensor()) return {tensor->dtype(), ToShape(tensor->dims())};
  if (const Map* map = value.map())
    return TensorType::MapOf(map->keys.dtype(), {map->values.dtype(), Shape()});
  if (const Sequence* items = value.sequence()) {
    if (items->empty())
      return hint.element ? TensorType::SequenceOf(*hint.element)
                          : TensorType::SequenceOf({DType::f32, std::nullopt});
    TensorType element = TypeOf((*items)[0]);
    for (const HostValue& item : *items)
      if (!(TypeOf(item) == element)) element.shape = std::nullopt;
    return TensorType::SequenceOf(std::move(element));
  }
  return hint.kind == ValueKind::kOptional ? hint
                                           : TensorType::OptionalOf({DType::f32, std::nullopt});
}

Result<std::vector<HostValue>> EvaluateNode(const Node& node,
                                            const std::vector<const HostValue*>& inputs,
                                            const SubgraphRunner& run) {
  Graph graph = Isolate(node, inputs);
  const Node isolated = graph.nodes[0];
  MINIM_TRY(InferNode(graph, isolated));
  const OpDef& def = *FindOp(node);
  std::vector<TensorType> types = OutputTypes(graph, isolated);
  if (RunsOnHost(graph, isolated)) {
    const SubgraphRunner by_reference = [&](const std::string& name,
                                            std::vector<HostValue> values) {
      return EvaluateGraph(*node.subgraphs.at(name), std::move(values));
    };
    return EvaluateHost(node, inputs, std::move(types), run ? run : by_reference);
  }
  if (!def.reference) return EvaluateExpansion(def, std::move(graph));
  return EvaluateReference(def, node, inputs, std::move(types));
}

Result<std::vector<Tensor>> EvaluateNode(const Node& node,
                                         const std::vector<const Tensor*>& inputs) {
  std::vector<HostValue> values(inputs.size());
  std::vector<const HostValue*> pointers(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    values[i] = *inputs[i];
    pointers[i] = &values[i];
  }
  MINIM_TRY(std::vector<HostValue> results, EvaluateNode(node, pointers));
  return Tensors(node, std::move(results));
}

namespace {

Status EvaluateNodes(const Graph& graph, std::vector<HostValue>& values) {
  for (const auto& [id, tensor] : graph.constants) values[id] = tensor;
  for (const Node& node : graph.nodes) {
    std::vector<const HostValue*> args;
    for (ValueId id : node.inputs) args.push_back(id == kNoValue ? nullptr : &values[id]);
    MINIM_TRY(std::vector<HostValue> results, EvaluateNode(node, args));
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue) values[node.outputs[i]] = std::move(results[i]);
  }
  return {};
}

}  // namespace

Result<std::vector<HostValue>> EvaluateGraph(const Graph& graph, std::vector<HostValue> inputs) {
  if (inputs.size() != graph.inputs.size())
    return InvalidArgument("graph '{}' takes {} inputs, {} were given", graph.name,
                           graph.inputs.size(), inputs.size());
  std::vector<HostValue> values(graph.values.size());
  for (size_t i = 0; i < inputs.size(); ++i) values[graph.inputs[i]] = std::move(inputs[i]);
  MINIM_TRY(EvaluateNodes(graph, values));
  std::vector<HostValue> results;
  for (ValueId id : graph.outputs) results.push_back(values[id]);
  return results;
}

Result<std::vector<Tensor>> EvaluateGraph(const Graph& graph, const std::vector<Tensor>& inputs,
                                          const std::vector<Tensor>& states) {
  MINIM_CHECK(inputs.size() == graph.inputs.size() && states.size() == graph.states.size());
  std::vector<HostValue> values(graph.values.size());
  for (size_t i = 0; i < inputs.size(); ++i) values[graph.inputs[i]] = inputs[i];
  for (size_t i = 0; i < states.size(); ++i) values[graph.states[i].read] = states[i];
  MINIM_TRY(EvaluateNodes(graph, values));
  std::vector<Tensor> results;
  const auto take = [&](ValueId id) -> Status {
    const Tensor* tensor = values[id].tensor();
    if (tensor == nullptr) return Unsupported("'{}' is no tensor", graph.value(id).name);
    results.push_back(*tensor);
    return {};
  };
  for (ValueId id : graph.outputs) MINIM_TRY(take(id));
  for (const State& state : graph.states) {
    const Tensor* condition =
        state.commit_if == kNoValue ? nullptr : values[state.commit_if].tensor();
    MINIM_TRY(take(condition == nullptr || condition->as<bool>()[0] ? state.next : state.read));
  }
  return results;
}

}  // namespace minim
