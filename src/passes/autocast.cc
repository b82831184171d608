#include <algorithm>
#include <set>

#include "ops/builder.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

bool NamedBy(const std::string& entry, const Node& node) {
  return entry == node.op || (entry == node.name && !node.name.empty());
}

bool Names(const std::vector<std::string>& list, const Node& node) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& entry) { return NamedBy(entry, node); });
}

class Caster {
 public:
  Caster(Graph& graph, const AutocastOptions& options)
      : graph_(graph), builder_(graph), options_(options), precision_(options.precision) {}

  Status Run() {
    for (const auto* list : {&options_.lower, &options_.fp32}) MINIM_TRY(CheckEntries(*list));
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (const Node& node : nodes) MINIM_TRY(Rewrite(node));
    return builder_.status();
  }

 private:
  Status CheckEntries(const std::vector<std::string>& list) const {
    for (const std::string& entry : list)
      if (std::none_of(graph_.nodes.begin(), graph_.nodes.end(),
                       [&](const Node& node) { return NamedBy(entry, node); }))
        return InvalidArgument("autocast: '{}' is no op and no node of the model", entry);
    return {};
  }

  PrecisionClass ClassOf(const Node& node) const {
    if (Names(options_.lower, node)) return PrecisionClass::kLower;
    if (Names(options_.fp32, node)) return PrecisionClass::kFp32;
    const OpDef* def = FindOp(node);
    return def ? def->precision : PrecisionClass::kWidest;
  }

  Status Rewrite(Node node) {
    const PrecisionClass precision = ClassOf(node);
    const bool weighs = precision == PrecisionClass::kLowerWeights;
    const bool lower = (weighs || precision == PrecisionClass::kLower ||
                        (precision == PrecisionClass::kWidest && StaysLow(node))) &&
                       !node.outputs.empty() && DTypeOfResult(node) == DType::f32;
    if (lower && weighs && graph_.constant(node.input(1)) && graph_.constant(node.input(2))) {
      for (int i : {1, 2}) node.inputs[i] = builder_.Cast(Lowered(node.inputs[i]), DType::f32);
      graph_.nodes.push_back(std::move(node));
      return {};
    }
    if (!lower || (options_.gains && !options_.gains(graph_, node))) {
      graph_.nodes.push_back(std::move(node));
      return {};
    }
    for (ValueId& id : node.inputs)
      if (id != kNoValue && graph_.type(id).dtype == DType::f32) id = Lowered(id);
    std::vector<ValueId> wide(node.outputs.size(), kNoValue);
    for (size_t i = 0; i < wide.size(); ++i) {
      const ValueId id = node.outputs[i];
      if (id == kNoValue || graph_.type(id).dtype != DType::f32) continue;
      wide[i] = id;
      node.outputs[i] = graph_.AddValue("", {precision_, graph_.type(id).shape});
      if (options_.keep_low) lowered_[id] = node.outputs[i];
      if (options_.keep_low) native_.insert(id);
    }
    graph_.nodes.push_back(node);
    MINIM_TRY(InferNode(graph_, node));
    for (size_t i = 0; i < wide.size(); ++i) {
      if (wide[i] == kNoValue) continue;
      const Attributes to_f32{{"to", int64_t{OnnxId(DType::f32)}}};
      graph_.AddNode("Cast", {node.outputs[i]}, 0, to_f32).outputs = {wide[i]};
    }
    return {};
  }

  // True if the op may take every floating input as it was computed, in the lower precision. Scalar
  // constants of element-wise ops do not widen, as in PyTorch.
  bool StaysLow(const Node& node) const {
    const OpDef* def = FindOp(node);
    if (!options_.keep_low || def == nullptr || node.Is("Cast")) return false;
    const bool takes = def->dtypes.empty() || std::find(def->dtypes.begin(), def->dtypes.end(),
                                                        precision_) != def->dtypes.end();
    bool any = false;
    for (ValueId id : node.inputs) {
      if (id == kNoValue || graph_.type(id).dtype != DType::f32) continue;
      const Tensor* constant = graph_.constant(id);
      const bool neutral = Has(def->traits, OpTrait::kElementwise) && constant != nullptr &&
                           constant->dims().rank() == 0;
      if (!native_.contains(id) && !neutral) return false;
      any = any || !neutral;
    }
    return takes && any;
  }

  // Of the first output that is there: a recurrent layer may leave out Y.
  DType DTypeOfResult(const Node& node) const {
    for (ValueId id : node.outputs)
      if (id != kNoValue) return graph_.type(id).dtype;
    return DType::bool_;
  }

  // One cast per value, however many readers.
  ValueId Lowered(ValueId id) {
    const auto [it, fresh] = lowered_.emplace(id, kNoValue);
    if (fresh) it->second = builder_.Cast(id, precision_);
    return it->second;
  }

  Graph& graph_;
  Builder builder_;
  const AutocastOptions& options_;
  DType precision_;
  std::map<ValueId, ValueId> lowered_;
  std::set<ValueId> native_;  // FP32 values that are Casts of what was computed lower
};

}  // namespace

Status Autocast(Graph& graph, const AutocastOptions& options) {
  return Caster(graph, options).Run();
}

}  // namespace minim
