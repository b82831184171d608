#include "compress/search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compress/timing.h"
#include "session/session_impl.h"

namespace minim {
namespace {

bool Over(Deadline deadline) { return std::chrono::steady_clock::now() > deadline; }

const Node* Producer(const Graph& graph, const std::string& output) {
  const ValueId id = graph.FindValue(output);
  for (const Node& node : graph.nodes)
    if (id != kNoValue && node.output(0) == id) return &node;
  return nullptr;
}

// What only the last op would miss: a failure of one subset must not end a search.
bool Impossible(const Status& status) { return status.code() == StatusCode::kUnsupported; }

}  // namespace

Result<ErrorMeter> ErrorMeter::Make(const Graph& reference, const Dataset& samples,
                                    const Feedback& feedback, size_t output) {
  ErrorMeter meter(samples, feedback, output);
  MINIM_TRY(meter.reference_, meter.Answer(reference));
  return meter;
}

Result<Tensor> ErrorMeter::Answer(const Graph& graph) const {
  MINIM_TRY(const std::shared_ptr<Session> session, MakeSession(graph, {}));
  ArraySource source(*samples_);
  return PredictSteps(*session, source, *feedback_, output_);
}

Result<double> ErrorMeter::Measure(const Graph& variant) const {
  MINIM_TRY(const Tensor answers, Answer(variant));
  double error = 0, norm = 0;
  for (int64_t i = 0; i < answers.size(); ++i) {
    const double wanted = reference_.as<float>()[i];
    error += std::pow(answers.as<float>()[i] - wanted, 2);
    norm += wanted * wanted;
  }
  if (!std::isfinite(error)) return std::numeric_limits<double>::infinity();
  return std::sqrt(error / std::max(norm, 1e-30));
}

Result<StaticChoice> ChooseStatic(const Graph& prepared, const ActivationProfile& profile,
                                  const ErrorMeter& meter, const StaticOptions& base,
                                  Deadline deadline, std::optional<Calibrator> only) {
  StaticChoice best{.error = -1};
  for (Calibrator calibrator : kCalibrators) {
    if (only && calibrator != *only) continue;
    for (bool correction : {false, true}) {
      if (best.error >= 0 && Over(deadline)) return best;
      StaticChoice tried{base};
      tried.options.calibrator = calibrator;
      tried.options.bias_correction = correction;
      MINIM_TRY(const Graph graph, QuantizeStatic(prepared, profile, tried.options));
      MINIM_TRY(tried.error, meter.Measure(graph));
      if (best.error < 0 || tried.error < best.error) best = std::move(tried);
    }
  }
  return best;
}

Result<std::vector<OpSensitivity>> MeasureSensitivity(
    const Graph& prepared, const ActivationProfile& profile, const StaticOptions& options,
    const ErrorMeter& meter, const Dataset& timed, Deadline deadline,
    const std::function<Status(double)>& progress) {
  std::vector<OpSensitivity> found;
  const std::vector<std::string> ops = QuantizableOps(prepared);
  MINIM_TRY(const Graph whole, QuantizeStatic(prepared, profile, options));
  MINIM_TRY(const std::shared_ptr<Session> all, MakeSession(whole, {}));
  const TimingOptions brief{
      .most_rounds = 20, .budget = std::chrono::milliseconds(300), .feedback = meter.feedback()};
  for (const std::string& op : ops) {
    if (Over(deadline)) break;
    if (progress)
      MINIM_TRY(progress(static_cast<double>(found.size()) / static_cast<double>(ops.size())));
    StaticOptions only = options, without = options;
    only.keep_float = {ops.begin(), ops.end()};
    only.keep_float.erase(op);
    without.keep_float = {op};
    const auto one = QuantizeStatic(prepared, profile, only);
    if (!one.ok() && Impossible(one.status())) continue;  // a recurrent layer, say
    if (!one.ok()) return one.status();
    const Node* node = Producer(prepared, op);
    OpSensitivity line{.op = op, .kind = node == nullptr ? "" : node->op};
    MINIM_TRY(line.error, meter.Measure(*one));
    const auto rest = QuantizeStatic(prepared, profile, without);
    if (rest.ok()) {
      MINIM_TRY(const std::shared_ptr<Session> session, MakeSession(*rest, {}));
      MINIM_TRY(const std::vector<Latency> times, TimeInTurns({all, session}, timed, 1, brief));
      line.saved_us = times[1].p50 - times[0].p50;
    }
    found.push_back(std::move(line));
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.error > b.error; });
  return found;
}

std::vector<std::set<std::string>> FloatSets(const std::vector<OpSensitivity>& sensitivity) {
  std::vector<std::set<std::string>> sets;
  for (size_t count = 1; count < sensitivity.size(); count *= 2) {
    sets.emplace_back();
    for (size_t i = 0; i < count; ++i) sets.back().insert(sensitivity[i].op);
  }
  if (sensitivity.size() > 2 && sets.back().size() + 1 < sensitivity.size()) {
    sets.emplace_back();
    for (size_t i = 0; i + 1 < sensitivity.size(); ++i) sets.back().insert(sensitivity[i].op);
  }
  return sets;
}

}  // namespace minim
