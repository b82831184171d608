#include <google/protobuf/io/coded_stream.h>

#include <algorithm>

#include "onnx/attribute_proto.h"
#include "onnx/node_count.h"
#include "onnx/onnx.h"
#include "onnx/tensor_proto.h"
#include "onnx/value_proto.h"
#include "ops/infer.h"
#include "ops/op_def.h"

namespace minim {
namespace {

using minim_onnx::AttributeProto;
using minim_onnx::FunctionProto;
using minim_onnx::GraphProto;
using minim_onnx::ModelProto;
using minim_onnx::NodeProto;

constexpr int kOldestOpset = 1;
constexpr int kMaxFunctionDepth = 32;
// Upgrades of nodes below this opset may ask for the types of their inputs.
constexpr int kTypedOpset = 13;

std::string CanonicalDomain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

using Opsets = std::map<std::string, int64_t>;

template <typename Proto>
Opsets OpsetsOf(const Proto& proto) {
  Opsets opsets;
  for (const auto& set : proto.opset_import())
    opsets[CanonicalDomain(set.domain())] = set.version();
  return opsets;
}

// What one file gives every graph in it.
struct File {
  const Path& folder;
  const OnnxLimits& limits;
  std::map<std::pair<std::string, std::string>, const FunctionProto*> functions = {};
  int nodes = 0;  // made so far: functions multiply them
};

// What names mean at some place of a file: in a graph, or in a function that is being inlined.
struct Scope {
  Opsets opsets;
  std::map<std::string, ValueId> names = {};
  const std::map<std::string, const AttributeProto*>* arguments = nullptr;  // of the function
  int depth = 0;                                                            // of functions
};

class Importer {
 public:
  Importer(File& file, Opsets opsets) : file_(file), scope_{.opsets = std::move(opsets)} {}

  Result<Graph> Run(const GraphProto& proto) {
    MINIM_TRY(Build(proto));
    MINIM_TRY(Finish());
    MINIM_TRY(InferGraph(graph_));
    return std::move(graph_);
  }

  Graph& graph() { return graph_; }

 private:
  // A value of the graph around a sub-graph that the sub-graph reads.
  struct Capture {
    std::string name;
    ValueId outer;
  };

  Importer(Importer& outer, Scope& outer_scope)
      : file_(outer.file_),
        scope_{.opsets = outer_scope.opsets,
               .arguments = outer_scope.arguments,
               .depth = outer_scope.depth},
        outer_(&outer),
        outer_scope_(&outer_scope) {}

  Status Build(const GraphProto& proto) {
    graph_.name = proto.name();
    MINIM_TRY(Initializers(proto));
    MINIM_TRY(Inputs(proto));
    MINIM_TRY(DeclareOutputs(proto.node(), scope_));
    for (const NodeProto& node : proto.node()) MINIM_TRY(AddNode(node, scope_));
    return Outputs(proto);
  }

  Status Finish() {
    MINIM_TRY(SortTopologically(graph_));
    return Verify(graph_);
  }

  Status Initializer(const std::string& name, Tensor tensor) {
    if (scope_.names.contains(name)) return DataLoss("initializer '{}' appears twice", name);
    scope_.names[name] = graph_.AddConstant(name, std::move(tensor));
    return {};
  }

  Status Initializers(const GraphProto& proto) {
    for (const auto& initializer : proto.initializer()) {
      MINIM_TRY(Tensor tensor, TensorFromProto(initializer, file_.folder));
      MINIM_TRY(Initializer(initializer.name(), std::move(tensor)));
    }
    for (const auto& initializer : proto.sparse_initializer()) {
      MINIM_TRY(Tensor tensor, TensorFromSparse(initializer, file_.folder));
      MINIM_TRY(Initializer(initializer.values().name(), std::move(tensor)));
    }
    return {};
  }

  Status Inputs(const GraphProto& proto) {
    for (const auto& input : proto.input()) {
      // Before IR version 4 initializers are listed as inputs too.
      if (scope_.names.contains(input.name())) continue;
      TensorType type;
      if (outer_ == nullptr || input.has_type()) {  // a body's inputs may leave it open
        MINIM_TRY(type, TypeFromProto(input.name(), input.type()));
      }
      scope_.names[input.name()] = graph_.AddInput(input.name(), std::move(type));
    }
    return {};
  }

