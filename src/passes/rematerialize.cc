#include <algorithm>

#include "core/dtype.h"
#include "core/group_codes.h"
#include "ops/op_def.h"
#include "passes/passes.h"

namespace minim {
namespace {

bool IsAlias(const Node& node) {
  const OpDef* def = FindOp(node);
  return def != nullptr && Has(def->traits, OpTrait::kAlias);
}

int BitsOf(ActivationStorage storage) { return storage == ActivationStorage::kInt8 ? 8 : 4; }

// True if running the node again on the same inputs gives the same bits: all but draws that no
// input numbers.
bool Repeatable(const Node& node) {
  const OpDef* def = FindOp(node);
  return def != nullptr &&
         (!Has(def->traits, OpTrait::kRandom) || (node.Is("Dropout") && node.input(3) != kNoValue));
}

}  // namespace

size_t StoredBytes(const TensorType& type, ActivationStorage storage) {
  const int64_t elements = type.dims().Elements();
  switch (storage) {
    case ActivationStorage::kWhole: return static_cast<size_t>(elements) * SizeOf(type.dtype);
    case ActivationStorage::kHalf: return static_cast<size_t>(elements) * SizeOf(DType::bf16);
    case ActivationStorage::kInt8:
    case ActivationStorage::kInt4: break;
  }
  return static_cast<size_t>(CodeGroups(elements)) *
         (static_cast<size_t>(CodeBytes(BitsOf(storage))) + 2 * sizeof(float));
}

ForwardPart::ForwardPart(const Graph& graph, ValueId loss)
    : graph_(graph), producers_(graph.Producers()), runs_(graph.nodes.size(), false) {
  std::vector<ValueId> open = {loss};
  while (!open.empty()) {
    const int producer = producers_[open.back()];
    open.pop_back();
    if (producer < 0 || runs_[producer]) continue;
    runs_[producer] = true;
    for (ValueId id : graph.nodes[producer].inputs)
      if (id != kNoValue) open.push_back(id);
  }
}

bool ForwardPart::Makes(ValueId id) const {
  return id < static_cast<ValueId>(producers_.size()) && producers_[id] >= 0 &&
         runs_[producers_[id]];
}

ValueId ForwardPart::Stored(ValueId id) const {
  while (Makes(id) && IsAlias(graph_.nodes[producers_[id]])) {
    const ValueId input = graph_.nodes[producers_[id]].input(0);
    if (!Makes(input)) break;
    id = input;
  }
  return id;
}

std::set<ValueId> ForwardPart::Saved() const {
  std::set<ValueId> saved = Fixed();
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (runs_[i]) continue;
    for (ValueId id : graph_.nodes[i].inputs)
      if (id != kNoValue && Makes(id)) saved.insert(Stored(id));
  }
  return saved;
}

std::set<ValueId> ForwardPart::Fixed() const {
  std::set<ValueId> fixed;
  const auto add = [&](ValueId id) {
    if (id != kNoValue && Makes(id)) fixed.insert(id);
  };
  for (ValueId id : graph_.outputs) add(id);
  for (const State& state : graph_.states) {
    add(state.next);
    add(state.commit_if);
  }
  for (size_t i = 0; i < graph_.nodes.size(); ++i)
    if (runs_[i] && !Repeatable(graph_.nodes[i]))
      for (ValueId id : graph_.nodes[i].outputs) add(id);
  return fixed;
}

namespace {

class Rematerializer {
 public:
  Rematerializer(Graph& graph, const ForwardPart& forward, const RematerializeOptions& options)
      : graph_(graph), forward_(forward), options_(options), copy_(graph.values.size(), kNoValue) {}

  std::vector<int> Run() {
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    nodes_ = &nodes;
    for (size_t i = 0; i < nodes.size(); ++i) {
      Node node = nodes[i];
      const bool early = forward_.Runs(static_cast<int>(i));
      if (!early) {
        for (ValueId& id : node.inputs) id = Again(id);
      }
      Append(std::move(node), static_cast<int>(i));
      if (!early) continue;
      for (ValueId id : nodes[i].outputs)
        if (IsEncoded(id)) Encode(id);
    }
    return std::move(origins_);
  }

 private:
  bool IsThere(ValueId id) const {
    if (id == kNoValue || !forward_.Makes(id)) return true;
    const auto it = options_.keep.find(id);
    return it != options_.keep.end() && it->second == ActivationStorage::kWhole;
  }

  bool IsEncoded(ValueId id) const {
    const auto it = options_.keep.find(id);
    return it != options_.keep.end() && it->second != ActivationStorage::kWhole;
  }

