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
        choice_(ChooseQuantized(source, options.keep_float)),
        uses_(source.UseCounts()) {}

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
    const double low = range.low, high = range.high;
    const double step = options_.symmetric ? std::max(-low, high) / 127 : (high - low) / 255;
    const float scale = step > 0 ? std::max(static_cast<float>(step), kLeastActivationScale) : 1.0f;
    Tensor zero = Tensor::Scalar(int8_t{0});
    if (!options_.symmetric)
      zero = Tensor::Scalar(
          static_cast<uint8_t>(std::clamp(std::nearbyint(-range.low / scale), 0.0f, 255.0f)));
    const std::string& name = source_.value(id).name;
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
    AddShift(node);
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
    if (bias && original.Is("MatMul")) {
      ShiftBehind(node, std::move(*bias));
      return;
    }
    if (!bias) return target_.nodes.push_back(node);
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
      least[c] = std::max(least[c], std::fabs(bias[c]) / (kMostBias * x_scale));
    return least;
  }

  QuantizedWeights Rounded(const Tensor& weights, int axis, const std::vector<float>& least) const {
    if (options_.per_channel) return QuantizeWeights(weights, axis, least);
    return QuantizeWeights(weights, -1, {*std::max_element(least.begin(), least.end())});
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
          static_cast<int32_t>(std::clamp(std::nearbyint(bias[c] / scale), -kMostBias, kMostBias));
    }
    Attributes attributes;
    if (options_.per_channel) attributes.Set("axis", int64_t{0});
    return builder_.Emit("DequantizeLinear",
                         {target_.AddConstant(name + "_quantized", values),
                          target_.AddConstant(name + "_scale", scales)},
                         std::move(attributes));
  }

  // A MatMul has no bias: the Add behind it takes the shift, or a new one makes the original value.
  void ShiftBehind(Node& node, std::vector<float> shift) {
    const ValueId y = node.outputs[0];
    if (AddBehind(y, shift.size())) {
      shifts_.emplace(y, std::move(shift));
      return target_.nodes.push_back(node);
    }
    const ValueId product = target_.AddValue(source_.value(y).name + "_product", source_.type(y));
    node.outputs[0] = product;
    target_.nodes.push_back(node);
    builder_.Add(product, target_.AddConstant(source_.value(y).name + "_shift", Row(shift)));
    target_.nodes.back().outputs = {y};
  }

  static Tensor Row(const std::vector<float>& values) {
    return Tensor::From<float>({static_cast<int64_t>(values.size())},
                               std::span<const float>(values));
  }

  // Whether an Add of one constant per channel is all that reads `y`.
  bool AddBehind(ValueId y, size_t channels) const {
    if (uses_[y] != 1) return false;
    for (const Node& node : source_.nodes)
      if (node.Is("Add") && (node.input(0) == y || node.input(1) == y)) {
        const Tensor* bias = source_.constant(node.input(node.input(0) == y ? 1 : 0));
        return bias != nullptr && bias->dims() == Dims{static_cast<int64_t>(channels)};
      }
    return false;
  }

  void AddShift(Node& node) {
    for (size_t i = 0; i < 2 && node.Is("Add"); ++i) {
      const auto found = shifts_.find(node.inputs[i]);
      if (found == shifts_.end()) continue;
      ValueId& constant = node.inputs[1 - i];
      std::vector<float> sum = found->second;
      for (size_t c = 0; c < sum.size(); ++c) sum[c] += source_.constant(constant)->as<float>()[c];
      constant = target_.AddConstant(source_.value(constant).name + "_shifted", Row(sum));
    }
  }

  const Graph& source_;
  const ActivationProfile& profile_;
  const StaticOptions& options_;
  Graph& target_;
  Builder builder_;
  const ValueChoice choice_;
  const std::vector<int> uses_;
  std::map<ValueId, ActivationParams> params_;    // by root
  std::map<ValueId, ValueId> paired_;             // value -> its dequantized twin
  std::map<ValueId, std::vector<float>> shifts_;  // of products, for the Adds behind them
};

}  // namespace

Result<Graph> PrepareForQuantization(const Graph& graph) {
  Graph prepared = graph;
  MINIM_TRY(Simplify(prepared, {}));
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
