#include "compress/shrink.h"

#include <fmt/ranges.h>

#include <mutex>
#include <nlohmann/json.hpp>

#include "compress/candidates.h"
#include "compress/choice.h"
#include "compress/search.h"
#include "compress/shrink_data.h"
#include "compress/shrink_report.h"
#include "compress/work_folder.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

std::string RunKey(const ShrinkOptions& o) {
  std::string key = fmt::format(
      "{}\n{} {} {} {} {} {} {} {} {} {} {}\n", o.model, o.calibration_count, o.metric, o.output,
      o.max_loss, static_cast<int>(o.goal), fmt::join(o.recipe, ","), o.prune_fraction, o.epochs,
      o.calibrator ? CalibratorName(*o.calibrator) : "", o.seed, o.threads);
  for (const std::string& file :
       {o.model, o.data, o.labels, o.calibration, o.train_data, o.train_labels})
    key += file + " " + FileStamp(file) + "\n";
  return DigestOf(key);
}

constexpr double kNoise = 0.03;         // a smaller difference of medians is no gain
constexpr int64_t kMeterSamples = 128;  // that searches look at

class Shrinker {
 public:
  Shrinker(const ShrinkOptions& options, const ShrinkProgress& progress)
      : options_(options),
        progress_(progress),
        version_(ReportOf(options).parent_path()),
        key_(RunKey(options)) {}

  Result<ShrinkReport> Run() {
    if (options_.skip_if_done) {
      auto done = DoneReport();
      if (done) return *std::move(done);
    }
    if (options_.quiet != nullptr) busy_ = std::shared_lock(*options_.quiet);
    MINIM_TRY(Tell(0, "reading"));
    MINIM_TRY(Prepare());
    MINIM_TRY(MakeStored());
    MINIM_TRY(Quantize("", graph_, 0.1));
    MINIM_TRY(Tell(0.8, "timing"));
    MINIM_TRY(Time());
    Choose();
    MINIM_TRY(Write());
    return report_;
  }

 private:
  Status Tell(double fraction, const std::string& text) const {
    if (!progress_ || progress_(fraction, text)) return {};
    return Cancelled("stopped while {}", text);
  }

  std::optional<ShrinkReport> DoneReport() const {
    const auto text = ReadFile(ReportOf(options_), 64 << 20);
    return text.ok() ? ReportOfRun(*text, key_) : std::nullopt;
  }

  // While no other run works.
  Status Time() {
    if (options_.quiet == nullptr) return candidates_->Time();
    busy_.unlock();
    const std::unique_lock alone(*options_.quiet);
    return candidates_->Time();
  }

  Status Prepare() {
    deadline_ = std::chrono::steady_clock::now() + options_.time_budget;
    MINIM_TRY(graph_, ImportOnnx(options_.model));
    if (graph_.inputs.size() != 1 || !graph_.type(graph_.inputs[0]).ranked())
      return InvalidArgument("{}: shrink needs a model with one input of known rank, found {}",
                             options_.model, graph_.inputs.size());
    MINIM_TRY(data_, ReadShrinkData(graph_, options_));
    MINIM_TRY(const WorkFolder work, WorkFolder::Open(version_ / ".shrink", key_));
    work_ = work;
    MINIM_TRY(candidates_, Candidates::Make(graph_, data_.gate, options_));
    return {};
  }

  Status MakeStored() {
    for (const auto& [name, dtype] : {std::pair{"bf16", DType::bf16}, {"fp16", DType::f16}}) {
      MINIM_TRY(Tell(0.05, fmt::format("storing weights in {}", name)));
      std::vector<TensorRange> ranges;
      MINIM_TRY(VariantReport * made,
                candidates_->Add(name, StoreWeights16(graph_, dtype, &ranges)));
      made->stored = std::move(ranges);
    }
    MINIM_TRY(candidates_->Add("int8-weights", StoreWeightsInt(graph_, 8, 0)));
    return candidates_->Add("int4-weights", StoreWeightsInt(graph_, 4, 32)).status();
  }

