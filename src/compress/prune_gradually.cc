// Pruning in rounds, with fine-tuning between them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "compress/prune.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

Status CheckOptions(const GradualOptions& options) {
  if (options.rounds >= 1 && options.last_share > 0 && options.last_share <= 1) return {};
  return InvalidArgument(
      "pruning: rounds is {} and last_share {}, expected at least 1 and between 0 and 1",
      options.rounds, options.last_share);
}

// Fine-tuning of one round after another.
class Rounds {
 public:
  Rounds(DataSource& train, const GradualOptions& options)
      : train_(train), options_(options), start_(Clock::now()) {}

  /// Tunes pruned.graph for its part of the epochs.
  Status Tune(int round, const FineTuneHooks& hooks, Pruned& pruned) {
    FineTuneOptions tune = options_.tune;
    tune.epochs *= Share(round);
    tune.seed += static_cast<uint64_t>(round);
    if (tune.time_limit.count() > 0) {
      const auto part = std::chrono::duration_cast<std::chrono::milliseconds>(
          Remaining() * (Share(round) / SharesFrom(round)));
      tune.time_limit = std::max(part, std::chrono::milliseconds(1));
    }
    if (tune.progress)
      tune.progress = [this, round](double fraction, double loss) {
        const double before = 1 - SharesFrom(round);
        return options_.tune.progress(before + Share(round) * fraction, loss);
      };
    MINIM_TRY(FineTuned tuned, FineTune(pruned.graph, train_, tune, hooks));
    pruned.graph = std::move(tuned.graph);
    pruned.first_loss = tuned.first_loss;
    pruned.last_loss = tuned.last_loss;
    pruned.timed_out = pruned.timed_out || tuned.timed_out;
    return {};
  }

  bool Last(int round) const { return round + 1 == options_.rounds; }
  /// What is pruned after this round.
  double Target(int round) const {
    return CubicSparsity(0, options_.fraction, static_cast<double>(round + 1) / options_.rounds);
  }

 private:
  double Share(int round) const {
    if (options_.rounds == 1) return 1;
    return Last(round) ? options_.last_share : (1 - options_.last_share) / (options_.rounds - 1);
  }
  double SharesFrom(int round) const {
    double sum = 0;
    for (int r = round; r < options_.rounds; ++r) sum += Share(r);
    return sum;
  }
  std::chrono::duration<double, std::milli> Remaining() const {
    return std::max<Clock::duration>(options_.tune.time_limit - (Clock::now() - start_),
                                     Clock::duration::zero());
  }

  DataSource& train_;
  const GradualOptions& options_;
  const Clock::time_point start_;
};

// Where weights are zero and stay it.
class Masks {
 public:
  explicit Masks(const Graph& graph) {
    for (const Node& node : graph.nodes)
      for (int input : WeightInputs(node)) {
        const ValueId id = node.input(static_cast<size_t>(input));
        const Tensor* tensor = id == kNoValue ? nullptr : graph.constant(id);
        if (tensor != nullptr && tensor->dtype() == DType::f32 && tensor->dims().rank() > 1)
          zero_[id].resize(static_cast<size_t>(tensor->size()), false);
      }
  }

  bool empty() const { return zero_.empty(); }

