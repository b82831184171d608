#include "compress/shrink.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>

#include "compress/candidates.h"
#include "compress/choice.h"
#include "compress/equalize.h"
#include "compress/recipe.h"
#include "compress/search.h"
#include "compress/shrink_data.h"
#include "compress/shrink_report.h"
#include "compress/work_folder.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

// Of FILE, NAME=FILE, FILE.npz:NAME.
std::string StampOf(const std::string& text) {
  std::string file = text;
  if (!std::filesystem::exists(file)) file = file.substr(file.find('=') + 1);
  if (const size_t colon = file.find(".npz:"); colon != std::string::npos) file.resize(colon + 4);
  return text + " " + FileStamp(file) + "\n";
}

std::string RunKey(const ShrinkOptions& o) {
  std::string key =
      fmt::format("{}\n{}\n{} {}\n{}\n{} {} {} {} {} {} {} {} {}\n{} {} {} {}\n", o.model, o.metric,
                  o.lower_is_better, o.metric_command, o.output, o.calibration_count, o.max_loss,
                  static_cast<int>(o.goal), fmt::join(o.recipe, ","), o.prune_fraction, o.epochs,
                  o.shallower, o.calibrator ? CalibratorName(*o.calibrator) : "", o.seed, o.threads,
                  o.static_int8.percentile, o.static_int8.symmetric, o.static_int8.per_channel);
  for (const auto& [input, output] : o.states) key += fmt::format("{}={} ", input, output);
  key += fmt::format("{}\n", o.sequence_length);
  for (const std::string& file : {o.model, o.labels, o.train_labels}) key += StampOf(file);
  for (const auto* files : {&o.data, &o.calibration, &o.train_data}) {
    for (const std::string& file : *files) key += StampOf(file);
    key += "\n";
  }
  return DigestOf(key);
}