  // The INT8 variants of a graph; names begin with `prefix`.
  Status Quantize(const std::string& prefix, const Graph& graph, double progress) {
    MINIM_TRY(candidates_->Add(prefix + "int8-dynamic", QuantizeDynamic(graph)));
    MINIM_TRY(const Graph prepared, PrepareForQuantization(graph));
    MINIM_TRY(Tell(progress, "calibrating"));
    MINIM_TRY(const ActivationProfile profile,
              CollectProfile(prepared, data_.calibration, {.threads = options_.threads}));
    const Dataset few = FirstSamples(data_.calibration, kMeterSamples);
    MINIM_TRY(const ErrorMeter meter, ErrorMeter::Make(prepared, few, candidates_->output()));
    MINIM_TRY(Tell(progress + 0.1, "choosing a calibrator"));
    const auto chosen =
        ChooseStaticOptions(prepared, profile, meter, deadline_, options_.calibrator);
    if (!chosen.ok() && chosen.status().code() == StatusCode::kUnsupported)
      return candidates_->Add(prefix + "int8", chosen.status()).status();
    if (!chosen.ok()) return chosen.status();
    MINIM_TRY(VariantReport * made,
              candidates_->Add(prefix + "int8", QuantizeStatic(prepared, profile, *chosen)));
    made->detail = Describe(*chosen);
    const bool passed = made->gate.verdict == Verdict::kPass;
    MINIM_TRY(Tell(progress + 0.2, "measuring the sensitivity of each op"));
    MINIM_TRY(const std::vector<OpSensitivity> sensitivity, Remembered(prefix + "sensitivity", [&] {
                return MeasureSensitivity(prepared, profile, *chosen, meter, data_.gate, deadline_);
              }));
    if (prefix.empty()) {
      report_.profile = profile;
      report_.static_options = *chosen;
      report_.sensitivity = sensitivity;
    }
    if (passed) return {};
    return Mix(prefix, prepared, profile, *chosen, sensitivity);
  }

  bool OutOfTime() const { return std::chrono::steady_clock::now() > deadline_; }

  // What an earlier, interrupted run measured, or `measure`, whose result is kept for a later one.
  template <typename F>
  Result<std::vector<OpSensitivity>> Remembered(const std::string& name, F&& measure) {
    if (const auto text = work_->Load(name)) return SensitivityFromJson(*text);
    MINIM_TRY(const std::vector<OpSensitivity> found, measure());
    MINIM_TRY(work_->Save(name, SensitivityJson(found).dump()));
    return found;
  }

  // Leaves the most sensitive ops in FP32 until the gate is passed.
  Status Mix(const std::string& prefix, const Graph& prepared, const ActivationProfile& profile,
             StaticOptions options, const std::vector<OpSensitivity>& sensitivity) {
    const std::string name = prefix + "int8-mixed";
    for (const std::set<std::string>& floats : FloatSets(sensitivity)) {
      if (OutOfTime()) return {};
      options.keep_float = floats;
      MINIM_TRY(Tell(0.7, fmt::format("{} ops in FP32", floats.size())));
      auto mixed = QuantizeStatic(prepared, profile, options);
      if (!mixed.ok() && mixed.status().code() == StatusCode::kUnsupported) return {};
      MINIM_TRY(VariantReport * made, candidates_->Add(name, std::move(mixed)));
      made->detail = Describe(options);
      made->float_ops.assign(floats.begin(), floats.end());
      if (made->gate.verdict == Verdict::kPass) return {};
    }
    return {};
  }

  static std::string Describe(const StaticOptions& options) {
    return fmt::format("{}{}{}", CalibratorName(options.calibrator),
                       options.bias_correction ? ", bias corrected" : "",
                       options.keep_float.empty()
                           ? ""
                           : fmt::format(", {} ops in FP32", options.keep_float.size()));
  }

  // The fastest (or smallest) variant that passes is served; with the latency goal nothing that is
  // slower than FP32 is kept.
  void Choose() {
    report_.metric = candidates_->metric().name();
    report_.warnings = data_.warnings;
    report_.samples = data_.gate.size();
    report_.calibration_samples = data_.calibration.size();
    report_.variants = candidates_->Reports();
    report_.preferred = ChooseVariants(report_.variants, options_.goal, kNoise);
  }

  Status Write() {
    for (const VariantReport& variant : report_.variants)
      MINIM_TRY(candidates_->Write(variant, version_, options_.model));
    MINIM_TRY(WriteFileAtomic(ReportOf(options_),
                              ShrinkReportJson(report_, options_, key_).dump(1) + "\n"));
    work_->Remove();
    return {};
  }

  const ShrinkOptions& options_;
  const ShrinkProgress& progress_;
  const Path version_;
  const std::string key_;
  std::shared_lock<std::shared_mutex> busy_;
  Deadline deadline_;
  Graph graph_;
  ShrinkData data_;
  std::optional<WorkFolder> work_;
  std::unique_ptr<Candidates> candidates_;
  ShrinkReport report_;
};

}  // namespace

Path ReportOf(const ShrinkOptions& options) {
  return Path(options.out) / std::to_string(options.version) / "report.json";
}

Result<ShrinkReport> Shrink(const ShrinkOptions& options, const ShrinkProgress& progress) {
  return Shrinker(options, progress).Run();
}

}  // namespace minim
