#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "core/requantize.h"
#include "passes/passes.h"

namespace minim {
namespace {

// The quantization parameters of a Q or DQ node, all constant.
struct Params {
  ValueId scale = kNoValue;
  ValueId zero = kNoValue;  // never omitted: a zero constant is made
};

bool SameConstant(const Graph& graph, ValueId a, ValueId b) {
  if (a == b) return true;
  const Tensor *left = graph.constant(a), *right = graph.constant(b);
  return left != nullptr && right != nullptr && left->dtype() == right->dtype() &&
         left->size() == right->size() &&
         std::memcmp(left->data(), right->data(), left->bytes()) == 0;
}

class QdqFuser {
 public:
  QdqFuser(Graph& graph, const PassContext& context)
      : graph_(graph),
        context_(context),
        producers_(graph.Producers()),
        uses_(graph.UseCounts()),
        gone_(graph.nodes.size(), false) {}

  /// Q(Concat(DQ(a), DQ(b))) becomes Concat(Q(DQ(a)), Q(DQ(b))): the same bytes, but floats of
  /// each part alone, which element-wise fusion keeps out of memory.
  bool QuantizePartsOfConcat() {
    std::vector<Node> nodes;
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node node = graph_.nodes[i];
      if (gone_[i]) continue;
      const Tail tail = node.Is("Concat") ? FindTail(node.output(0)) : Tail{};
      if (tail.q >= 0 && tail.activation < 0 && AllPerTensorDq(node.inputs)) {
        nodes.push_back(QuantizeParts(node, graph_.nodes[tail.q], &nodes));
        gone_[tail.q] = changed = true;
      } else {
        nodes.push_back(node);
      }
    }
    if (changed) graph_.nodes = std::move(nodes);
    return changed;
  }

  bool Run() {
    bool changed = false;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const std::string& op = graph_.nodes[i].op;
      if (!graph_.nodes[i].domain.empty()) continue;
      const bool fused = op == "Conv"     ? FuseConv(i)
                         : op == "Gemm"   ? FuseGemm(i)
                         : op == "MatMul" ? FuseMatMul(i)
                                          : FusePassThrough(i);
      changed = changed || fused;
    }
    size_t index = 0;
    graph_.RemoveNodes([&](const Node&) { return gone_[index++]; });
    return changed;
  }

 private:
  Node* ProducerOf(ValueId id, std::string_view op) {
    if (id == kNoValue || producers_[id] < 0) return nullptr;
    Node& node = graph_.nodes[producers_[id]];
    return node.Is(op) && !gone_[producers_[id]] ? &node : nullptr;
  }

