#include "exec/batch_rows.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "core/dtype.h"
#include "ops/infer.h"
#include "ops/op_def.h"

namespace minim {
namespace {

constexpr double kCacheBytes = 2 << 20;  // of a core: L2
constexpr double kWeightShare = 0.3;     // of the bytes of values
constexpr double kIdle = 1.25;           // threads' time in all over that at work

class RowChecker {
 public:
  RowChecker(const Graph& graph, int64_t rows)
      : graph_(graph), rows_(rows), follows_(graph.values.size(), false) {}

  /// By value: whether it has rows of the batch.
  const std::vector<bool>& follows() const { return follows_; }

  bool Run() {
    for (const ValueId id : graph_.inputs) {
      if (!HasRows(id) || dims(id)[0] != rows_) return false;
      follows_[id] = true;
    }
    for (const Node& node : graph_.nodes) {
      const bool follows = std::any_of(node.inputs.begin(), node.inputs.end(),
                                       [&](ValueId id) { return Follows(id); });
      if (!follows) continue;
      if (!KeepsRows(node)) return false;
      for (const ValueId id : node.outputs) {
        if (id == kNoValue) continue;
        if (!HasRows(id)) return false;
        follows_[id] = true;
      }
    }
    return std::all_of(graph_.outputs.begin(), graph_.outputs.end(),
                       [&](ValueId id) { return Follows(id) && dims(id)[0] == rows_; });
  }

 private:
  using Rule = bool (RowChecker::*)(const Node&) const;

  Dims dims(ValueId id) const { return graph_.type(id).dims(); }
  bool Follows(ValueId id) const { return id != kNoValue && follows_[id]; }
  // As many elements of axis 0 for each row, one row's after another's.
  bool HasRows(ValueId id) const {
    const TensorType& type = graph_.type(id);
    return type.Static() && type.dense() && type.rank() > 0 && dims(id)[0] > 0 &&
           dims(id)[0] % rows_ == 0;
  }
  bool KeepsFirstAxis(const Node& node) const {
    return Follows(node.input(0)) && dims(node.output(0))[0] == dims(node.input(0))[0];
  }
  // Nothing else comes from the batch.
  bool OnlyFirst(const Node& node) const {
    return Follows(node.input(0)) && std::none_of(node.inputs.begin() + 1, node.inputs.end(),
                                                  [&](ValueId id) { return Follows(id); });
  }
  // The axis of an attribute is not the first.
  bool AxisIsInside(const Node& node, int64_t otherwise) const {
    const int64_t axis = node.attributes.Int("axis", otherwise);
    const int rank = graph_.type(node.input(0)).rank();
    return axis % rank != 0 && axis >= -rank;
  }

  // None of the axes that a constant input lists is the first.
  bool AxesAreInside(const Node& node, int input) const {
    const Tensor* axes = graph_.constant(node.input(input));
    if (axes == nullptr || axes->size() == 0) return false;
    const Tensor indices = Converted(axes->view(), DType::i64);
    const int rank = graph_.type(node.input(0)).rank();
    return std::none_of(indices.as<int64_t>().begin(), indices.as<int64_t>().end(),
                        [&](int64_t axis) { return axis % rank == 0; });
  }