  // Declares every node output, so that nodes may stand in any order in the file.
  template <typename Nodes>
  Status DeclareOutputs(const Nodes& nodes, Scope& scope) {
    for (const NodeProto& node : nodes) {
      for (const std::string& name : node.output()) {
        if (name.empty()) continue;
        const auto [it, fresh] = scope.names.try_emplace(name, kNoValue);
        if (fresh) {
          it->second = graph_.AddValue(name, {});
        } else {
          return DataLoss("node '{}' ({}): value '{}' is defined twice", node.name(),
                          node.op_type(), name);
        }
      }
    }
    return {};
  }

  // The value that a name means here; what an outer graph defines becomes an input of this one.
  ValueId Resolve(Scope& scope, const std::string& name) {
    const auto it = scope.names.find(name);
    if (it != scope.names.end()) return it->second;
    if (outer_ == nullptr || scope.depth != scope_.depth) return kNoValue;
    const ValueId outer = outer_->Resolve(*outer_scope_, name);
    if (outer == kNoValue) return kNoValue;
    captures_.push_back({name, outer});
    return scope_.names[name] = graph_.AddInput(name, {});
  }

  Status AddNode(const NodeProto& proto, Scope& scope) {
    if (++file_.nodes > file_.limits.max_nodes)
      return ResourceExhausted("its functions make more than {} nodes", file_.limits.max_nodes);
    Node node{
        .op = proto.op_type(), .domain = CanonicalDomain(proto.domain()), .name = proto.name()};
    for (const std::string& name : proto.input()) {
      const ValueId id = name.empty() ? kNoValue : Resolve(scope, name);
      // A function's formal input that its call omits is a name without a value.
      if (!name.empty() && id == kNoValue && !scope.names.contains(name))
        return DataLoss("node '{}' ({}): input '{}' is not defined anywhere", node.name, node.op,
                        name);
      node.inputs.push_back(id);
    }
    for (const std::string& name : proto.output())
      node.outputs.push_back(name.empty() ? kNoValue : scope.names.at(name));
    const auto function = file_.functions.find({node.domain, node.op});
    if (function != file_.functions.end()) return Inline(*function->second, proto, node, scope);
    return Annotate(AddAttributes(proto, scope, node),
                    fmt::format("node '{}' ({})", node.name, node.op));
  }

  // The attribute itself, or what the call of the enclosing function gives for it; null if nothing.
  static const AttributeProto* Argument(const AttributeProto& attribute, const Scope& scope) {
    if (attribute.ref_attr_name().empty() || scope.arguments == nullptr) return &attribute;
    const auto it = scope.arguments->find(attribute.ref_attr_name());
    return it == scope.arguments->end() ? nullptr : it->second;
  }

  Status AddAttributes(const NodeProto& proto, Scope& scope, Node& node) {
    std::vector<std::pair<std::string, std::unique_ptr<Importer>>> bodies;
    for (const AttributeProto& attribute : proto.attribute()) {
      const AttributeProto* given = Argument(attribute, scope);
      if (given == nullptr) continue;
      if (given->type() == kGraphAttribute) {
        bodies.emplace_back(attribute.name(), new Importer(*this, scope));
        MINIM_TRY(bodies.back().second->Build(given->g()));
        continue;
      }
      MINIM_TRY(Attribute value, AttributeFromProto(*given, file_.folder));
      const Tensor* tensor = std::get_if<Tensor>(&value);
      if (tensor != nullptr && tensor->dtype() == DType::string && node.op != "Constant" &&
          node.op != "LabelEncoder")
        return Unsupported("attribute '{}' is a tensor of strings", attribute.name());
      node.attributes.Set(attribute.name(), std::move(value));
    }
    for (auto& [name, importer] : bodies) MINIM_TRY(importer->Finish());
    node.attributes.Erase("captures");  // the IR's own; a file has no say in it
    AddCaptures(bodies, node);
    return Lift(std::move(node), scope);
  }