  // The node that alone reads `id`, and its index.
  int SoleReader(ValueId id) const {
    if (uses_[id] != 1) return -1;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto& inputs = graph_.nodes[i].inputs;
      if (!gone_[i] && std::find(inputs.begin(), inputs.end(), id) != inputs.end())
        return static_cast<int>(i);
    }
    return -1;
  }

  bool Constant(ValueId id) const { return graph_.constant(id) != nullptr; }
  bool ScalarConstant(ValueId id) const {
    const Tensor* tensor = graph_.constant(id);
    return tensor != nullptr && tensor->size() == 1 && tensor->dtype() == DType::f32;
  }

  Params ParamsOf(const Node& node, DType dtype) {
    Params params{node.input(1), node.input(2)};
    if (params.zero == kNoValue)
      params.zero = graph_.AddConstant("", Tensor(dtype, graph_.constant(params.scale)->dims()));
    return params;
  }

  // A DQ of a byte tensor with one scale, whose parameters are constant.
  Node* PerTensorDq(ValueId id) {
    Node* dq = ProducerOf(id, "DequantizeLinear");
    if (dq == nullptr || !ScalarConstant(dq->input(1))) return nullptr;
    if (dq->input(2) != kNoValue && !Constant(dq->input(2))) return nullptr;
    const DType dtype = graph_.type(dq->input(0)).dtype;
    return dtype == DType::u8 || dtype == DType::i8 ? dq : nullptr;
  }

  bool AllPerTensorDq(const std::vector<ValueId>& ids) {
    return std::all_of(ids.begin(), ids.end(),
                       [&](ValueId id) { return PerTensorDq(id) != nullptr; });
  }

  // The concatenation of bytes; adds the Q of parts that have other parameters to `nodes`.
  Node QuantizeParts(Node concat, const Node& q, std::vector<Node>* nodes) {
    for (ValueId& part : concat.inputs) {
      const Node& dq = *PerTensorDq(part);
      if (SameParams(dq, q)) {
        part = dq.input(0);
        continue;
      }
      Node own = q;
      own.name.clear();
      own.inputs[0] = part;
      part = graph_.AddValue(graph_.value(part).name,
                             {graph_.type(q.output(0)).dtype, graph_.type(part).shape});
      own.outputs = {part};
      nodes->push_back(std::move(own));
    }
    concat.outputs = q.outputs;
    return concat;
  }

  // A DQ of constant int8 weights with zero points 0, per tensor or along `axis`.
  Node* WeightDq(ValueId id, int64_t axis) {
    Node* dq = ProducerOf(id, "DequantizeLinear");
    if (dq == nullptr || !Constant(dq->input(0)) || !Constant(dq->input(1))) return nullptr;
    if (graph_.type(dq->input(0)).dtype != DType::i8) return nullptr;
    if (dq->input(2) != kNoValue && !AllZero(dq->input(2))) return nullptr;
    const Tensor& scale = *graph_.constant(dq->input(1));
    if (scale.dims().rank() > 1 || dq->attributes.Int("block_size", 0) != 0) return nullptr;
    const int64_t rank = graph_.constant(dq->input(0))->dims().rank();
    const int64_t own_axis = dq->attributes.Int("axis", 1);
    const bool same_axis = (own_axis < 0 ? own_axis + rank : own_axis) == axis;
    return scale.size() == 1 || same_axis ? dq : nullptr;
  }

  bool AllZero(ValueId id) const {
    const Tensor* tensor = graph_.constant(id);
    if (tensor == nullptr) return false;
    const auto* bytes = static_cast<const std::byte*>(tensor->data());
    return std::all_of(bytes, bytes + tensor->bytes(),
                       [](std::byte b) { return b == std::byte{0}; });
  }

  // The Q that alone reads `id`, possibly behind a Relu or Clip that its saturation makes
  // redundant.
  struct Tail {
    int q = -1;
    int activation = -1;
  };
  Tail FindTail(ValueId id) {
    Tail tail{.q = SoleReader(id)};
    if (tail.q >= 0 && (graph_.nodes[tail.q].Is("Relu") || graph_.nodes[tail.q].Is("Clip"))) {
      tail.activation = tail.q;
      tail.q = SoleReader(graph_.nodes[tail.activation].output(0));
    }
    if (tail.q < 0 || !graph_.nodes[tail.q].Is("QuantizeLinear")) return {};
    const Node& q = graph_.nodes[tail.q];
    if (!ScalarConstant(q.input(1)) || (q.input(2) != kNoValue && !Constant(q.input(2)))) return {};
    const DType dtype = graph_.type(q.output(0)).dtype;
    if (dtype != DType::u8 && dtype != DType::i8) return {};
    return tail.activation < 0 || SaturationActs(graph_.nodes[tail.activation], q) ? tail : Tail{};
  }

  // Rounding is monotone: if the bounds of the activation become the least and the greatest byte,
  // every value beyond them does too.
  bool SaturationActs(const Node& activation, const Node& q) const {
    const bool relu = activation.Is("Relu");
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const auto bound = [&](int input, float none) -> std::optional<float> {
      if (activation.input(input) == kNoValue) return none;
      if (!ScalarConstant(activation.input(input))) return std::nullopt;
      return graph_.constant(activation.input(input))->as<float>()[0];
    };
    const std::optional<float> low = relu ? 0.0f : bound(1, -kInfinity);
    const std::optional<float> high = relu ? kInfinity : bound(2, kInfinity);
    const DType dtype = graph_.type(q.output(0)).dtype;
    const int32_t least = dtype == DType::u8 ? 0 : -128;
    const float scale = graph_.constant(q.input(1))->as<float>()[0];
    const int32_t zero =
        q.input(2) == kNoValue
            ? 0
            : static_cast<int32_t>(
                  Converted(graph_.constant(q.input(2))->view(), DType::i64).as<int64_t>()[0]);
    return low && high && Requantize(*low / scale, zero, least, least + 255) == least &&
           Requantize(*high / scale, zero, least, least + 255) == least + 255;
  }

  // The int32 constant behind a DQ with scale s_x * s_w; kNoValue with ok = true when there is
  // none.
  ValueId IntegerBias(ValueId bias, ValueId x_scale, ValueId w_scale, bool& ok) {
    ok = true;
    if (bias == kNoValue) return kNoValue;
    const Node* dq = ProducerOf(bias, "DequantizeLinear");
    ok = dq != nullptr && Constant(dq->input(0)) && Constant(dq->input(1)) &&
         graph_.type(dq->input(0)).dtype == DType::i32 &&
         (dq->input(2) == kNoValue || AllZero(dq->input(2))) &&
         ScaleIsProduct(*graph_.constant(dq->input(1)), x_scale, w_scale);
    return ok ? dq->input(0) : kNoValue;
  }

  bool ScaleIsProduct(const Tensor& scale, ValueId x_scale, ValueId w_scale) const {
    const float x = graph_.constant(x_scale)->as<float>()[0];
    const auto w = graph_.constant(w_scale)->as<float>();
    const auto s = scale.as<float>();
    if (s.size() != w.size()) return false;
    for (size_t i = 0; i < s.size(); ++i)
      if (std::fabs(s[i] - x * w[i]) > 1e-6f * std::fabs(s[i])) return false;
    return true;
  }

  void Replace(size_t index, Node fused, const Tail& tail) {
    fused.name = graph_.nodes[index].name;
    fused.outputs = {tail.q >= 0 ? graph_.nodes[tail.q].output(0) : graph_.nodes[index].output(0)};
    graph_.nodes[index] = std::move(fused);
    if (tail.q >= 0) gone_[tail.q] = true;
    if (tail.activation >= 0) gone_[tail.activation] = true;
    producers_[graph_.nodes[index].output(0)] = static_cast<int>(index);
  }

  bool FuseConv(size_t index) {
    const Node conv = graph_.nodes[index];
    Node *x = PerTensorDq(conv.input(0)), *w = WeightDq(conv.input(1), 0);
    const Tail tail = FindTail(conv.output(0));
    bool ok = false;
    if (x == nullptr || w == nullptr || tail.q < 0) return false;
    const ValueId bias = IntegerBias(conv.input(2), x->input(1), w->input(1), ok);
    if (!ok) return false;
    const Node &xn = *x, &wn = *w, &q = graph_.nodes[tail.q];
    const Params xp = ParamsOf(xn, graph_.type(xn.input(0)).dtype), wp = ParamsOf(wn, DType::i8);
    const Params yp = ParamsOf(q, graph_.type(q.output(0)).dtype);
    Node fused{.op = "QLinearConv", .attributes = conv.attributes};
    fused.inputs = {xn.input(0), xp.scale, xp.zero,  wn.input(0),
                    wp.scale,    wp.zero,  yp.scale, yp.zero};
    if (bias != kNoValue) fused.inputs.push_back(bias);
    Replace(index, std::move(fused), tail);
    return true;
  }

  bool FuseGemm(size_t index) {
    const Node gemm = graph_.nodes[index];
    const Attributes& a = gemm.attributes;
    const int64_t trans_b = a.Int("transB", 0);
    if (a.Int("transA", 0) != 0 || a.Float("alpha", 1) != 1 || a.Float("beta", 1) != 1 ||
        !context_.has_kernel("QGemm"))
      return false;
    Node *x = PerTensorDq(gemm.input(0)), *w = WeightDq(gemm.input(1), trans_b ? 0 : 1);
    bool ok = false;
    if (x == nullptr || w == nullptr) return false;
    const ValueId bias = IntegerBias(gemm.input(2), x->input(1), w->input(1), ok);
    if (!ok) return false;
    const Tail tail = FindTail(gemm.output(0));
    const Node &xn = *x, &wn = *w;
    const Params xp = ParamsOf(xn, graph_.type(xn.input(0)).dtype), wp = ParamsOf(wn, DType::i8);
    Node fused{.op = "QGemm", .domain = std::string(kMicrosoftDomain)};
    fused.attributes.Set("transB", trans_b);
    fused.inputs = {xn.input(0), xp.scale, xp.zero, wn.input(0), wp.scale, wp.zero, bias};
    if (tail.q >= 0) {  // without a Q the result is float
      const Node& q = graph_.nodes[tail.q];
      const Params yp = ParamsOf(q, graph_.type(q.output(0)).dtype);
      fused.inputs.insert(fused.inputs.end(), {yp.scale, yp.zero});
    }
    Replace(index, std::move(fused), tail);
    return true;
  }

  bool FuseMatMul(size_t index) {
    const Node matmul = graph_.nodes[index];
    const TensorType& wt = graph_.type(matmul.input(1));
    Node *x = PerTensorDq(matmul.input(0)),
         *w = WeightDq(matmul.input(1), wt.ranked() ? wt.rank() - 1 : 1);
    const Tail tail = FindTail(matmul.output(0));
    if (x == nullptr || w == nullptr) return false;
    const Node &xn = *x, &wn = *w;
    const Params xp = ParamsOf(xn, graph_.type(xn.input(0)).dtype), wp = ParamsOf(wn, DType::i8);
    if (tail.q < 0) return FuseFloatMatMul(index, xn.input(0), xp, wn.input(0), wp);
    const Node& q = graph_.nodes[tail.q];
    const Params yp = ParamsOf(q, graph_.type(q.output(0)).dtype);
    Node fused{.op = "QLinearMatMul"};
    fused.inputs = {xn.input(0), xp.scale, xp.zero,  wn.input(0),
                    wp.scale,    wp.zero,  yp.scale, yp.zero};
    Replace(index, std::move(fused), tail);
    return true;
  }

  // A product whose result stays float, with the bias that a following Add brings.
  bool FuseFloatMatMul(size_t index, ValueId a, const Params& ap, ValueId b, const Params& bp) {
    if (!context_.has_kernel("MatMulIntegerToFloat") || !graph_.type(b).Static()) return false;
    Node fused{.op = "MatMulIntegerToFloat", .domain = std::string(kMicrosoftDomain)};
    fused.inputs = {a, b, ap.scale, bp.scale, ap.zero, bp.zero};
    const int add = SoleReader(graph_.nodes[index].output(0));
    const ValueId bias =
        add >= 0 ? BiasOf(graph_.nodes[add], graph_.nodes[index].output(0)) : kNoValue;
    if (bias != kNoValue &&
        graph_.constant(bias)->dims() == Dims{graph_.type(b).dims()[graph_.type(b).rank() - 1]}) {
      fused.inputs.push_back(bias);
      graph_.nodes[index].outputs = graph_.nodes[add].outputs;
      gone_[add] = true;
    }
    Replace(index, std::move(fused), {});
    return true;
  }

  // The f32 constant that an Add adds to `id`.
  ValueId BiasOf(const Node& add, ValueId id) const {
    if (!add.Is("Add")) return kNoValue;
    const ValueId other = add.input(add.input(0) == id ? 1 : 0);
    const Tensor* bias = graph_.constant(other);
    return bias != nullptr && bias->dtype() == DType::f32 ? other : kNoValue;
  }

  // DQ -> op -> Q with equal parameters around an op that only moves or selects elements.
  bool FusePassThrough(size_t index) {
    const Node node = graph_.nodes[index];
    constexpr std::string_view kOps[] = {"MaxPool",   "Reshape", "Flatten",
                                         "Transpose", "Squeeze", "Unsqueeze"};
    if (std::find(std::begin(kOps), std::end(kOps), node.op) == std::end(kOps) ||
        node.output(1) != kNoValue)
      return false;
    const Tail tail = FindTail(node.output(0));
    if (tail.q < 0 || tail.activation >= 0) return false;
    const Node* dq = PerTensorDq(node.input(0));
    if (dq == nullptr || !SameParams(*dq, graph_.nodes[tail.q])) return false;
    Node moved = node;
    moved.inputs[0] = dq->input(0);
    Replace(index, std::move(moved), tail);
    return true;
  }

  bool SameParams(const Node& dq, const Node& q) const {
    if (graph_.type(dq.input(0)).dtype != graph_.type(q.output(0)).dtype) return false;
    if (!SameConstant(graph_, dq.input(1), q.input(1))) return false;
    const bool both_default = dq.input(2) == kNoValue && q.input(2) == kNoValue;
    return both_default || SameConstant(graph_, dq.input(2), q.input(2));
  }

  Graph& graph_;
  const PassContext& context_;
  std::vector<int> producers_;
  std::vector<int> uses_;
  std::vector<bool> gone_;
};

}  // namespace

Result<bool> FuseQdq(Graph& graph, const PassContext& context) {
  const bool moved = QdqFuser(graph, context).QuantizePartsOfConcat();
  const bool changed = QdqFuser(graph, context).Run() || moved;
  if (changed) MINIM_TRY(EliminateDeadCode(graph, context));
  return changed;
}

}  // namespace minim