  // What a late node reads in place of `id`.
  ValueId Again(ValueId id) {
    if (IsThere(id)) return id;
    std::vector<ValueId> open = {id};
    while (!open.empty()) {  // depth first, without recursion: chains may be thousands of nodes
      const ValueId next = open.back();
      bool ready = true;
      if (copy_[next] == kNoValue && !IsEncoded(next)) {
        for (ValueId input : (*nodes_)[forward_.ProducerOf(next)].inputs) {
          if (IsThere(input) || copy_[input] != kNoValue) continue;
          open.push_back(input);
          ready = false;
        }
      }
      if (!ready) continue;
      open.pop_back();
      if (copy_[next] == kNoValue) IsEncoded(next) ? Decode(next) : Copy(forward_.ProducerOf(next));
    }
    return copy_[id];
  }

  void Copy(int producer) {
    Node node = (*nodes_)[producer];
    for (ValueId& id : node.inputs)
      if (!IsThere(id)) id = copy_[id];
    for (ValueId& id : node.outputs) {
      if (id == kNoValue) continue;
      const ValueId again = graph_.AddValue(graph_.value(id).name, graph_.type(id));
      if (!IsEncoded(id)) copy_[id] = again;
      id = again;
    }
    if (!node.name.empty()) node.name += " again";
    Append(std::move(node), producer);
  }

  void Encode(ValueId id) {
    const ActivationStorage storage = options_.keep.at(id);
    const TensorType type = graph_.type(id);
    if (storage == ActivationStorage::kHalf) {
      codes_[id] = {Emit("Cast", {id}, {{"to", int64_t{OnnxId(DType::bf16)}}},
                         {{DType::bf16, type.shape}})[0]};
      return;
    }
    const ValueId wide = ToF32(id);
    const int bits = BitsOf(storage);
    const int64_t groups = CodeGroups(type.dims().Elements());
    codes_[id] = Emit(
        "EncodeActivation", {wide, options_.draw}, {{"bits", int64_t{bits}}, {"seed", int64_t{id}}},
        {{DType::u8, Shape{groups, CodeBytes(bits)}}, {DType::f32, Shape{groups, 2}}});
  }

  void Decode(ValueId id) {
    const ActivationStorage storage = options_.keep.at(id);
    const TensorType type = graph_.type(id);
    ValueId wide = codes_.at(id)[0];
    if (storage != ActivationStorage::kHalf) {
      const Dims dims = type.dims();
      wide = Emit("DecodeActivation", codes_.at(id),
                  {{"bits", int64_t{BitsOf(storage)}},
                   {"shape", std::vector<int64_t>(dims.begin(), dims.end())}},
                  {{DType::f32, type.shape}})[0];
    }
    copy_[id] = graph_.type(wide).dtype == type.dtype ? wide : CastTo(wide, type.dtype);
  }

  ValueId ToF32(ValueId id) {
    return graph_.type(id).dtype == DType::f32 ? id : CastTo(id, DType::f32);
  }

  ValueId CastTo(ValueId id, DType dtype) {
    return Emit("Cast", {id}, {{"to", int64_t{OnnxId(dtype)}}},
                {{dtype, graph_.type(id).shape}})[0];
  }

  std::vector<ValueId> Emit(std::string_view op, std::vector<ValueId> inputs, Attributes attributes,
                            std::vector<TensorType> types) {
    Node node{.op = std::string(op), .inputs = std::move(inputs)};
    if (op != "Cast") node.domain = kMinimDomain;
    node.attributes = std::move(attributes);
    for (TensorType& type : types) node.outputs.push_back(graph_.AddValue("", std::move(type)));
    std::vector<ValueId> outputs = node.outputs;
    Append(std::move(node), -1);
    return outputs;
  }

  void Append(Node node, int origin) {
    graph_.nodes.push_back(std::move(node));
    origins_.push_back(origin);
  }

  Graph& graph_;
  const ForwardPart& forward_;
  const RematerializeOptions& options_;
  const std::vector<Node>* nodes_ = nullptr;
  std::vector<ValueId> copy_;                      // by value: what late nodes read for it
  std::map<ValueId, std::vector<ValueId>> codes_;  // of what is encoded
  std::vector<int> origins_;
};

}  // namespace

std::vector<int> Rematerialize(Graph& graph, const ForwardPart& forward,
                               const RematerializeOptions& options) {
  return Rematerializer(graph, forward, options).Run();
}

}  // namespace minim
