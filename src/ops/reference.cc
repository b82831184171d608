#include "ops/reference.h"

#include "core/dtype.h"
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim {

DType WideDType(DType dtype) {
  if (IsFloat(dtype) || IsSmallFloat(dtype)) return DType::f64;
  if (dtype == DType::u64 || dtype == DType::bool_) return dtype;
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
    outputs_[i] = ToReference(FromReference(outputs_[i]));
  }
  return std::move(outputs_);
}

namespace {

// A one-node graph whose inputs are constants, so that inference sees their values.
Graph Isolate(const Node& node, const std::vector<const RefTensor*>& inputs) {
  Graph graph;
  Node copy = node;
  for (size_t i = 0; i < copy.inputs.size(); ++i) {
    if (copy.inputs[i] == kNoValue || inputs[i] == nullptr) {
      copy.inputs[i] = kNoValue;
      continue;
    }
    copy.inputs[i] = graph.AddConstant("", FromReference(*inputs[i]));
  }
  for (ValueId& id : copy.outputs)
    if (id != kNoValue) id = graph.AddValue("", {});
  graph.nodes.push_back(std::move(copy));
  return graph;
}

Result<std::vector<RefTensor>> EvaluateExpansion(const OpDef& def, Graph graph) {
  const Node node = graph.nodes[0];
  graph.nodes.clear();
  ExpandContext context(graph, node);
  MINIM_TRY(def.expand(context));
  MINIM_TRY(context.status());
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) graph.outputs.push_back(context.replacements()[i]);
  MINIM_TRY(std::vector<Tensor> values, EvaluateGraph(graph, {}));
  std::vector<RefTensor> outputs(node.outputs.size());
  size_t next = 0;
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) outputs[i] = ToReference(values[next++]);
  return outputs;
}

}  // namespace

Result<std::vector<RefTensor>> EvaluateNode(const Node& node,
                                            const std::vector<const RefTensor*>& inputs) {
  Graph graph = Isolate(node, inputs);
  const Node isolated = graph.nodes[0];
  MINIM_TRY(InferNode(graph, isolated));
  const OpDef& def = *FindOp(node);
  if (!def.reference) return EvaluateExpansion(def, std::move(graph));
  std::vector<TensorType> types;
  for (ValueId id : isolated.outputs)
    types.push_back(id == kNoValue ? TensorType{DType::f32, Shape()} : graph.type(id));
  RefContext context(node, inputs, std::move(types));
  MINIM_TRY(def.reference(context));
  return std::move(context).TakeOutputs();
}

Result<std::vector<Tensor>> EvaluateNode(const Node& node,
                                         const std::vector<const Tensor*>& inputs) {
  std::vector<RefTensor> wide(inputs.size());
  std::vector<const RefTensor*> pointers(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    wide[i] = ToReference(*inputs[i]);
    pointers[i] = &wide[i];
  }
  MINIM_TRY(const std::vector<RefTensor> values, EvaluateNode(node, pointers));
  std::vector<Tensor> outputs(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    if (node.output(i) != kNoValue) outputs[i] = FromReference(values[i]);
  return outputs;
}

Result<std::vector<Tensor>> EvaluateGraph(const Graph& graph, const std::vector<Tensor>& inputs,
                                          const std::vector<Tensor>& states) {
  MINIM_CHECK(inputs.size() == graph.inputs.size() && states.size() == graph.states.size());
  std::vector<RefTensor> values(graph.values.size());
  for (const auto& [id, tensor] : graph.constants) values[id] = ToReference(tensor);
  for (size_t i = 0; i < inputs.size(); ++i) values[graph.inputs[i]] = ToReference(inputs[i]);
  for (size_t i = 0; i < states.size(); ++i) values[graph.states[i].read] = ToReference(states[i]);
  for (const Node& node : graph.nodes) {
    std::vector<const RefTensor*> args;
    for (ValueId id : node.inputs) args.push_back(id == kNoValue ? nullptr : &values[id]);
    MINIM_TRY(std::vector<RefTensor> results, EvaluateNode(node, args));
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue) values[node.outputs[i]] = std::move(results[i]);
  }
  std::vector<Tensor> results;
  for (ValueId id : graph.outputs) results.push_back(FromReference(values[id]));
  for (const State& state : graph.states) results.push_back(FromReference(values[state.next]));
  return results;
}

}  // namespace minim
