#include "exec/cut.h"

#include <algorithm>
#include <set>

#include "ops/infer.h"

namespace minim {
namespace {

class Cutter {
 public:
  explicit Cutter(Graph& graph)
      : graph_(graph), known_(graph.values.size(), false), hosted_(graph.values.size(), false) {
    for (ValueId id : graph.inputs) (graph.type(id).dense() ? known_ : hosted_)[id] = true;
    for (const auto& [id, tensor] : graph.constants)
      (tensor.dtype() != DType::string ? known_ : hosted_)[id] = true;
  }

  Result<Cut> Run() {
    for (const Node& node : graph_.nodes) MINIM_TRY(Place(node));
    Hand();
    return std::move(cut_);
  }

 private:
  bool Every(const Node& node, bool (Cutter::*holds)(ValueId) const) const {
    return std::all_of(node.inputs.begin(), node.inputs.end(),
                       [&](ValueId id) { return id == kNoValue || (this->*holds)(id); });
  }
  bool Known(ValueId id) const { return known_[id]; }
  bool Available(ValueId id) const { return known_[id] || hosted_[id]; }

  Status Place(const Node& node) {
    if (!Every(node, &Cutter::Available)) {
      cut_.late.push_back(node);
      return {};
    }
    std::vector<int> positions;
    MINIM_TRY(InferNode(graph_, node, &positions));
    if (Every(node, &Cutter::Known) && IsStatic(node)) {
      for (ValueId id : node.outputs)
        if (id != kNoValue) known_[id] = true;
      cut_.early.push_back(node);
    } else if (OnHost(node) || (positions.empty() && Every(node, &Cutter::Known))) {
      PlaceOnHost(node);
    } else {
      // With every input known, only their contents are missing.
      if (Every(node, &Cutter::Known))
        for (int position : positions) cut_.awaited.push_back(node.input(position));
      cut_.late.push_back(node);
    }
    return {};
  }

  void PlaceOnHost(const Node& node) {
    std::vector<TensorType> types;
    for (ValueId id : node.outputs) {
      types.push_back(id == kNoValue ? TensorType{} : graph_.type(id));
      if (id != kNoValue) hosted_[id] = true;
    }
    cut_.host.push_back(node);
    cut_.host_types.push_back(std::move(types));
  }

  bool IsStatic(const Node& node) const {
    return !RunsOnHost(graph_, node) &&
           std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
             return id == kNoValue || (graph_.type(id).dense() && graph_.type(id).Static());
           });
  }

  // By its nature, whatever the shapes: other nodes after a host node go to an executable of their
  // own once its results are there.
  bool OnHost(const Node& node) const {
    if (RunsOnHost(graph_, node)) return true;
    const auto beyond = [&](ValueId id) { return id != kNoValue && !graph_.type(id).dense(); };
    return std::any_of(node.inputs.begin(), node.inputs.end(), beyond) ||
           std::any_of(node.outputs.begin(), node.outputs.end(), beyond);
  }

  void Hand() {
    std::set<ValueId> seen;
    const auto hand = [&](ValueId id) {
      if (id != kNoValue && known_[id] && seen.insert(id).second) cut_.handed.push_back(id);
    };
    for (ValueId id : graph_.outputs) hand(id);
    for (const std::vector<Node>* nodes : {&cut_.host, &cut_.late})
      for (const Node& node : *nodes)
        for (ValueId id : node.inputs)
          if (id != kNoValue && graph_.constant(id) == nullptr) hand(id);
  }

  Graph& graph_;
  std::vector<bool> known_;   // early, or dense from the start
  std::vector<bool> hosted_;  // by a host node, or of a kind only those take
  Cut cut_;
};

}  // namespace

Result<Cut> CutGraph(Graph& graph) { return Cutter(graph).Run(); }

}  // namespace minim
