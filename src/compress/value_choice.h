// Which values of a graph static quantization rounds to 8 bits, and which of them must share scale
// and zero point so that an op which only moves elements can run on integers.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace minim {

/// The axis of output channels in the constant f32 weights of a Conv, Gemm or MatMul that can be
/// quantized; -1 for every other node.
int ChannelAxis(const Graph& graph, const Node& node);

struct ValueChoice {
  std::map<ValueId, ValueId> root;  // chosen value -> the value that names its parameters
  std::map<ValueId, std::vector<ValueId>> sources;  // root -> values whose ranges make its range
  std::set<ValueId> rounded_for_all;                // not even float ops read the unrounded value
  std::set<ValueId> kept_float;  // first outputs of ops that are left as they are

  bool Chosen(ValueId id) const { return root.contains(id); }
};

/// Chosen are: what a quantizable node multiplies its weights with; what a Conv makes (behind its
/// Relu or Clip), so that it ends in integers; both sides of an Add whose sum is chosen; what
/// reaches a chosen value through a pool, a change of shape or a Concat.
/// `folded`: constants are folded and batch norms are in the weights. Quantizable nodes whose first
/// output is named in `keep_float` are not quantized: then no value is chosen that was not before.
ValueChoice ChooseQuantized(const Graph& folded, const std::set<std::string>& keep_float = {});

/// ChannelAxis of a node that is quantized; -1 for every other.
int QuantizedAxis(const Graph& graph, const ValueChoice& choice, const Node& node);

/// Whether input `index` of `node` reads the rounded value.
bool ReadsRounded(const Graph& graph, const ValueChoice& choice, const Node& node, int index);

}  // namespace minim
