#include "ops/infer.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/memory_limit.h"

namespace minim {

const Tensor* InferContext::ConstantInput(int i) {
  const Tensor* tensor = graph_.constant(node_.input(i));
  if (tensor == nullptr) awaited_.push_back(i);
  return tensor;
}

std::optional<std::vector<int64_t>> InferContext::IntsInput(int i) {
  const Tensor* tensor = ConstantInput(i);
  if (tensor == nullptr) return std::nullopt;
  if (tensor->dtype() == DType::string) {
    status_ = Error("input {} holds strings, expected integers", i);
    return std::nullopt;
  }
  const Tensor wide = Converted(tensor->view(), DType::i64);
  const auto span = wide.as<int64_t>();
  return std::vector<int64_t>(span.begin(), span.end());
}

const Graph* InferContext::Subgraph(std::string_view name) const {
  const auto it = node_.subgraphs.find(std::string(name));
  return it == node_.subgraphs.end() ? nullptr : it->second.get();
}

Status InferContext::SetOutput(int i, TensorType type) {
  if (i >= output_count()) return {};
  if (type.shape && type.shape->size() > static_cast<size_t>(kMaxRank))
    return Error("rank {} exceeds the limit of {}", type.shape->size(), kMaxRank);
  if (type.is_tensor() && type.shape)
    MINIM_TRY(
        Annotate(CheckFits(*type.shape, type.dtype), fmt::format("{} '{}'", node_.op, node_.name)));
  outputs_[i] = std::move(type);
  return {};
}

Result<int> InferContext::Axis(int64_t axis, int rank) const {
  if (axis < -rank || axis >= rank)
    return Error("axis {} is outside [{}, {}] for rank {}", axis, -rank, rank - 1, rank);
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Status InferContext::SameDType(int a, int b) const {
  const DType left = graph_.type(node_.input(a)).dtype, right = graph_.type(node_.input(b)).dtype;
  if (left == right) return {};
  return Error("input {} is {} and input {} is {}, expected one dtype", a, Name(left), b,
               Name(right));
}

Status InferContext::HasRank(int i, int rank) const {
  const TensorType& type = input(i);
  if (!type.ranked() || type.rank() == rank) return {};
  return Error("input {} has shape {}, expected rank {}", i, minim::ToString(*type.shape), rank);
}

Status InferContext::HasShape(int i, const Shape& shape) const {
  const TensorType& type = input(i);
  const auto fits = [](const Dim& have, const Dim& want) { return have.Compatible(want); };
  if (!type.ranked() ||
      std::equal(type.shape->begin(), type.shape->end(), shape.begin(), shape.end(), fits))
    return {};
  return Error("input {} has shape {}, expected {}", i, minim::ToString(*type.shape),
               minim::ToString(shape));
}

Status InferSameAsFirst(InferContext& op) { return op.SetOutput(0, op.input(0)); }

Status InferBroadcastAs(InferContext& op, DType dtype) {
  Shape shape;
  for (int i = 0; i < op.input_count(); ++i) {
    if (!op.has_input(i)) continue;
    if (!op.input(i).ranked()) return op.SetUnknown(0, dtype);
    auto merged = BroadcastShapes(shape, *op.input(i).shape);
    if (!merged.ok()) return op.Error("{}", merged.status().message());
    shape = *std::move(merged);
  }
  return op.SetOutput(0, dtype, std::move(shape));
}

Status InferUpdate(InferContext& op, int scalars, int groups) {
  const int tensors = op.input_count() - scalars;
  if (tensors % groups != 0)
    return op.Error("{} tensors do not form {} equal groups", tensors, groups);
  const int n = tensors / groups;
  for (int i = 0; i < scalars; ++i)
    if (op.input(i).ranked() && ElementsOf(*op.input(i).shape).value_or(1) != 1)
      return op.Error("input {} has shape {}, expected one element", i,
                      ToString(*op.input(i).shape));
  int output = 0;
  for (int i = 0; i < tensors; ++i) {
    const TensorType& first = op.input(scalars + i % n);
    if (first.ranked()) MINIM_TRY(op.HasShape(scalars + i, *first.shape));
    if (i / n != 1) MINIM_TRY(op.SetOutput(output++, op.input(scalars + i)));
  }
  return {};
}

namespace {

Status SameDTypes(const InferContext& op) {
  for (int i = 1; i < op.input_count(); ++i)
    if (op.has_input(i)) MINIM_TRY(op.SameDType(0, i));
  return {};
}

Status CheckArity(const OpDef& def, const Node& node) {
  if (node.outputs.empty())
    return InvalidArgument("{} '{}': has no outputs, expected at least 1", node.op, node.name);
  const int count = static_cast<int>(node.inputs.size());
  if (count >= def.min_inputs && (def.max_inputs < 0 || count <= def.max_inputs)) return {};
  return InvalidArgument("{} '{}': has {} inputs, expected {}", node.op, node.name, count,
                         def.max_inputs < 0 ? fmt::format("at least {}", def.min_inputs)
                         : def.min_inputs == def.max_inputs
                             ? fmt::format("{}", def.min_inputs)
                             : fmt::format("{} to {}", def.min_inputs, def.max_inputs));
}

Status CheckDType(const OpDef& def, const Graph& graph, const Node& node) {
  if (def.dtypes.empty() || node.input(0) == kNoValue) return {};
  const TensorType& type = graph.type(node.input(0));
  if (!type.dense()) return {};  // CheckKinds has judged it
  const DType dtype = type.dtype;
  if (std::find(def.dtypes.begin(), def.dtypes.end(), dtype) != def.dtypes.end()) return {};
  return InvalidArgument("{} '{}': does not take {} as its first input", node.op, node.name,
                         Name(dtype));
}

// Without `host` an op takes tensors only, and strings only where it merely moves elements.
Status CheckKinds(const OpDef& def, const Graph& graph, const Node& node) {
  if (def.host) return {};
  for (ValueId id : node.inputs) {
    if (id == kNoValue || graph.type(id).dense()) continue;
    if (graph.type(id).is_tensor() && Has(def.traits, OpTrait::kStrings)) continue;
    return InvalidArgument("{} '{}': does not take '{}', which is {}", node.op, node.name,
                           graph.value(id).name, graph.type(id).ToString());
  }
  return {};
}

Status CheckRequiredInputs(const OpDef& def, const Node& node) {
  // An op of any number of inputs takes each; those with subgraphs (Loop) may omit their first.
  const bool every = def.max_inputs < 0 && node.subgraphs.empty();
  const int required = every ? static_cast<int>(node.inputs.size()) : def.min_inputs;
  for (int i = 0; i < required; ++i) {
    if (node.input(i) == kNoValue)
      return InvalidArgument("{} '{}': input {} is missing", node.op, node.name, i);
  }
  return {};
}

}  // namespace

Status InferBroadcast(InferContext& op) {
  MINIM_TRY(SameDTypes(op));
  return InferBroadcastAs(op, op.dtype(0));
}

Status InferBroadcastBool(InferContext& op) {
  MINIM_TRY(SameDTypes(op));
  return InferBroadcastAs(op, DType::bool_);
}

bool RunsOnHost(const Graph& graph, const Node& node) {
  const OpDef* def = FindOp(node);
  if (def == nullptr || !def->host) return false;
  if (!def->reference && !def->expand) return true;
  const auto beyond = [&](ValueId id) { return id != kNoValue && !graph.type(id).dense(); };
  return std::any_of(node.inputs.begin(), node.inputs.end(), beyond) ||
         std::any_of(node.outputs.begin(), node.outputs.end(), beyond);
}

Status InferNode(Graph& graph, const Node& node, std::vector<int>* awaited) {
  const OpDef* def = FindOp(node);
  if (def == nullptr)
    return Unsupported("node '{}': operator {}{}{} is not known", node.name, node.domain,
                       node.domain.empty() ? "" : ".", node.op);
  MINIM_TRY(CheckArity(*def, node));
  MINIM_TRY(CheckRequiredInputs(*def, node));
  MINIM_TRY(CheckKinds(*def, graph, node));
  MINIM_TRY(CheckDType(*def, graph, node));
  InferContext context(graph, node);
  MINIM_TRY(def->infer(context));
  MINIM_TRY(context.status());
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) graph.value(node.outputs[i]).type = context.outputs()[i];
  if (awaited != nullptr) *awaited = context.awaited();
  return {};
}

Result<TensorType> TypeOf(std::string_view op, const std::vector<TensorType>& inputs,
                          Attributes attributes) {
  Graph graph;
  Node node{.op = std::string(op), .attributes = std::move(attributes)};
  for (const TensorType& type : inputs) node.inputs.push_back(graph.AddValue("", type));
  node.outputs = {graph.AddValue("", {})};
  MINIM_TRY(InferNode(graph, node));
  return graph.type(node.outputs[0]);
}

Status CheckGradientShape(const InferContext& op, std::string_view forward,
                          const std::vector<TensorType>& inputs) {
  MINIM_TRY(const TensorType y, TypeOf(forward, inputs, op.attributes()));
  const TensorType& dy = op.input(0);
  if (!y.Static() || !dy.Static() || y.dims() == dy.dims()) return {};
  return op.Error("gradient has shape {}, expected {}", dy.dims().ToString(), y.dims().ToString());
}

Status InferGraph(Graph& graph) {
  for (const Node& node : graph.nodes) MINIM_TRY(InferNode(graph, node));
  return {};
}

}  // namespace minim