  // The smallest weights of each layer, `sparsity` of them; ties by their place.
  void Choose(const Graph& graph, double sparsity) {
    for (auto& [id, zero] : zero_) {
      const auto weights = graph.constant(id)->as<float>();
      std::vector<size_t> order(weights.size());
      std::iota(order.begin(), order.end(), size_t{0});
      const auto count = static_cast<size_t>(sparsity * static_cast<double>(weights.size()));
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return std::abs(weights[a]) < std::abs(weights[b]);
      });
      std::fill(zero.begin(), zero.end(), false);
      for (size_t i = 0; i < count; ++i) zero[order[i]] = true;
    }
  }

  void Apply(Graph& graph) const {
    for (const auto& [id, zero] : zero_) {
      Tensor& tensor = graph.constants.at(id);
      tensor = tensor.Clone();  // others may hold the same buffer
      Apply(zero, tensor);
    }
  }

  void Apply(const Graph& graph, const TunedParameters& parameters) const {
    for (const auto& [id, zero] : zero_)
      if (Tensor* tensor = parameters.Find(graph.value(id).name)) Apply(zero, *tensor);
  }

 private:
  static std::vector<int> WeightInputs(const Node& node) {
    if (node.Is("Conv") || node.Is("ConvTranspose") || node.Is("Gemm") || node.Is("MatMul"))
      return {1};
    const bool recurrent = node.Is("LSTM") || node.Is("GRU") || node.Is("RNN");
    return recurrent ? std::vector<int>{1, 2} : std::vector<int>{};
  }

  static void Apply(const std::vector<bool>& zero, Tensor& tensor) {
    const auto values = tensor.as<float>();
    for (size_t i = 0; i < zero.size(); ++i)
      if (zero[i]) values[i] = 0;
  }

  std::map<ValueId, std::vector<bool>> zero_;
};

int64_t NonZero(const Graph& graph) {
  int64_t count = 0;
  for (const auto& [id, tensor] : graph.constants)
    if (tensor.dtype() == DType::f32 && tensor.dims().rank() > 0)
      for (float value : tensor.as<float>()) count += value != 0;
  return count;
}

}  // namespace

double CubicSparsity(double initial, double final, double share) {
  return final + (initial - final) * std::pow(1 - std::clamp(share, 0.0, 1.0), 3);
}

Result<Pruned> PruneChannelsGradually(const Graph& graph, DataSource& train,
                                      const GradualOptions& options, const FineTuneHooks& hooks) {
  MINIM_TRY(CheckOptions(options));
  // What cannot be pruned at all is said before any training.
  MINIM_TRY(PruneChannels(graph, options.fraction, options.channels).status());
  Rounds rounds(train, options);
  Pruned pruned{.graph = graph, .parameters_before = ParameterCount(graph)};
  for (int round = 0; round < options.rounds; ++round) {
    const double left = (1 - rounds.Target(round)) * static_cast<double>(pruned.parameters_before);
    const double fraction = 1 - left / static_cast<double>(ParameterCount(pruned.graph));
    PruneOptions channels = options.channels;
    if (!rounds.Last(round)) channels.multiple = 1;
    if (fraction > 0) {
      Result<Pruned> step = PruneChannels(pruned.graph, fraction, channels);
      if (!step.ok() && step.status().code() != StatusCode::kUnsupported) return step.status();
      if (step.ok()) pruned.graph = std::move(step->graph);
    }
    MINIM_TRY(rounds.Tune(round, hooks, pruned));
  }
  pruned.parameters_after = ParameterCount(pruned.graph);
  return pruned;
}

Result<Pruned> PruneMagnitude(const Graph& graph, DataSource& train, const GradualOptions& options,
                              const FineTuneHooks& hooks) {
  MINIM_TRY(CheckOptions(options));
  if (!(options.fraction > 0 && options.fraction < 1))
    return InvalidArgument("pruning: the fraction is {}, expected between 0 and 1",
                           options.fraction);
  Masks masks(graph);
  if (masks.empty())
    return Unsupported(
        "no weight can be pruned: no Conv, Gemm, MatMul or recurrent layer with "
        "constant FP32 weights");
  Rounds rounds(train, options);
  Pruned pruned{.graph = graph, .parameters_before = NonZero(graph)};
  FineTuneHooks masked = hooks;
  masked.after_step = [&](const TunedParameters& parameters) {
    masks.Apply(graph, parameters);
    if (hooks.after_step) hooks.after_step(parameters);
  };
  for (int round = 0; round < options.rounds; ++round) {
    masks.Choose(pruned.graph, rounds.Target(round));
    masks.Apply(pruned.graph);
    MINIM_TRY(rounds.Tune(round, masked, pruned));
  }
  pruned.parameters_after = NonZero(pruned.graph);
  return pruned;
}

}  // namespace minim
