#include "compress/quantize.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "compress/bias_correction.h"
#include "compress/value_choice.h"
#include "compress/weight_codes.h"
#include "ops/builder.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr float kMaxBias = 2147483000.0f;  // safely inside int32 after rounding
// Products of scales stay normal numbers: these times those of weights.
constexpr float kLeastActivationScale = 1e-20f;
constexpr float kLeastBiasScale = 1e-30f;

struct ActivationParams {
  ValueId scale = kNoValue;
  ValueId zero = kNoValue;
  float scale_value = 1;
};

class StaticQuantizer {
 public:
  StaticQuantizer(const Graph& source, const ActivationProfile& profile,
                  const StaticOptions& options, Graph& target)
      : source_(source),
        profile_(profile),
        options_(options),
        target_(target),
        builder_(target),
        choice_(ChooseQuantized(source, options.keep_float)) {}

  Result<bool> Run() {
    for (const auto& [root, sources] : choice_.sources) {
      MINIM_TRY(const Range range, RangeOf(sources));
      params_[root] = MakeParams(root, range);
    }
    if (params_.empty()) return false;
    const std::vector<Node> nodes = std::move(target_.nodes);
    target_.nodes.clear();
    for (ValueId id : source_.inputs)
      if (choice_.Chosen(id)) Pair(id);
    for (const Node& node : nodes) Rewrite(node);
    MINIM_TRY(builder_.status());
    return true;
  }

 private:
  Result<Range> RangeOf(const std::vector<ValueId>& sources) const {
    Range whole;
    for (ValueId id : sources) {
      const auto found = profile_.values.find(source_.value(id).name);
      if (found == profile_.values.end())
        return InvalidArgument("the calibration profile has no value '{}': it is of another model",
                               source_.value(id).name);
      whole = whole.Union(
          ChooseRange(found->second, options_.calibrator, options_.percentile, options_.symmetric));
    }
    return whole;
  }

  ActivationParams MakeParams(ValueId id, const Range& range) {
    const float spread =
        options_.symmetric ? 2 * std::max(-range.low, range.high) : range.high - range.low;
    const float steps = options_.symmetric ? 254 : 255;
    const float scale = spread > 0 ? std::max(spread / steps, kLeastActivationScale) : 1;
    const std::string& name = source_.value(id).name;
    Tensor zero = Tensor::Scalar(int8_t{0});
    if (!options_.symmetric)
      zero = Tensor::Scalar(
          static_cast<uint8_t>(std::clamp(std::nearbyint(-range.low / scale), 0.0f, 255.0f)));
    return {target_.AddConstant(name + "_scale", Tensor::Scalar(scale)),
            target_.AddConstant(name + "_zero_point", std::move(zero)), scale};
  }

  // Q and DQ right after the definition of `id`.
  void Pair(ValueId id) {
    const ActivationParams& p = params_.at(choice_.root.at(id));
    const ValueId q = builder_.Emit("QuantizeLinear", {id, p.scale, p.zero});
    paired_[id] = builder_.Emit("DequantizeLinear", {q, p.scale, p.zero});
  }

  void Rewrite(const Node& original) {
    Node node = original;
    const int axis = QuantizedAxis(source_, choice_, original);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (ReadsRounded(source_, choice_, original, static_cast<int>(i)))
        node.inputs[i] = paired_.at(original.inputs[i]);
    if (axis >= 0) {
      QuantizeParameters(original, axis, node);
    } else {
      target_.nodes.push_back(node);
    }
    for (ValueId id : original.outputs)
      if (id != kNoValue && choice_.Chosen(id)) Pair(id);
  }

  // Appends `node` with rounded weights and bias.
  void QuantizeParameters(const Node& original, int axis, Node& node) {
    const float x_scale = params_.at(choice_.root.at(original.input(0))).scale_value;
    const Tensor& weights = *source_.constant(original.input(1));
    const int64_t channels = weights.dims()[axis];
    std::optional<std::vector<float>> bias = BiasOf(original, channels);
    const QuantizedWeights rounded =
        Rounded(weights, axis, LeastScales(bias.value_or(std::vector<float>()), channels, x_scale));
    if (options_.bias_correction) Correct(original, weights, rounded, axis, bias);
    node.inputs[1] = WeightPair(source_.value(original.input(1)).name, rounded, axis);
    if (!bias) return target_.nodes.push_back(node);
    if (original.Is("MatMul")) return AppendWithAdd(node, *bias);
    const std::string name =
        original.input(2) == kNoValue ? "bias" : source_.value(original.input(2)).name;
    node.inputs.resize(3, kNoValue);
    node.inputs[2] = IntegerBias(*bias, rounded.scales, x_scale, name);
    target_.nodes.push_back(node);
  }

  // The bias if there is one value a channel (or one for all).
  std::optional<std::vector<float>> BiasOf(const Node& node, int64_t channels) const {
    const Tensor* bias = node.input(2) == kNoValue ? nullptr : source_.constant(node.input(2));
    if (bias == nullptr) return std::nullopt;
    const Dims& dims = bias->dims();
    const auto values = bias->as<float>();
    if (bias->size() == 1) return std::vector<float>(static_cast<size_t>(channels), values[0]);
    if (bias->size() != channels || dims[dims.rank() - 1] != channels) return std::nullopt;
    return std::vector<float>(values.begin(), values.end());
  }

