#include <algorithm>

#include "onnx/onnx.h"
#include "onnx/tensor_proto.h"
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
};

class Exporter {
 public:
  explicit Exporter(const Graph& graph) : graph_(graph) {}

  Result<std::string> Run() {
    minim_onnx::GraphProto& proto = *model_.mutable_graph();
    proto.set_name(graph_.name.empty() ? "minim" : graph_.name);
    for (ValueId id : graph_.inputs) WriteValue(id, *proto.add_input());
    for (ValueId id : graph_.outputs) WriteValue(id, *proto.add_output());
    const std::vector<int> uses = graph_.UseCounts();
    for (const Value& value : graph_.values) RaiseVersions(value.type.dtype);
    for (const auto& [id, tensor] : graph_.constants)
      if (uses[id] > 0) TensorToProto(tensor, graph_.value(id).name, *proto.add_initializer());
    for (const Node& node : graph_.nodes) MINIM_TRY(WriteNode(node, *proto.add_node()));
    if (!graph_.states.empty())
      return Unsupported(
          "a graph with training state has no ONNX form; export the evaluation graph");
    WriteHeader();
    return model_.SerializeAsString();
  }

 private:
  void RaiseVersions(DType dtype) {
    for (const TypeSince& row : kTypesSince) {
      if (row.dtype != dtype) continue;
      opsets_[""] = std::max(opsets_[""], row.opset);
      ir_version_ = std::max(ir_version_, row.ir_version);
    }
  }

  void WriteHeader() {
    ir_version_ = std::max(ir_version_, opsets_[""] >= 21 ? kIrVersionOpset21 : kIrVersion);
    model_.set_ir_version(ir_version_);
    model_.set_producer_name("minim");
    for (const auto& [domain, version] : opsets_) {
      auto& set = *model_.add_opset_import();
      set.set_domain(domain);
      set.set_version(version);
    }
    for (const auto& [key, value] : graph_.metadata) {
      auto& entry = *model_.add_metadata_props();
      entry.set_key(key);
      entry.set_value(value);
    }
  }

  void WriteValue(ValueId id, minim_onnx::ValueInfo& info) const {
    const Value& value = graph_.value(id);
    info.set_name(value.name);
    auto& type = *info.mutable_type()->mutable_tensor_type();
    type.set_elem_type(OnnxId(value.type.dtype));
    if (!value.type.shape) return;
    type.mutable_shape();
    for (const Dim& dim : *value.type.shape) {
      auto& written = *type.mutable_shape()->add_dim();
      if (dim.known())
        written.set_dim_value(dim.value());
      else if (!dim.symbol().empty())
        written.set_dim_param(dim.symbol());
    }
  }

  Status WriteNode(const Node& node, NodeProto& proto) {
    const OpDef* def = FindOp(node);
    if (def == nullptr || node.domain == kMinimDomain || !node.subgraphs.empty())
      return Unsupported("node '{}': {} has no ONNX form", node.name, node.op);
    int& version = opsets_[node.domain];
    version = std::max(version, def->onnx_since.empty() ? 1 : def->onnx_since.back());
    proto.set_op_type(node.op);
    proto.set_domain(node.domain);
    proto.set_name(node.name);
    for (ValueId id : node.inputs) proto.add_input(NameOf(id));
    for (ValueId id : node.outputs) proto.add_output(NameOf(id));
    for (const auto& [name, value] : node.attributes.items()) {
      AttributeProto& attribute = *proto.add_attribute();
      attribute.set_name(name);
      std::visit(AttributeWriter{attribute}, value);
    }
    return {};
  }

  std::string NameOf(ValueId id) const { return id == kNoValue ? "" : graph_.value(id).name; }

  const Graph& graph_;
  ModelProto model_;
  int ir_version_ = kIrVersion;
  std::map<std::string, int> opsets_ = {{"", kOldestExport}};
};

}  // namespace

Result<std::string> SerializeOnnx(const Graph& graph) { return Exporter(graph).Run(); }

Status ExportOnnx(const Graph& graph, const Path& path) {
  MINIM_TRY(const std::string bytes, SerializeOnnx(graph));
  return WriteFileAtomic(path, bytes);
}

}  // namespace minim