  bool Images(const Node& node) const { return OnlyFirst(node) && KeepsFirstAxis(node); }
  // Where a maximum lies is counted from the start of the batch.
  bool MaxPool(const Node& node) const { return Images(node) && node.output(1) == kNoValue; }
  bool BatchNorm(const Node& node) const {
    return Images(node) && node.attributes.Int("training_mode", 0) == 0;
  }
  // What is added to the products has their dims.
  bool Products(const Node& node) const {
    for (size_t i = 1; i < node.inputs.size(); ++i)
      if (Follows(node.inputs[i]) && (i < 3 || dims(node.inputs[i]) != dims(node.output(0))))
        return false;
    return KeepsFirstAxis(node);
  }
  bool Matrices(const Node& node) const {
    return OnlyFirst(node) && KeepsFirstAxis(node) && graph_.type(node.input(0)).rank() == 2 &&
           node.attributes.Int("transA", 0) == 0;
  }
  bool MatMul(const Node& node) const {
    const TensorType &a = graph_.type(node.input(0)), &b = graph_.type(node.input(1));
    if (!Follows(node.input(1)))
      return KeepsFirstAxis(node) && a.rank() >= 2 && b.rank() <= a.rank() &&
             (b.rank() <= 2 || b.dims()[0] == 1 || a.rank() > b.rank());
    return Follows(node.input(0)) && a.rank() == b.rank() && a.rank() >= 3 &&
           a.dims()[0] == b.dims()[0];
  }
  bool Elementwise(const Node& node) const {
    const Dims y = dims(node.output(0));
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      if (id == kNoValue) return true;
      const Dims x = dims(id);
      if (Follows(id)) return x.rank() == y.rank() && x[0] == y[0];
      return x.rank() < y.rank() || x.Elements() == 1 || (x.rank() == y.rank() && x[0] == 1);
    });
  }
  bool Concat(const Node& node) const {
    return AxisIsInside(node, 0) && std::all_of(node.inputs.begin(), node.inputs.end(),
                                                [&](ValueId id) { return Follows(id); });
  }
  // Along the last axis, after a line for the scale and one for the shift.
  bool ConcatLast(const Node& node) const {
    const auto follows = [&](ValueId id) { return Follows(id); };
    return dims(node.output(0)).rank() > 1 &&
           std::none_of(node.inputs.begin(), node.inputs.begin() + 2, follows) &&
           std::all_of(node.inputs.begin() + 2, node.inputs.end(), follows);
  }
  // By one scale, or one for each place of another axis.
  bool Quantized(const Node& node) const {
    return Images(node) && (dims(node.input(1)).Elements() == 1 || AxisIsInside(node, 1));
  }
  // Each place of other axes alone.
  bool AlongAxisOrLast(const Node& node) const { return Images(node) && AxisIsInside(node, -1); }
  bool AlongAxisOrFirst(const Node& node) const { return Images(node) && AxisIsInside(node, 0); }
  bool Reduce(const Node& node) const { return Images(node) && AxesAreInside(node, 1); }
  bool Slice(const Node& node) const { return Images(node) && AxesAreInside(node, 3); }
  bool Transpose(const Node& node) const {
    const std::vector<int64_t> perm = node.attributes.Ints("perm");
    return !perm.empty() && perm[0] == 0;
  }
  bool Attention(const Node& node) const {
    for (int i = 0; i < 3; ++i)
      if (!Follows(node.input(i))) return false;
    if (node.inputs.size() > 3 && Follows(node.input(3))) return false;
    for (const char* side : {"perm_q", "perm_k", "perm_v", "perm_y"}) {
      const std::vector<int64_t> perm = node.attributes.Ints(side);
      if (perm.size() < 3 ? !perm.empty() : perm[0] != 0) return false;
    }
    const auto mask = node.inputs.size() > 3 ? dims(node.input(3)) : Dims{};
    return graph_.type(node.input(0)).rank() >= 3 &&
           (mask.rank() < graph_.type(node.input(0)).rank() || mask[0] == 1);
  }

  bool KeepsRows(const Node& node) const {
    static const std::map<std::string, Rule, std::less<>> kRules = {
        {"Conv", &RowChecker::Images},
        {"FusedConv", &RowChecker::Products},
        {"NhwcFusedConv", &RowChecker::Products},
        {"QLinearConv", &RowChecker::Products},
        {"NhwcQLinearConv", &RowChecker::Products},
        {"ConvTranspose", &RowChecker::Images},
        {"MaxPool", &RowChecker::MaxPool},
        {"NhwcMaxPool", &RowChecker::MaxPool},
        {"AveragePool", &RowChecker::Images},
        {"NhwcAveragePool", &RowChecker::Images},
        {"GlobalAveragePool", &RowChecker::Images},
        {"GlobalMaxPool", &RowChecker::Images},
        {"InstanceNormalization", &RowChecker::Images},
        {"GroupNorm", &RowChecker::Images},
        {"BatchNormalization", &RowChecker::BatchNorm},
        {"LRN", &RowChecker::Images},
        {"Resize", &RowChecker::Images},
        {"DepthToSpace", &RowChecker::Images},
        {"SpaceToDepth", &RowChecker::Images},
        {"Gemm", &RowChecker::Matrices},
        {"FusedGemm", &RowChecker::Matrices},
        {"QGemm", &RowChecker::Matrices},
        {"MatMul", &RowChecker::MatMul},
        {"QLinearMatMul", &RowChecker::Matrices},
        {"QuantizeLinear", &RowChecker::Quantized},
        {"DequantizeLinear", &RowChecker::Quantized},
        {"Concat", &RowChecker::Concat},
        {"ConcatScale", &RowChecker::ConcatLast},
        {"Split", &RowChecker::AlongAxisOrFirst},
        {"Gather", &RowChecker::AlongAxisOrFirst},
        {"Slice", &RowChecker::Slice},
        {"ArgMax", &RowChecker::AlongAxisOrFirst},
        {"TopK", &RowChecker::AlongAxisOrLast},
        {"Softmax", &RowChecker::AlongAxisOrLast},
        {"LogSoftmax", &RowChecker::AlongAxisOrLast},
        {"LayerNormalization", &RowChecker::AlongAxisOrLast},
        {"ReduceMean", &RowChecker::Reduce},
        {"ReduceSum", &RowChecker::Reduce},
        {"ReduceMax", &RowChecker::Reduce},
        {"Transpose", &RowChecker::Transpose},
        {"FusedAttention", &RowChecker::Attention}};
    const OpDef* def = FindOp(node);
    if (def == nullptr || Has(def->traits, OpTrait::kRandom)) return false;
    if (Has(def->traits, OpTrait::kAlias)) return OnlyFirst(node);  // HasRows says the rest
    if (Has(def->traits, OpTrait::kElementwise)) return Elementwise(node);
    const auto rule = kRules.find(node.op);
    return rule != kRules.end() && (this->*rule->second)(node);
  }