  // A bias that would overflow int32 asks for a larger weight scale.
  static std::vector<float> LeastScales(const std::vector<float>& bias, int64_t channels,
                                        float x_scale) {
    std::vector<float> least(static_cast<size_t>(channels), kLeastBiasScale / x_scale);
    for (size_t c = 0; c < bias.size(); ++c)
      least[c] = std::max(least[c], std::fabs(bias[c]) / (kMaxBias * x_scale));
    return least;
  }

  QuantizedWeights Rounded(const Tensor& weights, int axis, const std::vector<float>& least) const {
    if (options_.per_channel) return QuantizeWeights(weights, axis, least);
    QuantizedWeights flat = QuantizeWeights(weights.Reshaped({1, weights.size()}), 0,
                                            {*std::max_element(least.begin(), least.end())});
    return {flat.values.Reshaped(weights.dims()), flat.scales};
  }

  void Correct(const Node& node, const Tensor& weights, const QuantizedWeights& rounded, int axis,
               std::optional<std::vector<float>>& bias) const {
    const auto input = profile_.values.find(source_.value(node.input(0)).name);
    const bool other_bias = !bias && node.input(2) != kNoValue;  // of a shape that is left alone
    if (input == profile_.values.end() || input->second.channel_mean.empty() || other_bias) return;
    const std::vector<float> shift =
        BiasShift(weights, rounded, axis, node.attributes.Int("group", 1), input->second);
    if (!bias) bias.emplace(shift.size(), 0.0f);
    for (size_t c = 0; c < shift.size(); ++c) (*bias)[c] += shift[c];
  }

  ValueId WeightPair(const std::string& name, const QuantizedWeights& rounded, int axis) {
    const auto count = static_cast<int64_t>(rounded.scales.size());
    const std::span<const float> scales = rounded.scales;
    const Dims dims = options_.per_channel ? Dims{count} : Dims();
    const ValueId scale = target_.AddConstant(name + "_scale", Tensor::From<float>(dims, scales));
    const ValueId values = target_.AddConstant(name + "_quantized", rounded.values);
    Attributes attributes;
    if (options_.per_channel) attributes.Set("axis", int64_t{axis});
    return builder_.Emit("DequantizeLinear", {values, scale}, std::move(attributes));
  }

  ValueId IntegerBias(const std::vector<float>& bias, const std::vector<float>& w_scales,
                      float x_scale, const std::string& name) {
    const Dims dims = {static_cast<int64_t>(bias.size())};
    Tensor values(DType::i32, dims);
    Tensor scales(DType::f32, options_.per_channel ? dims : Dims());
    for (size_t c = 0; c < bias.size(); ++c) {
      const size_t at = options_.per_channel ? c : 0;
      const float scale = x_scale * w_scales[at];
      scales.as<float>()[at] = scale;
      values.as<int32_t>()[c] =
          static_cast<int32_t>(std::clamp(std::nearbyint(bias[c] / scale), -kMaxBias, kMaxBias));
    }
    Attributes attributes;
    if (options_.per_channel) attributes.Set("axis", int64_t{0});
    return builder_.Emit("DequantizeLinear",
                         {target_.AddConstant(name + "_quantized", values),
                          target_.AddConstant(name + "_scale", scales)},
                         std::move(attributes));
  }

  // A MatMul has no bias: an Add makes the original value.
  void AppendWithAdd(Node& node, const std::vector<float>& bias) {
    const ValueId y = node.outputs[0];
    node.outputs[0] = target_.AddValue(source_.value(y).name + "_product", source_.type(y));
    const ValueId product = node.outputs[0];
    target_.nodes.push_back(node);
    const Dims dims = {static_cast<int64_t>(bias.size())};
    builder_.Add(product,
                 target_.AddConstant(source_.value(y).name + "_correction",
                                     Tensor::From<float>(dims, std::span<const float>(bias))));
    target_.nodes.back().outputs = {y};
  }

  const Graph& source_;
  const ActivationProfile& profile_;
  const StaticOptions& options_;
  Graph& target_;
  Builder builder_;
  const ValueChoice choice_;
  std::map<ValueId, ActivationParams> params_;  // by root
  std::map<ValueId, ValueId> paired_;           // value -> its dequantized twin
};

}  // namespace

Result<Graph> PrepareForQuantization(const Graph& graph) {
  Graph prepared = graph;
  MINIM_TRY(FoldConstants(prepared, {}));
  MINIM_TRY(FoldBatchNorm(prepared, {}));
  DropUnread(prepared);
  return prepared;
}

Result<Graph> QuantizeStatic(const Graph& prepared, const ActivationProfile& profile,
                             const StaticOptions& options) {
  MINIM_TRY(CheckKeepFloat(prepared, options.keep_float));
  if (!(options.percentile > 50 && options.percentile <= 100))
    return InvalidArgument("percentile is {}, expected above 50 and at most 100",
                           options.percentile);
  Graph result = prepared;
  MINIM_TRY(const bool any, StaticQuantizer(prepared, profile, options, result).Run());
  if (!any)
    return Unsupported("nothing to quantize: no Conv, Gemm or MatMul with constant weights");
  DropUnread(result);
  MINIM_TRY(Verify(result));
  return result;
}

}  // namespace minim
