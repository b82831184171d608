#include <algorithm>

#include "ops/builder.h"
#include "passes/neighbours.h"
#include "passes/passes.h"

namespace minim {
namespace {

// A MatMul of x (rank 3 or more) by a constant matrix, the Add of a bias that alone reads it, and
// perhaps an element-wise op that alone reads that: indices of nodes.
struct Chain {
  int product = -1, add = -1, activation = -1;

  int last() const { return activation >= 0 ? activation : add; }
};

class Flattener {
 public:
  explicit Flattener(Graph& graph) : graph_(graph), near_(graph) {}

  Result<bool> Run() {
    std::vector<Chain> chains(graph_.nodes.size());
    std::vector<bool> gone(graph_.nodes.size(), false);
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Chain chain = ChainFrom(static_cast<int>(i));
      if (chain.add < 0) continue;
      chains[i] = chain;
      gone[chain.add] = true;
      if (chain.activation >= 0) gone[chain.activation] = true;
      changed = true;
    }
    if (!changed) return false;
    const std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    Builder builder(graph_);
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (chains[i].add >= 0)
        Emit(builder, nodes, chains[i]);
      else if (!gone[i])
        graph_.nodes.push_back(nodes[i]);
    }
    MINIM_TRY(builder.status());
    return true;
  }

 private:
  Chain ChainFrom(int index) const {
    Chain chain{.product = index};
    const Node& product = graph_.nodes[index];
    if (!product.Is("MatMul") || !Flattens(product)) return {};
    const int add = near_.SoleReader(product.output(0));
    if (add < 0 || !graph_.nodes[add].Is("Add")) return {};
    const Tensor* bias = graph_.constant(BiasOf(product, graph_.nodes[add]));
    const int64_t columns = graph_.type(product.input(1)).dims()[1];
    if (bias == nullptr || bias->size() != columns || bias->dims().rank() == 0 ||
        bias->dims()[bias->dims().rank() - 1] != columns ||
        bias->dims().rank() > graph_.type(product.input(0)).rank())
      return {};
    chain.add = add;
    const int next = near_.SoleReader(graph_.nodes[add].output(0));
    if (next >= 0 && Activates(graph_.nodes[next])) chain.activation = next;
    return chain;
  }

  bool Flattens(const Node& product) const {
    const TensorType &x = graph_.type(product.input(0)), &w = graph_.type(product.input(1));
    if (graph_.constant(product.input(1)) == nullptr || !w.Static() || w.rank() != 2) return false;
    if (!x.ranked() || x.rank() < 3 || x.dtype != DType::f32) return false;
    // In Reshape's shape a 0 means something else.
    return w.dims().Elements() > 0 &&
           std::none_of(x.shape->begin(), x.shape->end(),
                        [](const Dim& dim) { return dim.known() && dim.value() == 0; });
  }

  static ValueId BiasOf(const Node& product, const Node& add) {
    return add.input(add.input(0) == product.output(0) ? 1 : 0);
  }

  // Of one value, with constants at most beside it.
  bool Activates(const Node& node) const {
    const OpDef* def = FindOp(node);
    if (def == nullptr || !Has(def->traits, OpTrait::kElementwise) || node.outputs.size() != 1 ||
        !node.subgraphs.empty())
      return false;
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const Tensor* beside = node.inputs[i] == kNoValue ? nullptr : graph_.constant(node.inputs[i]);
      if (node.inputs[i] != kNoValue && (beside == nullptr || beside->dims().rank() != 0))
        return false;
    }
    return graph_.constant(node.input(0)) == nullptr;
  }

  void Emit(Builder& b, const std::vector<Node>& nodes, const Chain& chain) {
    const Node &product = nodes[chain.product], &add = nodes[chain.add];
    const ValueId x = product.input(0), bias = BiasOf(product, add);
    const Dims w = graph_.type(product.input(1)).dims();
    const ValueId shape = ShapeOfResult(b, x, w[1]);
    ValueId y = b.Emit("Reshape", {x, b.Ints({-1, w[0]})});
    y = b.Emit("MatMul", {y, product.input(1)});
    graph_.nodes.back().name = product.name;
    y = b.Add(y, b.Constant(graph_.constant(bias)->Reshaped({w[1]})));
    if (chain.activation >= 0) {
      const Node& activation = nodes[chain.activation];
      std::vector<ValueId> inputs = activation.inputs;
      inputs[0] = y;
      y = b.Emit(activation.op, std::move(inputs), activation.attributes, activation.domain);
    }
    Node back{.op = "Reshape"};
    back.attributes.Set("allowzero", int64_t{1});
    back.inputs = {y, shape};
    back.outputs = nodes[chain.last()].outputs;
    graph_.nodes.push_back(std::move(back));
  }

  // x's dims but the last, and the columns: constant if that leaves one dim to be found.
  ValueId ShapeOfResult(Builder& b, ValueId x, int64_t columns) const {
    const Shape& shape = *graph_.type(x).shape;
    std::vector<int64_t> dims;
    for (size_t i = 0; i + 1 < shape.size(); ++i)
      dims.push_back(shape[i].known() ? shape[i].value() : -1);
    if (std::count(dims.begin(), dims.end(), -1) > 1) {
      const ValueId leading = b.Emit("Shape", {x}, {{"start", int64_t{0}}, {"end", int64_t{-1}}});
      return b.Emit("Concat", {leading, b.Ints({columns})}, {{"axis", int64_t{0}}});
    }
    dims.push_back(columns);
    return b.Ints(std::move(dims));
  }

  Graph& graph_;
  const Neighbours near_;
};

}  // namespace

Result<bool> FlattenProducts(Graph& graph, const PassContext&) { return Flattener(graph).Run(); }

}  // namespace minim
