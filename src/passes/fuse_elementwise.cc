#include <algorithm>
#include <set>

#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr size_t kMaxChain = 24;  // registers of the tile interpreter stay in L1
constexpr size_t kMaxInputs = 16;

bool NarrowFloatOrBool(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 ||
         dtype == DType::bool_;
}

class Fuser {
 public:
  Fuser(Graph& graph, const PassContext& context)
      : graph_(graph), context_(context), uses_(graph.UseCounts()), producers_(graph.Producers()) {
    for (ValueId id : graph.outputs) uses_[id] += 1;  // outputs end a chain
  }

  Result<bool> Run() {
    group_.assign(graph_.nodes.size(), -1);
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
      if (Fusible(graph_.nodes[i])) Join(static_cast<int>(i));
    AttachQuantizers();
    std::vector<Node> nodes;
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const int root = group_[i];
      if (root < 0 || members_[root].size() == 1) {
        nodes.push_back(graph_.nodes[i]);
      } else if (root == static_cast<int>(i)) {
        nodes.push_back(Fuse(root));
        changed = true;
      }
    }
    if (changed) graph_.nodes = std::move(nodes);
    return changed;
  }

 private:
  // To or from bytes, by one constant scale: a step of the chains before and after it.
  bool Quantizes(const Node& node) const {
    const bool quantize = node.Is("QuantizeLinear");
    if ((!quantize && !node.Is("DequantizeLinear")) || !context_.has_kernel(node.op) ||
        node.attributes.Int("block_size", 0) != 0 || node.attributes.Int("precision", 0) != 0)
      return false;
    const TensorType &x = graph_.type(node.input(0)), &y = graph_.type(node.output(0));
    const DType byte = (quantize ? y : x).dtype;
    if ((byte != DType::u8 && byte != DType::i8) || (quantize ? x : y).dtype != DType::f32 ||
        !x.Static() || !y.Static())
      return false;
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const Tensor* parameter = graph_.constant(node.inputs[i]);
      if (node.inputs[i] == kNoValue) continue;
      if (parameter == nullptr || parameter->dims().Elements() != 1 ||
          parameter->dims().rank() > 1 || (i == 1 && parameter->dtype() != DType::f32))
        return false;
    }
    return true;
  }

  bool Fusible(const Node& node) const {
    if (Quantizes(node)) return true;
    const OpDef* def = FindOp(node);
    if (def == nullptr || !Has(def->traits, OpTrait::kElementwise) || node.outputs.size() != 1 ||
        !context_.has_kernel(node.op) || node.Is("FusedElementwise", kMinimDomain))
      return false;
    const TensorType& out = graph_.type(node.output(0));
    if (!NarrowFloatOrBool(out.dtype) || !out.Static()) return false;
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      return id == kNoValue ||
             (NarrowFloatOrBool(graph_.type(id).dtype) && graph_.type(id).Static());
    });
  }

  // Starts a group at node i and draws in the groups of producers that only the group reads.
  void Join(int i) {
    group_[i] = i;
    members_[i] = {i};
    while (DrawIn(i)) continue;
  }

  bool DrawIn(int i) {
    const Dims dims = graph_.type(graph_.nodes[i].output(0)).dims();
    for (ValueId id : ExternalInputs(members_[i])) {
      if (producers_[id] < 0) continue;
      const int producer = group_[producers_[id]];
      if (producer != producers_[id] || graph_.type(id).dims() != dims) continue;
      if (uses_[id] != ReadsOf(members_[i], id)) continue;
      if (members_[producer].size() + members_[i].size() > kMaxChain) continue;
      std::vector<int> merged = members_[i];
      merged.insert(merged.end(), members_[producer].begin(), members_[producer].end());
      if (ExternalInputs(merged).size() > kMaxInputs) continue;
      for (int member : members_[producer]) group_[member] = i;
      members_.erase(producer);
      members_[i] = std::move(merged);
      return true;
    }
    return false;
  }

  int ReadsOf(const std::vector<int>& members, ValueId id) const {
    int reads = 0;
    for (int m : members) {
      const std::vector<ValueId>& inputs = graph_.nodes[m].inputs;
      reads += static_cast<int>(std::count(inputs.begin(), inputs.end(), id));
    }
    return reads;
  }

  // A chain that others read in full writes its bytes as well, while it is at it.
  void AttachQuantizers() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (!node.Is("QuantizeLinear") || !Quantizes(node) || members_[group_[i]].size() > 1)
        continue;
      const int producer = producers_[node.input(0)];
      if (producer < 0 || group_[producer] != producer) continue;
      std::vector<int> merged = members_[producer];
      merged.push_back(static_cast<int>(i));
      if (merged.size() > kMaxChain || ExternalInputs(merged).size() > kMaxInputs) continue;
      members_.erase(group_[i]);
      members_[producer] = std::move(merged);
      group_[i] = producer;
      attached_[producer].push_back(static_cast<int>(i));
    }
  }

  std::vector<ValueId> ExternalInputs(const std::vector<int>& members) const {
    std::set<ValueId> inside;
    for (int m : members) inside.insert(graph_.nodes[m].output(0));
    std::vector<ValueId> inputs;
    for (int m : members) {
      for (ValueId id : graph_.nodes[m].inputs) {
        if (id == kNoValue || inside.contains(id)) continue;
        if (std::find(inputs.begin(), inputs.end(), id) == inputs.end()) inputs.push_back(id);
      }
    }
    return inputs;
  }

  Node Fuse(int root) {
    std::vector<int> members = members_[root];
    std::sort(members.begin(), members.end());
    const std::vector<ValueId> inputs = ExternalInputs(members);
    auto body = std::make_shared<Graph>();
    body->name = "body";
    std::map<ValueId, ValueId> inner;
    for (ValueId id : inputs) inner[id] = body->AddInput(graph_.value(id).name, graph_.type(id));
    for (int m : members) {
      Node copy = graph_.nodes[m];
      for (ValueId& id : copy.inputs)
        if (id != kNoValue) id = inner.at(id);
      const ValueId outer = copy.outputs[0];
      copy.outputs[0] = inner[outer] = body->AddValue(graph_.value(outer).name, graph_.type(outer));
      body->nodes.push_back(std::move(copy));
    }
    const Node& last = graph_.nodes[root];
    Node fused{.op = "FusedElementwise", .domain = std::string(kMinimDomain), .name = last.name};
    fused.inputs = inputs;
    const std::vector<int>& attached = attached_[root];
    if (uses_[last.output(0)] > static_cast<int>(attached.size())) fused.outputs = last.outputs;
    for (int m : attached) fused.outputs.push_back(graph_.nodes[m].output(0));
    for (ValueId id : fused.outputs) body->outputs.push_back(inner.at(id));
    fused.subgraphs["body"] = std::move(body);
    return fused;
  }

  Graph& graph_;
  const PassContext& context_;
  std::vector<int> uses_;
  std::vector<int> producers_;
  std::vector<int> group_;
  std::map<int, std::vector<int>> members_;   // by the group, which is the index of its root
  std::map<int, std::vector<int>> attached_;  // quantizers of a root that others read too
};

}  // namespace

Result<bool> FuseElementwise(Graph& graph, const PassContext& context) {
  return Fuser(graph, context).Run();
}

}  // namespace minim