constexpr double kNoise = 0.03;          // a smaller difference of medians is no gain
constexpr int64_t kMeterSamples = 128;   // that searches look at
constexpr double kQuantizedRate = 1e-4;  // weights that are nearly right move little
constexpr std::chrono::milliseconds kLeastTraining{1000};

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
    MINIM_TRY(RunRecipe());
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
    auto data = ReadShrinkData(graph_, options_);
    if (!data.ok()) return Annotate(data.status(), options_.model);
    data_ = *std::move(data);
    MINIM_TRY(candidates_, Candidates::Make(graph_, data_.gate, data_.feedback, options_));
    MINIM_TRY(const WorkFolder work, WorkFolder::Open(version_ / ".shrink", key_));
    work_ = work;
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
    return StoreInFourBits();
  }

  // The first and the last op are few weights that matter much: they stay FP32 where that is
  // needed.
  Status StoreInFourBits() {
    const std::string name = "int4-weights";
    MINIM_TRY(const VariantReport* all, candidates_->Add(name, StoreWeightsInt(graph_, 4, 32)));
    const std::vector<std::string> ops = QuantizableOps(graph_);
    if (all->bytes == 0 || all->gate.verdict == Verdict::kPass || ops.size() < 3) return {};
    const std::set<std::string> ends = {ops.front(), ops.back()};
    MINIM_TRY(VariantReport * made, candidates_->Add(name, StoreWeightsInt(graph_, 4, 32, ends)));
    made->detail = "first and last op in FP32";
    made->float_ops = {ops.front(), ops.back()};
    return {};
  }

  // A graph to quantize, what is known of it, and how.
  struct Plan {
    Graph graph;
    ActivationProfile profile;
    StaticChoice choice;
    bool equalized = false;
  };

  // The better of the graph as it is and with its weights equalized.
  Result<Plan> PlanStatic(const Graph& graph, const ErrorMeter& meter) {
    Plan plan;
    for (const bool equalize : {false, true}) {
      if (equalize && OutOfTime()) break;
      Plan tried{.graph = graph, .equalized = equalize};
      if (equalize) {
        MINIM_TRY(const int changed, EqualizeWeights(tried.graph));
        if (changed == 0) break;
      }
      MINIM_TRY(tried.profile,
                CollectProfile(tried.graph, data_.profiled, {.threads = options_.threads}));
      MINIM_TRY(tried.choice, ChooseStatic(tried.graph, tried.profile, meter, options_.static_int8,
                                           deadline_, options_.calibrator));
      if (!equalize || tried.choice.error < plan.choice.error) plan = std::move(tried);
    }
    return plan;
  }

  // The INT8 variants of a graph; names begin with `prefix`.
  Status Quantize(const std::string& prefix, const Graph& graph, double progress) {
    MINIM_TRY(candidates_->Add(prefix + "int8-dynamic", QuantizeDynamic(graph)));
    MINIM_TRY(const Graph prepared, PrepareForQuantization(graph));
    MINIM_TRY(Tell(progress, "calibrating"));
    const Dataset few = FirstSamples(data_.calibration, kMeterSamples);
    MINIM_TRY(const ErrorMeter meter,
              ErrorMeter::Make(prepared, few, data_.feedback, candidates_->output()));
    const Result<Plan> found = PlanStatic(prepared, meter);
    if (!found.ok()) return candidates_->Add(prefix + "int8", found.status()).status();
    const Plan& plan = *found;
    MINIM_TRY(VariantReport * made,
              candidates_->Add(prefix + "int8",
                               QuantizeStatic(plan.graph, plan.profile, plan.choice.options)));
    made->detail = Describe(plan, plan.choice.options);
    const bool passed = made->gate.verdict == Verdict::kPass;
    MINIM_TRY(const std::vector<OpSensitivity> sensitivity, Remembered(prefix + "sensitivity", [&] {
                return MeasureSensitivity(plan.graph, plan.profile, plan.choice.options, meter,
                                          data_.gate, deadline_, [&](double share) {
                                            return Tell(progress + 0.1 + 0.1 * share,
                                                        "measuring the sensitivity of each op");
                                          });
              }));
    if (prefix.empty()) {
      report_.profile = plan.profile;
      report_.static_options = plan.choice.options;
      report_.sensitivity = sensitivity;
    }
    if (passed) return {};
    if (data_.has_train() && !OutOfTime()) {
      MINIM_TRY(const bool rescued, TrainQuantized(prefix, graph, plan));
      if (rescued) return {};
    }
    return Mix(prefix, plan, sensitivity);
  }

  Result<bool> TrainQuantized(const std::string& prefix, const Graph& graph, const Plan& plan) {
    const std::string name = prefix + "int8-qat";
    const auto tuned = RememberedTraining(name, [&]() -> Result<Trained> {
      MINIM_TRY(const Trainee trainee, Trainee::Of(graph, data_.train.labels));
      MINIM_TRY(const Graph quantized,
                QuantizeStatic(plan.graph, plan.profile, plan.choice.options));
      FineTuneOptions tune = TuneOptions(trainee, name, 0.3);
      tune.learning_rate = kQuantizedRate;
      return QuantizationAwareStep(trainee, plan.graph, quantized, data_.train, tune);
    });
    MINIM_TRY(VariantReport * made, AddTrained(name, tuned));
    made->detail =
        Describe(plan, plan.choice.options) + ", trained under its rounding; " + made->detail;
    return made->gate.verdict == Verdict::kPass;
  }

  // Each step works on what the last one made; what is quantized must have passed.
  Status RunRecipe() {
    std::optional<Graph> student, passed;
    std::string name, passed_name;
    for (const std::string& step : options_.recipe) {
      if (step == "quantize") {
        if (!passed) continue;  // the model itself is quantized anyway
        MINIM_TRY(Quantize(passed_name + "-", *passed, 0.5));
        continue;
      }
      name += (name.empty() ? "" : "-") + Participle(step);
      const auto made = RememberedTraining(name, [&] { return TrainStep(step, name, student); });
      MINIM_TRY(VariantReport * report, AddTrained(name, made));
      report->asked_for = true;
      if (!made.ok()) return {};
      student = made->graph;
      if (report->gate.verdict != Verdict::kPass) continue;
      passed = made->graph;
      passed_name = name;
    }
    return {};
  }

  static std::string Participle(const std::string& step) {
    return step == "prune" ? "pruned" : step == "magnitude" ? "sparse" : "distilled";
  }

  Result<Trained> TrainStep(const std::string& step, const std::string& name,
                            const std::optional<Graph>& student) {
    MINIM_TRY(const Trainee teacher, Trainee::Of(graph_, data_.train.labels));
    const FineTuneOptions tune = TuneOptions(teacher, name, 0.4);
    if (step == "distill")
      return DistillStep(
          teacher, student, data_.train,
          {.parameters = 1 - options_.prune_fraction, .shallower = options_.shallower}, tune);
    MINIM_TRY(const Trainee whole, Trainee::Of(student ? *student : graph_, data_.train.labels));
    const PruneKind kind = step == "magnitude" ? PruneKind::kMagnitude : PruneKind::kChannels;
    return PruneStep(whole, data_.train, kind, options_.prune_fraction, tune);
  }

  FineTuneOptions TuneOptions(const Trainee& trainee, const std::string& name,
                              double progress) const {
    using std::chrono::milliseconds;
    const auto left = deadline_ - std::chrono::steady_clock::now();
    return {.epochs = static_cast<double>(options_.epochs),
            .loss = trainee.loss(),
            .seed = options_.seed,
            .threads = options_.threads,
            .time_limit = std::max(std::chrono::duration_cast<milliseconds>(left), kLeastTraining),
            .progress = [this, name, progress](double fraction, double loss) {
              return Tell(progress, fmt::format("training {}: {:.0f} %, loss {:.4f}", name,
                                                100 * fraction, loss))
                  .ok();
            }};
  }

  bool OutOfTime() const { return std::chrono::steady_clock::now() > deadline_; }

  // A network with a line on how its training went.
  struct Noted {
    Graph graph;
    std::string note;
  };

  template <typename F>
  Result<Noted> RememberedTraining(const std::string& name, F&& make) {
    const auto bytes = work_->Load(name + ".onnx"), note = work_->Load(name + ".txt");
    if (bytes && note) {
      MINIM_TRY(Graph graph, ParseOnnx(*bytes));
      return Noted{std::move(graph), *note};
    }
    MINIM_TRY(Trained made, make());
    MINIM_TRY(const std::string saved, SerializeOnnx(made.graph));
    MINIM_TRY(work_->Save(name + ".onnx", saved));
    MINIM_TRY(work_->Save(name + ".txt", made.Note()));
    return Noted{std::move(made.graph), made.Note()};
  }

  Result<VariantReport*> AddTrained(const std::string& name, const Result<Noted>& made) {
    if (!made.ok()) return candidates_->Add(name, made.status());
    MINIM_TRY(VariantReport * report, candidates_->Add(name, made->graph));
    report->detail = made->note;
    return report;
  }

  // What an earlier, interrupted run measured, or `measure`, whose result is kept for a later one.
  template <typename F>
  Result<std::vector<OpSensitivity>> Remembered(const std::string& name, F&& measure) {
    if (const auto text = work_->Load(name)) return SensitivityFromJson(*text);
    MINIM_TRY(const std::vector<OpSensitivity> found, measure());
    MINIM_TRY(work_->Save(name, SensitivityJson(found).dump()));
    return found;
  }

  // Leaves the most sensitive ops in FP32 until the gate is passed.
  Status Mix(const std::string& prefix, const Plan& plan,
             const std::vector<OpSensitivity>& sensitivity) {
    StaticOptions options = plan.choice.options;
    for (const std::set<std::string>& floats : FloatSets(sensitivity)) {
      if (OutOfTime()) return {};
      options.keep_float = floats;
      MINIM_TRY(Tell(0.35, fmt::format("{} ops in FP32", floats.size())));
      const auto mixed = QuantizeStatic(plan.graph, plan.profile, options);
      if (!mixed.ok() && mixed.status().code() == StatusCode::kUnsupported) return {};
      MINIM_TRY(VariantReport * made, candidates_->Add(prefix + "int8-mixed", mixed));
      made->detail = Describe(plan, options);
      made->float_ops.assign(floats.begin(), floats.end());
      if (made->gate.verdict == Verdict::kPass) return {};
    }
    return {};
  }

  static std::string Describe(const Plan& plan, const StaticOptions& options) {
    return fmt::format(
        "{}{}{}{}", CalibratorName(options.calibrator),
        options.bias_correction ? ", bias corrected" : "", plan.equalized ? ", equalized" : "",
        options.keep_float.empty() ? ""
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

  // What the report names is there before it, and what the one before it named goes after it: a
  // server may look at any time.
  Status Write() {
    const auto before = ReadFile(ReportOf(options_), 64 << 20);
    for (const VariantReport& variant : report_.variants)
      if (variant.kept) MINIM_TRY(candidates_->Write(variant, version_, options_.model));
    MINIM_TRY(WriteFileAtomic(ReportOf(options_),
                              ShrinkReportJson(report_, options_, key_).dump(1) + "\n"));
    for (const std::string& file : VariantFiles(before.ok() ? *before : "")) {
      std::error_code error;
      if (!Kept(file)) std::filesystem::remove(version_ / file, error);
    }
    work_->Remove();
    return {};
  }

  bool Kept(const std::string& file) const {
    return std::any_of(report_.variants.begin(), report_.variants.end(),
                       [&](const VariantReport& v) { return v.kept && v.file == file; });
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
