#include <google/protobuf/io/coded_stream.h>

#include <algorithm>

#include "onnx/onnx.h"
#include "onnx/tensor_proto.h"
#include "ops/infer.h"
#include "ops/op_def.h"

namespace minim {
namespace {

using minim_onnx::AttributeProto;
using minim_onnx::GraphProto;
using minim_onnx::ModelProto;
using minim_onnx::NodeProto;
using minim_onnx::TypeProto;

constexpr int kOldestOpset = 1;
// Upgrades of nodes below this opset may ask for the types of their inputs.
constexpr int kTypedOpset = 13;

enum AttributeKind {
  kFloat = 1,
  kInt = 2,
  kString = 3,
  kTensor = 4,
  kFloats = 6,
  kInts = 7,
  kStrings = 8
};

Result<Attribute> ConvertAttribute(const AttributeProto& proto, const Path& folder) {
  switch (proto.type()) {
    case kFloat: return Attribute(proto.f());
    case kInt: return Attribute(proto.i());
    case kString: return Attribute(proto.s());
    case kTensor: {
      MINIM_TRY(Tensor tensor, TensorFromProto(proto.t(), folder));
      return Attribute(std::move(tensor));
    }
    case kFloats:
      return Attribute(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case kInts: return Attribute(std::vector<int64_t>(proto.ints().begin(), proto.ints().end()));
    case kStrings:
      return Attribute(std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    default:
      return Unsupported("attribute '{}' has kind {}, which is not supported", proto.name(),
                         proto.type());
  }
}

Result<TensorType> ConvertType(const std::string& name, const TypeProto& proto) {
  if (!proto.has_tensor_type())
    return Unsupported("value '{}' is not a dense tensor (sequence, map, optional or sparse)",
                       name);
  MINIM_TRY(const DType dtype, DTypeFromProto(proto.tensor_type().elem_type()));
  if (!proto.tensor_type().has_shape()) return TensorType{dtype, std::nullopt};
  TensorType type{dtype, Shape()};
  for (const auto& dim : proto.tensor_type().shape().dim()) {
    if (dim.has_dim_value() && dim.dim_value() >= 0) {
      type.shape->push_back(dim.dim_value());
    } else {
      type.shape->push_back(dim.dim_param().empty() ? Dim() : Dim::Symbol(dim.dim_param()));
    }
  }
  if (type.shape->size() > static_cast<size_t>(kMaxRank))
    return Unsupported("value '{}': rank {} exceeds the limit of {}", name, type.shape->size(),
                       kMaxRank);
  return type;
}

std::string CanonicalDomain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

class Importer {
 public:
  Importer(const ModelProto& model, const Path& folder) : model_(model), folder_(folder) {}

  Result<Graph> Run() {
    for (const auto& set : model_.opset_import())
      opsets_[CanonicalDomain(set.domain())] = set.version();
    if (model_.functions_size() > 0)
      return Unsupported("the model defines {} functions of its own; inline them before export",
                         model_.functions_size());
    const GraphProto& proto = model_.graph();
    graph_.name = proto.name();
    for (const auto& entry : model_.metadata_props()) graph_.metadata[entry.key()] = entry.value();
    if (proto.sparse_initializer_size() > 0)
      return Unsupported("sparse initializers are not supported");
    MINIM_TRY(Initializers(proto));
    MINIM_TRY(Inputs(proto));
    MINIM_TRY(DeclareOutputs(proto));
    for (const NodeProto& node : proto.node()) MINIM_TRY(AddNode(node));
    MINIM_TRY(Outputs(proto));
    MINIM_TRY(SortTopologically(graph_));
    MINIM_TRY(Verify(graph_));
    MINIM_TRY(InferGraph(graph_));
    return std::move(graph_);
  }

 private:
  Status Initializers(const GraphProto& proto) {
    for (const auto& initializer : proto.initializer()) {
      if (graph_.FindValue(initializer.name()) != kNoValue)
        return DataLoss("initializer '{}' appears twice", initializer.name());
      MINIM_TRY(Tensor tensor, TensorFromProto(initializer, folder_));
      graph_.AddConstant(initializer.name(), std::move(tensor));
    }
    return {};
  }

  Status Inputs(const GraphProto& proto) {
    for (const auto& input : proto.input()) {
      // Before IR version 4 initializers are listed as inputs too.
      if (graph_.FindValue(input.name()) != kNoValue) continue;
      MINIM_TRY(TensorType type, ConvertType(input.name(), input.type()));
      graph_.AddInput(input.name(), std::move(type));
    }
    return {};
  }

  // Declares every node output, so that nodes may stand in any order in the file.
  Status DeclareOutputs(const GraphProto& proto) {
    for (const NodeProto& node : proto.node()) {
      for (const std::string& name : node.output()) {
        if (name.empty()) continue;
        if (graph_.FindValue(name) != kNoValue)
          return DataLoss("node '{}' ({}): value '{}' is defined twice", node.name(),
                          node.op_type(), name);
        graph_.AddValue(name, {});
      }
    }
    return {};
  }

  Status AddNode(const NodeProto& proto) {
    Node node{
        .op = proto.op_type(), .domain = CanonicalDomain(proto.domain()), .name = proto.name()};
    for (const std::string& name : proto.input()) {
      const ValueId id = name.empty() ? kNoValue : graph_.FindValue(name);
      if (!name.empty() && id == kNoValue)
        return DataLoss("node '{}' ({}): input '{}' is not defined anywhere", node.name, node.op,
                        name);
      node.inputs.push_back(id);
    }
    for (const std::string& name : proto.output())
      node.outputs.push_back(name.empty() ? kNoValue : graph_.FindValue(name));
    for (const AttributeProto& attribute : proto.attribute()) {
      auto value = ConvertAttribute(attribute, folder_);
      if (!value.ok())
        return Annotate(value.status(), fmt::format("node '{}' ({})", node.name, node.op));
      node.attributes.Set(attribute.name(), *std::move(value));
    }
    return Lift(std::move(node));
  }

  // Brings the node to the canonical opset and appends it.
  Status Lift(Node node) {
    const OpDef* def = FindOp(node);
    if (def == nullptr)
      return Unsupported("node '{}': operator {}{}{} is not supported", node.name, node.domain,
                         node.domain.empty() ? "" : ".", node.op);
    MINIM_TRY(const int version, VersionOf(node, *def));
    const std::string where = fmt::format("node '{}' ({})", node.name, node.op);
    UpgradeContext context{.graph = graph_, .node = std::move(node), .from_version = version};
    const bool old = !def->onnx_since.empty() && version < def->onnx_since.back();
    const bool typed = context.node.domain.empty() && opsets_.at("") < kTypedOpset;
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

  Result<int> VersionOf(const Node& node, const OpDef& def) const {
    const auto it = opsets_.find(node.domain);
    if (it == opsets_.end())
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
    if (!node.Is("Constant") || !node.attributes.Has("value")) return false;
    const ValueId id = node.output(0);
    if (id == kNoValue) return true;
    const Tensor tensor = node.attributes.Tensor("value");
    graph_.value(id).type = {tensor.dtype(), ToShape(tensor.dims())};
    graph_.constants.emplace(id, tensor);
    return true;
  }

  Status Outputs(const GraphProto& proto) {
    for (const auto& output : proto.output()) {
      const ValueId id = graph_.FindValue(output.name());
      if (id == kNoValue) return DataLoss("graph output '{}' is not defined", output.name());
      graph_.outputs.push_back(id);
    }
    return {};
  }

  const ModelProto& model_;
  const Path& folder_;
  std::map<std::string, int64_t> opsets_;
  Graph graph_;
};

// Counts the graph's nodes in the wire format without building them: ten megabytes of empty nodes
// would otherwise grow to half a gigabyte.
int CountNodes(std::string_view bytes) {
  google::protobuf::io::CodedInputStream model(reinterpret_cast<const uint8_t*>(bytes.data()),
                                               static_cast<int>(bytes.size()));
  int count = 0;
  const auto skip = [&](uint32_t tag) {
    uint64_t value = 0;
    uint32_t length = 0, word = 0;
    switch (tag & 7) {
      case 0: return model.ReadVarint64(&value);
      case 1: return model.ReadLittleEndian64(&value);
      case 2: return model.ReadVarint32(&length) && model.Skip(static_cast<int>(length));
      case 5: return model.ReadLittleEndian32(&word);
      default: return false;
    }
  };
  constexpr uint32_t kGraphTag = (7 << 3) | 2, kNodeTag = (1 << 3) | 2;
  for (uint32_t tag = model.ReadTag(); tag != 0; tag = model.ReadTag()) {
    uint32_t length = 0;
    if (tag != kGraphTag) {
      if (!skip(tag)) return count;
      continue;
    }
    if (!model.ReadVarint32(&length)) return count;
    const auto limit = model.PushLimit(static_cast<int>(length));
    for (uint32_t inner = model.ReadTag(); inner != 0; inner = model.ReadTag()) {
      if (inner == kNodeTag) ++count;
      if (!skip(inner)) return count;
    }
    model.PopLimit(limit);
  }
  return count;
}

}  // namespace

Result<Graph> ParseOnnx(std::string_view bytes, const Path& folder, const OnnxLimits& limits) {
  if (bytes.size() > limits.max_bytes)
    return ResourceExhausted("the model has {} bytes, at most {} are accepted", bytes.size(),
                             limits.max_bytes);
  if (const int nodes = CountNodes(bytes); nodes > limits.max_nodes)
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
  return Importer(model, folder).Run();
}

Result<Graph> ImportOnnx(const Path& path, const OnnxLimits& limits) {
  MINIM_TRY(const std::string bytes, ReadFile(path, limits.max_bytes));
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  auto graph = ParseOnnx(bytes, folder, limits);
  if (!graph.ok()) return Annotate(graph.status(), path.string());
  return graph;
}

}  // namespace minim
