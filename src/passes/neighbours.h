// Who makes and who reads the values of a graph, as it was when asked.
#pragma once

#include "graph/graph.h"

namespace minim {

class Neighbours {
 public:
  explicit Neighbours(const Graph& graph)
      : nodes_(graph.nodes),
        producers_(graph.Producers()),
        uses_(graph.UseCounts()),
        readers_(graph.values.size(), -1) {
    for (size_t i = 0; i < nodes_.size(); ++i)
      for (const ValueId id : nodes_[i].inputs)
        if (id != kNoValue) readers_[id] = static_cast<int>(i);
  }

  /// Null for graph inputs, constants and kNoValue.
  const Node* Producer(ValueId id) const {
    return id == kNoValue || producers_[id] < 0 ? nullptr : &nodes_[producers_[id]];
  }
  /// Null, too, where the value is read more than once.
  const Node* SoleProducer(ValueId id) const { return uses_[id] == 1 ? Producer(id) : nullptr; }
  /// The index of the only node that reads the value, once; -1 where others do, graph outputs and
  /// states among them.
  int SoleReader(ValueId id) const { return uses_[id] == 1 ? readers_[id] : -1; }
  /// The index of the last node that reads the value, -1 if none does.
  int LastReader(ValueId id) const { return readers_[id]; }
  int Uses(ValueId id) const { return uses_[id]; }

 private:
  const std::vector<Node>& nodes_;
  const std::vector<int> producers_, uses_;
  std::vector<int> readers_;  // the last one of each value's
};

}  // namespace minim