  // Every body takes all that any of them captures, in one order, after its own inputs; the node
  // gives them as its last inputs.
  void AddCaptures(std::vector<std::pair<std::string, std::unique_ptr<Importer>>>& bodies,
                   Node& node) {
    std::vector<Capture> all;
    for (const auto& [name, body] : bodies)
      for (const Capture& capture : body->captures_)
        if (std::none_of(all.begin(), all.end(),
                         [&](const Capture& c) { return c.name == capture.name; }))
          all.push_back(capture);
    for (auto& [name, body] : bodies) {
      Graph& graph = body->graph_;
      graph.inputs.resize(graph.inputs.size() - body->captures_.size());
      for (const Capture& capture : all) {
        const auto it = std::find_if(body->captures_.begin(), body->captures_.end(),
                                     [&](const Capture& c) { return c.name == capture.name; });
        if (it != body->captures_.end())
          graph.inputs.push_back(body->scope_.names.at(capture.name));
        else
          graph.AddInput(capture.name, {});
      }
      node.subgraphs[name] = std::make_shared<const Graph>(std::move(graph));
    }
    if (all.empty()) return;
    for (const Capture& capture : all) node.inputs.push_back(capture.outer);
    node.attributes.Set("captures", static_cast<int64_t>(all.size()));
  }

  // Puts a function's nodes in the place of its call.
  Status Inline(const FunctionProto& function, const NodeProto& call, const Node& node,
                Scope& caller) {
    if (caller.depth >= kMaxFunctionDepth)
      return DataLoss("function '{}': calls are nested deeper than {}", function.name(),
                      kMaxFunctionDepth);
    std::map<std::string, const AttributeProto*> arguments;
    for (const AttributeProto& attribute : function.attribute_proto())
      arguments[attribute.name()] = &attribute;
    for (const AttributeProto& attribute : call.attribute())
      if (const AttributeProto* given = Argument(attribute, caller))
        arguments[attribute.name()] = given;
    Scope scope{.opsets = OpsetsOf(function), .arguments = &arguments, .depth = caller.depth + 1};
    for (int i = 0; i < function.input_size(); ++i)
      scope.names[function.input(i)] = node.input(static_cast<size_t>(i));
    MINIM_TRY(DeclareOutputs(function.node(), scope));
    for (const NodeProto& inner : function.node()) MINIM_TRY(AddNode(inner, scope));
    for (int i = 0; i < function.output_size(); ++i) {
      const ValueId to = node.output(static_cast<size_t>(i));
      const auto from = scope.names.find(function.output(i));
      if (from == scope.names.end() || from->second == kNoValue)
        return DataLoss("function '{}': output '{}' is not defined", function.name(),
                        function.output(i));
      if (to != kNoValue)
        graph_.nodes.push_back(Node{.op = "Identity", .inputs = {from->second}, .outputs = {to}});
    }
    return {};
  }

  // Brings the node to the canonical opset and appends it.
  Status Lift(Node node, const Scope& scope) {
    const OpDef* def = FindOp(node);
    if (def == nullptr)
      return Unsupported("node '{}': operator {}{}{} is not supported", node.name, node.domain,
                         node.domain.empty() ? "" : ".", node.op);
    MINIM_TRY(const int version, VersionOf(node, *def, scope.opsets));
    const std::string where = fmt::format("node '{}' ({})", node.name, node.op);
    UpgradeContext context{.graph = graph_, .node = std::move(node), .from_version = version};
    const bool old = !def->onnx_since.empty() && version < def->onnx_since.back();
    const auto opset = scope.opsets.find("");
    const bool typed =
        context.node.domain.empty() && opset != scope.opsets.end() && opset->second < kTypedOpset;
    context.node.attributes.Erase("consumed_inputs");                     // a hint of opset 1
    if (old && def->min_inputs > 0 && context.node.input(0) == kNoValue)  // upgrades read its type
      return DataLoss("{}: has no first input", where);
    if (old && def->upgrade) MINIM_TRY(Annotate(def->upgrade(context), where));
    for (Node& before : context.before) Append(std::move(before), typed);
    if (!FoldConstantNode(context.node)) Append(std::move(context.node), typed);
    for (Node& after : context.after) Append(std::move(after), typed);
    return {};
  }

