#include "compress/shrink.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

#include "compress/quantize.h"
#include "compress/store_weights.h"
#include "data/dataset.h"
#include "onnx/onnx.h"
#include "session/session_impl.h"
#include "train/metrics.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;
using Progress = std::function<void(double, const std::string&)>;

constexpr int kTimingRounds = 60, kLeastRounds = 2, kWarmRounds = 1;
constexpr std::chrono::seconds kTimingBudget{10};  // per batch size; large models get fewer rounds
constexpr double kNoise = 0.03;                    // a smaller difference of medians is no gain

struct Candidate {
  VariantReport report;
  std::string bytes;  // of the ONNX file
  std::shared_ptr<Session> session;
};

Dataset Head(const Dataset& data, int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(std::min(count, data.size())));
  std::iota(order.begin(), order.end(), int64_t{0});
  const Batch batch = GatherBatch(data, order);
  return {batch.samples, batch.labels};
}

Result<double> TimeOnce(const Session& session, const Dataset& data, int64_t batch) {
  const Dataset head = Head(data, batch);
  const ConstView views[] = {static_cast<const Tensor&>(head.samples).view()};
  const auto start = Clock::now();
  MINIM_TRY(session.Run(views));
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Alternates between the candidates, so that a noisy moment hits all of them.
Status Time(std::vector<Candidate>& candidates, const Dataset& data, int64_t batch,
            double VariantReport::* field) {
  std::vector<std::vector<double>> samples(candidates.size());
  const auto start = Clock::now();
  for (int round = 0; round < kTimingRounds; ++round) {
    if (round >= kLeastRounds && Clock::now() - start > kTimingBudget) break;
    for (size_t i = 0; i < candidates.size(); ++i) {
      MINIM_TRY(const double us, TimeOnce(*candidates[i].session, data, batch));
      if (round >= kWarmRounds) samples[i].push_back(us);
    }
  }
  for (size_t i = 0; i < candidates.size(); ++i)
    candidates[i].report.*field = Percentile(samples[i], 0.5);
  return {};
}

class Shrinker {
 public:
  Shrinker(const ShrinkOptions& options, const Progress& progress)
      : options_(options), progress_(progress) {}

  Result<ShrinkReport> Run() {
    MINIM_TRY(ReadEverything());
    MINIM_TRY(AddCandidate("fp32", "model.onnx", graph_));
    Tell(0.1, "calibrating");
    MINIM_TRY(AddVariant("bf16", StoreWeights16(graph_, DType::bf16)));
    MINIM_TRY(AddVariant("int8-dynamic", QuantizeDynamic(graph_)));
    MINIM_TRY(const Graph prepared, PrepareForQuantization(graph_));
    MINIM_TRY(const ActivationProfile profile, CollectProfile(prepared, calibration_));
    MINIM_TRY(AddVariant("int8", QuantizeStatic(prepared, profile)));
    MINIM_TRY(JudgeAll());
    Tell(0.8, "timing");
    MINIM_TRY(Time(candidates_, test_, 1, &VariantReport::latency_us));
    MINIM_TRY(Time(candidates_, test_, 32, &VariantReport::latency_b32_us));
    Choose();
    MINIM_TRY(Write());
    for (Candidate& candidate : candidates_)
      report_.variants.push_back(std::move(candidate.report));
    return report_;
  }

 private:
  void Tell(double fraction, const std::string& text) const {
    if (progress_) progress_(fraction, text);
  }

  Status ReadEverything() {
    MINIM_TRY(graph_, ImportOnnx(options_.model));
    if (graph_.inputs.size() != 1 || !graph_.type(graph_.inputs[0]).ranked())
      return InvalidArgument("{}: shrink needs a model with one input of known rank",
                             options_.model);
    std::vector<int64_t> sample_dims;
    const Shape& shape = *graph_.type(graph_.inputs[0]).shape;
    for (size_t i = 1; i < shape.size(); ++i) {
      if (!shape[i].known()) sample_dims.clear();
      if (!shape[i].known()) break;
      sample_dims.push_back(shape[i].value());
    }
    MINIM_TRY(test_, ReadDataset(options_.test_samples, options_.test_labels, sample_dims));
    MINIM_TRY(const Dataset all,
              ReadDataset(options_.calibration_samples, options_.calibration_labels, sample_dims));
    if (test_.size() < 2) return InvalidArgument("the gate needs at least 2 test samples");
    calibration_ = Head(all, options_.calibration_count);
    return {};
  }

  Status AddVariant(const std::string& name, Result<Graph> graph) {
    if (!graph.ok() && graph.status().code() == StatusCode::kUnsupported) {
      VariantReport skipped{.name = name, .reason = graph.status().message()};
      report_.variants.push_back(std::move(skipped));
      return {};
    }
    if (!graph.ok()) return Annotate(graph.status(), name);
    return AddCandidate(name, "variants/" + name + ".onnx", *graph);
  }

  // The session is made from the file's own bytes: what is judged is what is written.
  Status AddCandidate(const std::string& name, const std::string& file, const Graph& graph) {
    Candidate candidate{.report = {.name = name, .file = file}};
    MINIM_TRY(candidate.bytes, SerializeOnnx(graph));
    candidate.report.bytes = static_cast<int64_t>(candidate.bytes.size());
    MINIM_TRY(candidate.session, Session::FromBytes(candidate.bytes));
    candidates_.push_back(std::move(candidate));
    return {};
  }

  Status JudgeAll() {
    std::vector<int64_t> reference;
    const auto labels = static_cast<const Tensor&>(test_.labels).as<int64_t>();
    for (size_t i = 0; i < candidates_.size(); ++i) {
      Tell(0.2 + 0.6 * static_cast<double>(i) / static_cast<double>(candidates_.size()),
           "measuring accuracy of " + candidates_[i].report.name);
      MINIM_TRY(std::vector<int64_t> classes, Classify(*candidates_[i].session, test_));
      if (i == 0) reference = classes;
      candidates_[i].report.gate =
          JudgeAccuracy(reference, classes, {labels.begin(), labels.end()}, options_.max_loss);
    }
    return {};
  }

  // The fastest (or smallest) variant that passes is served; with the latency goal nothing that is
  // slower than FP32 ever is.
  void Choose() {
    report_.preferred = "fp32";
    candidates_[0].report.kept = true;
    candidates_[0].report.reason = "the reference";
    const VariantReport& reference = candidates_[0].report;
    const auto cost = [&](const VariantReport& v) {
      return options_.goal == ShrinkGoal::kLatency ? v.latency_us : static_cast<double>(v.bytes);
    };
    double best = cost(reference);
    for (size_t i = 1; i < candidates_.size(); ++i) {
      VariantReport& v = candidates_[i].report;
      v.kept = v.gate.verdict == Verdict::kPass;
      if (!v.kept) {
        v.reason =
            v.gate.verdict == Verdict::kFail
                ? "refused: its loss is above the budget"
                : fmt::format("undecided: about {} samples would decide", v.gate.samples_needed);
        continue;
      }
      const double ratio = v.latency_us / reference.latency_us;
      v.reason = ratio < 1 - kNoise ? fmt::format("passes, {:.2f}x faster than fp32", 1 / ratio)
                 : ratio > 1 + kNoise
                     ? fmt::format("passes, but {:.2f}x slower than fp32 here", ratio)
                     : "passes, as fast as fp32 within noise";
      if (cost(v) >= best * (1 - kNoise)) continue;
      best = cost(v);
      report_.preferred = v.name;
    }
  }

  Status Write() const {
    const Path version = Path(options_.out) / "1";
    std::error_code error;
    std::filesystem::create_directories(version / "variants", error);
    if (error)
      return InvalidArgument("{}: cannot be created ({}); choose a writable folder",
                             version.string(), error.message());
    for (const Candidate& candidate : candidates_) {
      const Path path = version / candidate.report.file;
      if (candidate.report.kept) {
        MINIM_TRY(WriteFileAtomic(path, candidate.bytes));
      } else {
        std::filesystem::remove(path, error);
      }
    }
    return WriteFileAtomic(version / "report.json", Json().dump(2) + "\n");
  }

  nlohmann::json Json() const {
    nlohmann::json variants = nlohmann::json::array();
    for (const Candidate& candidate : candidates_) {
      const VariantReport& v = candidate.report;
      variants.push_back(
          {{"name", v.name},
           {"file", v.file},
           {"verdict", VerdictName(v.gate.verdict)},
           {"accuracy", v.gate.variant_accuracy},
           {"relative_loss", v.gate.relative_loss.mean},
           {"relative_loss_interval_95", {v.gate.relative_loss.low, v.gate.relative_loss.high}},
           {"agreement", v.gate.agreement},
           {"bytes", v.bytes},
           {"latency_us_batch_1", v.latency_us},
           {"latency_us_batch_32", v.latency_b32_us},
           {"kept", v.kept},
           {"reason", v.reason}});
    }
    return {{"preferred_tier", report_.preferred},
            {"goal", options_.goal == ShrinkGoal::kLatency ? "latency" : "bytes"},
            {"max_loss", options_.max_loss},
            {"samples", test_.size()},
            {"calibration_samples", calibration_.size()},
            {"variants", variants}};
  }

  const ShrinkOptions& options_;
  const Progress& progress_;
  Graph graph_;
  Dataset test_, calibration_;
  std::vector<Candidate> candidates_;
  ShrinkReport report_;
};

}  // namespace

Result<ShrinkReport> Shrink(const ShrinkOptions& options, const Progress& progress) {
  return Shrinker(options, progress).Run();
}

}  // namespace minim