  const Graph& graph_;
  const int64_t rows_;
  std::vector<bool> follows_;  // by value: has rows of the batch
};

double Bytes(const Graph& graph, ValueId id) {
  const TensorType& type = graph.type(id);
  return static_cast<double>(type.dims().Elements()) * static_cast<double>(SizeOf(type.dtype));
}

bool IsConv(const Node& node) { return node.op.ends_with("Conv"); }

struct Rows {
  int64_t count;
  std::vector<bool> follow;  // by value
};

std::optional<Rows> RowsOf(const Graph& graph) {
  if (graph.inputs.empty() || graph.outputs.empty() || !graph.states.empty()) return std::nullopt;
  for (const Node& node : graph.nodes)
    for (const auto& ids : {node.inputs, node.outputs})
      for (const ValueId id : ids)
        if (id != kNoValue && !(graph.type(id).dense() && graph.type(id).Static()))
          return std::nullopt;
  const TensorType& first = graph.type(graph.inputs[0]);
  if (!first.Static() || first.rank() == 0 || first.dims()[0] < 1) return std::nullopt;
  RowChecker checker(graph, first.dims()[0]);
  if (!checker.Run()) return std::nullopt;
  return Rows{first.dims()[0], checker.follows()};
}

void Shorten(TensorType* type, int64_t slices) {
  Dim& rows = (*type->shape)[0];
  rows = Dim(rows.value() / slices);
}

// Of the body of a chain: what has as many elements of axis 0 as the node's output.
void ShortenBody(Node* node, const Dims& y, int64_t slices) {
  const auto body = node->subgraphs.find("body");
  if (body == node->subgraphs.end()) return;
  auto shorter = std::make_shared<Graph>(*body->second);
  for (Value& value : shorter->values)
    if (value.type.Static() && value.type.rank() == y.rank() && value.type.dims()[0] == y[0])
      Shorten(&value.type, slices);
  body->second = std::move(shorter);
}

// The same nodes with axis 0 of what follows the batch cut; none if inference says otherwise.
std::optional<Graph> SliceOf(const Graph& whole, const std::vector<bool>& follows, int64_t slices) {
  Graph graph = whole;
  for (ValueId id = 0; id < static_cast<ValueId>(follows.size()); ++id)
    if (follows[id]) Shorten(&graph.value(id).type, slices);
  for (Node& node : graph.nodes) {
    const ValueId y = node.output(0);
    if (y == kNoValue || !follows[y]) continue;
    ShortenBody(&node, whole.type(y).dims(), slices);
    if (!node.Is("Reshape")) continue;
    const Dims dims = graph.type(y).dims();
    node.attributes.Set("allowzero", int64_t{1});
    node.inputs[1] =
        graph.AddConstant("", Tensor::From<int64_t>({dims.rank()}, {dims.begin(), dims.end()}));
  }
  Graph inferred = graph;
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs)
      if (id != kNoValue) inferred.value(id).type.shape = std::nullopt;
  if (!InferGraph(inferred).ok()) return std::nullopt;
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs)
      if (id != kNoValue &&
          (!inferred.type(id).Static() || inferred.type(id).dtype != graph.type(id).dtype ||
           inferred.type(id).dims() != graph.type(id).dims()))
        return std::nullopt;
  return graph;
}

}  // namespace

int64_t IndependentRows(const Graph& graph) {
  const std::optional<Rows> rows = RowsOf(graph);
  return rows ? rows->count : 0;
}

int64_t RowsTogether(const Graph& graph, int64_t rows, int threads) {
  double weights = 0, moved = 0, most = 0;  // bytes; of all rows
  std::set<ValueId> seen;
  bool images = false;
  for (const Node& node : graph.nodes) {
    images |= IsConv(node);
    double here = 0;
    for (const auto& ids : {node.inputs, node.outputs})
      for (const ValueId id : ids) {
        if (id == kNoValue) continue;
        if (graph.constant(id) == nullptr)
          here += Bytes(graph, id);
        else if (seen.insert(id).second)
          weights += Bytes(graph, id);
      }
    moved += here;
    most = std::max(most, here);
  }
  if (!images || most <= kCacheBytes) return rows;
  const auto pays = [&](int64_t together) {
    return weights * static_cast<double>(rows) <=
           kWeightShare * moved * static_cast<double>(together);
  };
  for (int64_t together = 1; together < rows; ++together) {
    if (rows % together != 0 || !pays(together)) continue;
    const int64_t slices = rows / together, turns = (slices + threads - 1) / threads;
    if (static_cast<double>(turns * threads) <= kIdle * static_cast<double>(slices))
      return together;
  }
  return rows;
}

int64_t SliceBatch(Graph& graph, int64_t together) {
  const std::optional<Rows> rows = RowsOf(graph);
  if (!rows || together < 1 || together >= rows->count || rows->count % together != 0) return 1;
  const int64_t slices = rows->count / together;
  std::optional<Graph> slice = SliceOf(graph, rows->follow, slices);
  if (!slice) return 1;
  graph = *std::move(slice);
  return slices;
}

}  // namespace minim
