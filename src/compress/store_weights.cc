#include "compress/store_weights.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "compress/quantizable.h"
#include "compress/value_choice.h"
#include "compress/weight_codes.h"
#include "core/dtype.h"
#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {
namespace {

// The value that stands for weight input `input` of `node`, made in the builder's graph; kNoValue
// where it stays. `source` holds the weights.
using Store = std::function<ValueId(Builder&, const Graph& source, const Node& node, int input)>;

// Every weight input of every node but `keep_float` goes through `store`. Errors: kUnsupported if
// all stay; kInvalidArgument for unknown names.
Result<Graph> ReplaceWeights(const Graph& graph, std::string_view form,
                             const std::set<std::string>& keep_float, const Store& store) {
  Graph source = graph;
  MINIM_TRY(FoldConstants(source, {}));  // exporters make recurrent weights of slices
  MINIM_TRY(CheckKeepFloat(source, keep_float));
  Graph result = source;
  Builder builder(result);
  result.nodes.clear();
  std::map<ValueId, ValueId> stored;  // nodes may share weights
  bool any = false;
  for (Node node : source.nodes) {
    const bool kept = keep_float.contains(OpName(source, node));
    for (int i : kept ? std::vector<int>() : WeightInputs(source, node)) {
      const auto [at, fresh] = stored.try_emplace(node.inputs[i], kNoValue);
      if (fresh) at->second = store(builder, source, node, i);
      if (at->second == kNoValue) continue;
      node.inputs[i] = at->second;
      any = true;
    }
    result.nodes.push_back(std::move(node));
  }
  MINIM_TRY(builder.status());
  if (!any)
    return Unsupported(
        "nothing to store in {}: no Conv, Gemm, MatMul, LSTM, GRU or RNN with constant weights "
        "that would shrink",
        form);
  DropUnread(result);
  MINIM_TRY(Verify(result));
  return result;
}

TensorRange RangeOf(const std::string& name, const Tensor& given, const Tensor& stored) {
  TensorRange range{.name = name, .smallest_nonzero = std::numeric_limits<float>::infinity()};
  const Tensor back = Converted(stored.view(), DType::f32);
  double error = 0, norm = 0;
  for (int64_t i = 0; i < given.size(); ++i) {
    const float x = given.as<float>()[i], y = back.as<float>()[i];
    range.max_abs = std::max(range.max_abs, std::fabs(x));
    if (x != 0) range.smallest_nonzero = std::min(range.smallest_nonzero, std::fabs(x));
    range.overflow += std::isfinite(x) && !std::isfinite(y);
    range.underflow += x != 0 && y == 0;
    if (!std::isfinite(x) || !std::isfinite(y)) continue;
    error += std::pow(static_cast<double>(y) - x, 2);
    norm += std::pow(static_cast<double>(x), 2);
  }
  if (std::isinf(range.smallest_nonzero)) range.smallest_nonzero = 0;  // all are 0
  range.relative_rms_error = norm > 0 ? std::sqrt(error / norm) : 0;
  return range;
}

// Weights as a matrix whose rows or columns are summed over: `axis` of dims is the summed one.
struct Summed {
  Dims dims;
  int axis = 1;
};

Summed SummedAxis(const Graph& graph, const Node& node, const Tensor& weights) {
  const Dims& dims = weights.dims();
  if (RecurrentWithWeights(graph, node)) return {dims, 2};
  const int channels = ChannelAxis(graph, node);
  if (!node.Is("Conv")) return {dims, 1 - channels};
  return {{dims[0], dims.Elements(1, dims.rank())}, 1};  // one filter a row
}

struct BlockedWeights {
  Tensor values, scales;
};

// Integers of weights in blocks along an axis: element (o, k, i) of [outer, channels, inner] has
// the scale (o, k / block, i).
class Blocks {
 public:
  Blocks(const Tensor& weights, const Summed& summed, int bits, int64_t block)
      : w_(weights.as<float>()),
        runs_(summed.dims, summed.axis),
        block_(block),
        blocks_((runs_.channels + block - 1) / block),
        most_(bits == 4 ? 7.0f : 127.0f),
        values_(bits == 4 ? DType::i4 : DType::i8, summed.dims),
        scales_(DType::f32, ScaleDims(summed)) {}

  BlockedWeights Run() && {
    const auto scales = scales_.as<float>();
    ForEach([&](int64_t i, int64_t at) { scales[at] = std::max(scales[at], std::fabs(w_[i])); });
    for (float& scale : scales) scale = scale > 0 ? scale / most_ : 1;
    if (values_.dtype() == DType::i4) Shrink();
    ForEach([&](int64_t i, int64_t at) {
      if (values_.dtype() == DType::i4) {
        values_.as<Int4>()[i] = Int4(static_cast<int64_t>(Step(w_[i], scales[at])));
      } else {
        values_.as<int8_t>()[i] = static_cast<int8_t>(Step(w_[i], scales[at]));
      }
    });
    return {std::move(values_), std::move(scales_)};
  }

