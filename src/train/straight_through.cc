#include "train/straight_through.h"

#include "ops/builder.h"

namespace minim {
namespace {

// The ends of an 8-bit dtype.
std::pair<float, float> Reach(DType dtype) {
  return dtype == DType::i8 ? std::pair{-128.0f, 127.0f} : std::pair{0.0f, 255.0f};
}

class Rewriter {
 public:
  Rewriter(Graph& graph, const std::vector<ValueId>& trained)
      : graph_(graph), builder_(graph), depends_(graph.values.size(), false) {
    for (ValueId id : trained) depends_[id] = true;
  }

  Status Run() {
    const std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (const Node& node : nodes) {
      for (ValueId id : node.inputs) {
        if (id == kNoValue || !depends_[id]) continue;
        for (ValueId y : node.outputs)
          if (y != kNoValue) depends_[y] = true;
      }
      if (node.Is("QuantizeLinear")) quantized_[node.output(0)] = node;
      const auto source =
          node.Is("DequantizeLinear") ? quantized_.find(node.input(0)) : quantized_.end();
      if (source != quantized_.end() && depends_[source->second.input(0)] && Fits(source->second))
        Pass(source->second, node);
      else
        graph_.nodes.push_back(node);
    }
    return builder_.status();
  }

 private:
  bool Fits(const Node& quantize) const {
    const DType dtype = graph_.type(quantize.output(0)).dtype;
    return (dtype == DType::i8 || dtype == DType::u8) &&
           quantize.attributes.Int("block_size", 0) == 0;
  }

  void Pass(const Node& quantize, Node dequantize) {
    const ValueId x = quantize.input(0), y = dequantize.output(0);
    const ValueId rounded = graph_.AddValue("", graph_.type(y));
    dequantize.outputs = {rounded};
    graph_.nodes.push_back(std::move(dequantize));
    const ValueId limited = Limited(quantize, x);
    graph_.AddNode("StraightThrough", {rounded, limited}, 0, {}, kMinimDomain).outputs = {y};
  }

  // x within what the integers reach.
  ValueId Limited(const Node& quantize, ValueId x) {
    const Tensor* scale = graph_.constant(quantize.input(1));
    const Tensor* zero =
        quantize.input(2) == kNoValue ? nullptr : graph_.constant(quantize.input(2));
    if (scale == nullptr || scale->dtype() != DType::f32 || graph_.type(x).dtype != DType::f32 ||
        (zero == nullptr && quantize.input(2) != kNoValue))
      return x;
    const Dims dims = BesideChannels(quantize, x, scale->size());
    Tensor low(DType::f32, dims), high(DType::f32, dims);
    const auto [least, most] = Reach(graph_.type(quantize.output(0)).dtype);
    for (int64_t i = 0; i < scale->size(); ++i) {
      const float offset = zero == nullptr ? 0 : ZeroPoint(*zero, i), step = scale->as<float>()[i];
      low.as<float>()[i] = (least - offset) * step;
      high.as<float>()[i] = (most - offset) * step;
    }
    const ValueId from = builder_.Constant(std::move(low)), to = builder_.Constant(std::move(high));
    if (dims.rank() == 0) return builder_.Emit("Clip", {x, from, to});
    return builder_.Emit("Min", {builder_.Emit("Max", {x, from}), to});
  }

  static float ZeroPoint(const Tensor& zero, int64_t i) {
    return zero.dtype() == DType::i8 ? static_cast<float>(zero.as<int8_t>()[i])
                                     : static_cast<float>(zero.as<uint8_t>()[i]);
  }

  // The dims by which one number a channel stands beside x; those of a scalar for one number.
  Dims BesideChannels(const Node& quantize, ValueId x, int64_t channels) const {
    if (channels == 1) return {};
    const int rank = graph_.type(x).rank();
    const int64_t axis = quantize.attributes.Int("axis", 1);
    Dims dims = Dims::Filled(rank, 1);
    dims[static_cast<int>(axis < 0 ? axis + rank : axis)] = channels;
    return dims;
  }

  Graph& graph_;
  Builder builder_;
  std::vector<bool> depends_;
  std::map<ValueId, Node> quantized_;  // by its output
};

}  // namespace

Status PassThroughRounding(Graph& graph, const std::vector<ValueId>& trained) {
  return Rewriter(graph, trained).Run();
}

}  // namespace minim
