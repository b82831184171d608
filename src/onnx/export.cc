#include <algorithm>
#include <set>

#include "onnx/onnx.h"
#include "onnx/tensor_proto.h"
#include "onnx/value_proto.h"
#include "ops/op_def.h"

namespace minim {
namespace {

using minim_onnx::AttributeProto;
using minim_onnx::ModelProto;
using minim_onnx::NodeProto;

constexpr int kOldestExport = 17;
constexpr int kIrVersion = 8;  // of opset 17; every reader since 2022 takes it
constexpr int kIrVersionOpset21 = 10;

// The opset and file version in which an element type came to ONNX.
struct TypeSince {
  DType dtype;
  int opset, ir_version;
};
constexpr TypeSince kTypesSince[] = {
    {DType::f8e4m3fn, 19, 9},   {DType::f8e4m3fnuz, 19, 9}, {DType::f8e5m2, 19, 9},
    {DType::f8e5m2fnuz, 19, 9}, {DType::u4, 21, 10},        {DType::i4, 21, 10},
    {DType::f4e2m1, 23, 11},    {DType::f8e8m0, 24, 12},    {DType::u2, 25, 13},
    {DType::i2, 25, 13},
};

struct AttributeWriter {
  AttributeProto& proto;

  void operator()(int64_t value) const { proto.set_type(2), proto.set_i(value); }
  void operator()(float value) const { proto.set_type(1), proto.set_f(value); }
  void operator()(const std::string& value) const { proto.set_type(3), proto.set_s(value); }
  void operator()(const Tensor& value) const {
    proto.set_type(4);
    TensorToProto(value, "", *proto.mutable_t());
  }
  void operator()(const std::vector<int64_t>& values) const {
    proto.set_type(7);
    for (int64_t value : values) proto.add_ints(value);
  }
  void operator()(const std::vector<float>& values) const {
    proto.set_type(6);
    for (float value : values) proto.add_floats(value);
  }
  void operator()(const std::vector<std::string>& values) const {
    proto.set_type(8);
    for (const std::string& value : values) proto.add_strings(value);
  }
  void operator()(const TensorType& type) const {
    proto.set_type(13);
    TypeToProto(type, *proto.mutable_tp());
  }
};

// What all graphs of one file share.
struct Header {
  std::map<std::string, int> opsets = {{"", kOldestExport}};
  int ir_version = kIrVersion;
  std::set<std::string> names;  // of values; a body may not hide those around it
};

class GraphWriter {
 public:
  GraphWriter(const Graph& graph, Header& header) : graph_(graph), header_(header) {}

  // The last `captures` inputs have their names from outside and are not listed.
  Status Write(minim_onnx::GraphProto& proto, size_t captures = 0) {
    if (!graph_.states.empty())
      return Unsupported(
          "a graph with training state has no ONNX form; export the evaluation graph");
    proto.set_name(graph_.name.empty() ? "minim" : graph_.name);
    for (size_t i = 0; i + captures < graph_.inputs.size(); ++i)
      WriteValue(graph_.inputs[i], *proto.add_input());
    for (ValueId id : graph_.outputs) WriteValue(id, *proto.add_output());
    const std::vector<int> uses = graph_.UseCounts();
    for (const Value& value : graph_.values) RaiseVersions(value.type.dtype);
    for (const auto& [id, tensor] : graph_.constants) {
      if (uses[id] == 0) continue;
      if (graph_.literals.contains(id))
        WriteLiteral(id, tensor, *proto.add_node());
      else
        TensorToProto(tensor, NameOf(id), *proto.add_initializer());
    }
    for (const Node& node : graph_.nodes) MINIM_TRY(WriteNode(node, *proto.add_node()));
    return {};
  }

 private:
  void RaiseVersions(DType dtype) {
    for (const TypeSince& row : kTypesSince) {
      if (row.dtype != dtype) continue;
      header_.opsets[""] = std::max(header_.opsets[""], row.opset);
      header_.ir_version = std::max(header_.ir_version, row.ir_version);
    }
  }

  void WriteValue(ValueId id, minim_onnx::ValueInfo& info) {
    info.set_name(NameOf(id));
    TypeToProto(graph_.type(id), *info.mutable_type());
  }

  void WriteLiteral(ValueId id, const Tensor& tensor, NodeProto& proto) {
    proto.set_op_type("Constant");
    proto.add_output(NameOf(id));
    AttributeProto& attribute = *proto.add_attribute();
    attribute.set_name("value");
    AttributeWriter{attribute}(tensor);
  }

  Status WriteNode(const Node& node, NodeProto& proto) {
    const OpDef* def = FindOp(node);
    if (def == nullptr || node.domain == kMinimDomain)
      return Unsupported("node '{}': {} has no ONNX form", node.name, node.op);
    int& version = header_.opsets[node.domain];
    version = std::max(version, def->onnx_since.empty() ? 1 : def->onnx_since.back());
    proto.set_op_type(node.op);
    proto.set_domain(node.domain);
    proto.set_name(node.name);
    const auto captures = static_cast<size_t>(node.attributes.Int("captures", 0));
    for (size_t i = 0; i + captures < node.inputs.size(); ++i)
      proto.add_input(NameOf(node.inputs[i]));
    for (ValueId id : node.outputs) proto.add_output(NameOf(id));
    for (const auto& [name, value] : node.attributes.items()) {
      if (name == "captures") continue;
      AttributeProto& attribute = *proto.add_attribute();
      attribute.set_name(name);
      std::visit(AttributeWriter{attribute}, value);
    }
    return WriteBodies(node, captures, proto);
  }

  Status WriteBodies(const Node& node, size_t captures, NodeProto& proto) {
    for (const auto& [name, body] : node.subgraphs) {
      GraphWriter writer(*body, header_);
      for (size_t i = 1; i <= captures; ++i)
        writer.names_[body->inputs[body->inputs.size() - i]] =
            NameOf(node.inputs[node.inputs.size() - i]);
      AttributeProto& attribute = *proto.add_attribute();
      attribute.set_name(name);
      attribute.set_type(5);
      MINIM_TRY(writer.Write(*attribute.mutable_g(), captures));
    }
    return {};
  }

  std::string NameOf(ValueId id) {
    if (id == kNoValue) return "";
    const auto it = names_.find(id);
    if (it != names_.end()) return it->second;
    std::string name = graph_.value(id).name;
    while (!header_.names.insert(name).second) name += "_";
    return names_[id] = name;
  }

  const Graph& graph_;
  Header& header_;
  std::map<ValueId, std::string> names_;
};

void WriteHeader(const Graph& graph, const Header& header, ModelProto& model) {
  model.set_ir_version(
      std::max(header.ir_version, header.opsets.at("") >= 21 ? kIrVersionOpset21 : kIrVersion));
  model.set_producer_name("minim");
  for (const auto& [domain, version] : header.opsets) {
    auto& set = *model.add_opset_import();
    set.set_domain(domain);
    set.set_version(version);
  }
  for (const auto& [key, value] : graph.metadata) {
    auto& entry = *model.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
}

}  // namespace

Result<std::string> SerializeOnnx(const Graph& graph) {
  ModelProto model;
  Header header;
  MINIM_TRY(GraphWriter(graph, header).Write(*model.mutable_graph()));
  WriteHeader(graph, header, model);
  return model.SerializeAsString();
}

Status ExportOnnx(const Graph& graph, const Path& path) {
  MINIM_TRY(const std::string bytes, SerializeOnnx(graph));
  return WriteFileAtomic(path, bytes);
}

}  // namespace minim