 private:
  Dims ScaleDims(const Summed& summed) const {
    Dims dims = summed.dims;
    dims[summed.axis] = blocks_;
    return dims;
  }

  // f(element, its scale) for all of them.
  template <typename F>
  void ForEach(F&& f) const {
    for (int64_t o = 0; o < runs_.outer; ++o)
      for (int64_t k = 0; k < runs_.channels; ++k)
        for (int64_t i = 0; i < runs_.inner; ++i)
          f((o * runs_.channels + k) * runs_.inner + i,
            (o * blocks_ + k / block_) * runs_.inner + i);
  }

  float Step(float w, float scale) const {
    return std::clamp(std::nearbyint(w / scale), -most_, most_);
  }

  // With so few steps, clipping a block's largest weights can cost less than rounding the others:
  // each takes the scale of least squared error.
  void Shrink() {
    const std::vector<float> widest(scales_.as<float>().begin(), scales_.as<float>().end());
    std::vector<double> least(widest.size(), std::numeric_limits<double>::infinity());
    for (const float share : {1.0f, 0.94f, 0.88f, 0.82f, 0.76f, 0.7f}) {
      std::vector<double> error(widest.size(), 0);
      ForEach([&](int64_t i, int64_t at) {
        const float scale = widest[at] * share;
        error[at] += std::pow(static_cast<double>(Step(w_[i], scale)) * scale - w_[i], 2);
      });
      for (size_t at = 0; at < widest.size(); ++at) {
        if (error[at] >= least[at]) continue;
        least[at] = error[at];
        scales_.as<float>()[at] = widest[at] * share;
      }
    }
  }

  std::span<const float> w_;
  ChannelRuns runs_;
  int64_t block_, blocks_;
  float most_;
  Tensor values_, scales_;
};

// A DequantizeLinear, behind it a Reshape where the weights are no matrix.
ValueId StoredBlocks(Builder& builder, const Graph& graph, const Node& node, int input, int bits,
                     int64_t block) {
  const Tensor& weights = *graph.constant(node.input(input));
  const Summed summed = SummedAxis(graph, node, weights);
  const int64_t whole = std::max<int64_t>(1, summed.dims[summed.axis]);
  if (block == 0) block = whole;
  const BlockedWeights stored = Blocks(weights, summed, bits, block).Run();
  if (stored.values.size() * bits / 8 + 4 * stored.scales.size() >= 4 * weights.size())
    return kNoValue;
  const std::string& name = graph.value(node.input(input)).name;
  Graph& target = builder.graph();
  const ValueId values = target.AddConstant(name + "_quantized", stored.values);
  const ValueId scales = target.AddConstant(name + "_scale", stored.scales);
  const ValueId wide = builder.Emit("DequantizeLinear", {values, scales},
                                    {{"axis", int64_t{summed.axis}}, {"block_size", block}});
  return summed.dims == weights.dims() ? wide : builder.Reshape(wide, weights.dims());
}

}  // namespace

Result<Graph> StoreWeights16(const Graph& graph, DType dtype, std::vector<TensorRange>* ranges) {
  if (dtype != DType::f16 && dtype != DType::bf16)
    return InvalidArgument("weights cannot be stored as {}: choose f16 or bf16", Name(dtype));
  return ReplaceWeights(graph, Name(dtype), {},
                        [&](Builder& builder, const Graph& source, const Node& node, int input) {
                          const Tensor& given = *source.constant(node.input(input));
                          const Tensor stored = Converted(given.view(), dtype);
                          const std::string& name = source.value(node.input(input)).name;
                          if (ranges) ranges->push_back(RangeOf(name, given, stored));
                          const std::string stored_name = fmt::format("{}_{}", name, Name(dtype));
                          return builder.Cast(builder.graph().AddConstant(stored_name, stored),
                                              DType::f32);
                        });
}

Result<Graph> StoreWeightsInt(const Graph& graph, int bits, int block,
                              const std::set<std::string>& keep_float) {
  if (bits != 4 && bits != 8) return InvalidArgument("bits is {}, expected 4 or 8", bits);
  if (block != 0 && (block < 16 || (block & (block - 1)) != 0))
    return InvalidArgument("block is {}, expected 0 or a power of two from 16 up", block);
  return ReplaceWeights(graph, bits == 4 ? "INT4" : "INT8", keep_float,
                        [&](Builder& builder, const Graph& source, const Node& node, int input) {
                          return StoredBlocks(builder, source, node, input, bits, block);
                        });
}

}  // namespace minim