  // Errors of inference wait until the whole graph is there.
  void Append(Node node, bool typed) {
    if (typed) (void)InferNode(graph_, node);
    graph_.nodes.push_back(std::move(node));
  }

  Result<int> VersionOf(const Node& node, const OpDef& def, const Opsets& opsets) const {
    const auto it = opsets.find(node.domain);
    if (it == opsets.end())
      return DataLoss("node '{}' ({}): the model imports no opset for domain '{}'", node.name,
                      node.op, node.domain);
    if (node.domain.empty() && it->second < kOldestOpset)
      return Unsupported("opset {} is too old; opset {} and later are read", it->second,
                         kOldestOpset);
    if (def.onnx_since.empty()) return 0;
    int version = 0;
    for (int since : def.onnx_since)
      if (since <= it->second) version = since;
    if (version == 0)
      return DataLoss("node '{}': {} does not exist in opset {} (since {})", node.name, node.op,
                      it->second, def.onnx_since.front());
    return version;
  }

  // Constant nodes with a tensor value become constants of the graph, under the same name.
  bool FoldConstantNode(const Node& node) {
    const std::string_view from = node.attributes.Has("value") ? "value" : "sparse_value";
    const Tensor tensor = node.attributes.Tensor(from);
    if (!node.Is("Constant") || !tensor.defined()) return false;
    const ValueId id = node.output(0);
    if (id == kNoValue) return true;
    graph_.value(id).type = {tensor.dtype(), ToShape(tensor.dims())};
    graph_.constants.emplace(id, tensor);
    graph_.literals.insert(id);
    return true;
  }

  Status Outputs(const GraphProto& proto) {
    for (const auto& output : proto.output()) {
      const ValueId id = Resolve(scope_, output.name());
      if (id == kNoValue) return DataLoss("graph output '{}' is not defined", output.name());
      graph_.outputs.push_back(id);
    }
    return {};
  }

  File& file_;
  Scope scope_;
  Importer* outer_ = nullptr;
  Scope* outer_scope_ = nullptr;
  std::vector<Capture> captures_;
  Graph graph_;
};

}  // namespace

Result<Graph> ParseOnnx(std::string_view bytes, const Path& folder, const OnnxLimits& limits) {
  if (bytes.size() > limits.max_bytes)
    return ResourceExhausted("the model has {} bytes, at most {} are accepted", bytes.size(),
                             limits.max_bytes);
  if (const int nodes = CountNodes(bytes, limits.max_depth); nodes > limits.max_nodes)
    return ResourceExhausted("the model has {} nodes, at most {} are accepted", nodes,
                             limits.max_nodes);
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetRecursionLimit(limits.max_depth);
  stream.SetTotalBytesLimit(static_cast<int>(limits.max_bytes));
  ModelProto model;
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage())
    return DataLoss("not an ONNX model: the protobuf is malformed or nested too deeply");
  if (!model.has_graph() || model.opset_import_size() == 0)
    return DataLoss("not an ONNX model: it has no {}",
                    model.has_graph() ? "opset import" : "graph");
  File file{.folder = folder, .limits = limits};
  for (const FunctionProto& function : model.functions())
    file.functions[{CanonicalDomain(function.domain()), function.name()}] = &function;
  MINIM_TRY(Graph graph, Importer(file, OpsetsOf(model)).Run(model.graph()));
  for (const auto& entry : model.metadata_props()) graph.metadata[entry.key()] = entry.value();
  return graph;
}

Result<Graph> ImportOnnx(const Path& path, const OnnxLimits& limits) {
  MINIM_TRY(const std::string bytes, ReadFile(path, limits.max_bytes));
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  auto graph = ParseOnnx(bytes, folder, limits);
  if (!graph.ok()) return Annotate(graph.status(), path.string());
  return graph;
}

}  // namespace minim
