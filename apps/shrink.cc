// minim shrink: variants of a model, measured and gated.
#include "compress/shrink.h"

#include <thread>

#include "apps/cli.h"
#include "apps/progress.h"
#include "apps/shrink_page.h"
#include "apps/shrink_repository.h"
#include "compress/shrink_config.h"

namespace minim {
namespace {

struct Options {
  RepositoryOptions repository;
  ShrinkOptions shrink;
  std::string goal = "latency", recipe, calibrator;
  std::vector<std::string> states;
  int64_t time_budget = 600;
};

std::string LatencyText(const VariantReport& v) {
  std::string text;
  for (const auto& [batch, latency] : v.latency) text += fmt::format(" {:>10.1f}", latency.p50);
  return text;
}

void PrintVariant(const VariantReport& v) {
  if (v.bytes > 0)
    fmt::print("{:20} {:>10} {:>9.4f} {:>7.2f}% [{:>6.2f}, {:>6.2f}] {:>10}{}\n", v.name, v.bytes,
               v.gate.variant, v.gate.relative_loss.mean * 100, v.gate.relative_loss.low * 100,
               v.gate.relative_loss.high * 100, VerdictName(v.gate.verdict), LatencyText(v));
  else
    fmt::print("{}\n", v.name);
  fmt::print("{:20} {}{}\n", "", v.reason, v.detail.empty() ? "" : " (" + v.detail + ")");
}

int RunOne(const ShrinkOptions& options) {
  ProgressBar bar;
  const auto report = Shrink(options, [&](double fraction, const std::string& text) {
    bar.Update(fraction, text);
    return true;
  });
  bar.Finish("");
  if (!report.ok()) return Report(report.status());
  for (const std::string& warning : report->warnings) fmt::print("warning: {}\n", warning);
  std::string batches;
  for (const auto& [batch, latency] : report->variants[0].latency)
    batches += fmt::format(" {:>10}", fmt::format("us b{}", batch));
  fmt::print("{:20} {:>10} {:>9} {:>25} {:>10}{}\n", "variant", "bytes", report->metric,
             "relative loss (95 %)", "verdict", batches);
  for (const VariantReport& v : report->variants) PrintVariant(v);
  if (const Status written = WriteShrinkPage(ReportOf(options)); !written.ok())
    return Report(written);
  fmt::print("served by default: {}; written to {}/{}, with report.html\n", report->preferred,
             options.out, options.version);
  return 0;
}

Status ParseStates(const std::vector<std::string>& texts,
                   std::map<std::string, std::string>& states) {
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
      return InvalidArgument("--state {}: expected INPUT=OUTPUT", text);
    if (!states.emplace(text.substr(0, equals), text.substr(equals + 1)).second)
      return InvalidArgument("--state {}: this input was given before", text);
  }
  return {};
}

// Repeatable, one value each time: what follows may be another option's or the model.
CLI::Option* AddFiles(CLI::App& verb, const std::string& name, std::vector<std::string>& files,
                      const std::string& help) {
  return verb.add_option(name, files, help)->allow_extra_args(false);
}

int Run(Options& o) {
  const auto goal = ParseShrinkGoal(o.goal);
  if (!goal.ok()) return Report(goal.status());
  const auto recipe = ParseRecipe(o.recipe);
  if (!recipe.ok()) return Report(recipe.status());
  o.shrink.goal = *goal;
  o.shrink.recipe = *recipe;
  o.shrink.time_budget = std::chrono::seconds(o.time_budget);
  const Status states = ParseStates(o.states, o.shrink.states);
  if (!states.ok()) return Report(states);
  if (!o.calibrator.empty()) {
    const auto calibrator = ParseCalibrator(o.calibrator);
    if (!calibrator.ok()) return Report(calibrator.status());
    o.shrink.calibrator = *calibrator;
  }
  if (o.repository.folder.empty() == o.shrink.model.empty())
    return Report(InvalidArgument("give either a model or --repository"));
  if (!o.shrink.model.empty() && (o.shrink.data.empty() || o.shrink.out.empty()))
    return Report(InvalidArgument("a model needs --data and --out"));
  if (!o.shrink.model.empty()) return RunOne(o.shrink);
  o.repository.defaults = o.shrink;
  const auto failed = ShrinkRepository(o.repository);
  if (!failed.ok()) return Report(failed.status());
  return *failed == 0 ? 0 : kExitFailed;
}

void AddData(CLI::App& verb, Options& o) {
  ShrinkOptions& s = o.shrink;
  AddFiles(verb, "--data", s.data,
           "Samples that variants are judged on: .npy, .npz:NAME, IDX, or a table of the columns "
           "that the model was trained on; of several inputs NAME=FILE for each, or one .npz with "
           "arrays of their names");
  verb.add_option("--labels", s.labels, "Their class ids or targets; without: agreement with FP32");
  AddFiles(verb, "--calibration", s.calibration,
           "Samples that ranges are taken from; without: a fifth of the data");
  verb.add_option("--calibration-count", s.calibration_count, "At most so many of them")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  AddFiles(verb, "--train-data", s.train_data, "Samples that recipes train on");
  verb.add_option("--train-labels", s.train_labels, "Their labels");
  AddFiles(verb, "--state", o.states,
           "INPUT=OUTPUT: the model takes a stream step by step, and this output is that input of "
           "the next sample; zeros at first");
  verb.add_option("--sequence-length", s.sequence_length,
                  "Steps after which states are zeros again; without: never")
      ->check(CLI::PositiveNumber);
}

void AddAims(CLI::App& verb, Options& o) {
  ShrinkOptions& s = o.shrink;
  verb.add_option("--metric", s.metric,
                  MetricNames() + " (default: accuracy of classes, mse of targets)");
  verb.add_option("--metric-command", s.metric_command,
                  "A program instead: run as COMMAND SCORES.npy [LABELS.npy], it prints a number, "
                  "or one a sample");
  verb.add_flag("--lower-is-better", s.lower_is_better, "Of the program's numbers");
  verb.add_option("--output", s.output, "The output that is judged (default: the first of floats)");
  verb.add_option("--max-loss", s.max_loss, "Largest loss, relative to FP32's value of the metric")
      ->capture_default_str();
  verb.add_option("--goal", o.goal, "latency, or bytes: keeps smaller variants that are slower")
      ->capture_default_str();
  verb.add_option(
      "--recipe", o.recipe,
      "Steps of a chain, each gated: prune, magnitude, distill, quantize; comma-separated");
  verb.add_option("--prune-fraction", s.prune_fraction, "Of the parameters")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.95));
  verb.add_option("--epochs", s.epochs, "Of each step that trains")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  verb.add_flag("--shallower", s.shallower,
                "The student that distill makes also lacks every second of like blocks");
  verb.add_option("--percentile", s.static_int8.percentile, "Of that calibrator, at either end")
      ->capture_default_str();
  verb.add_flag("--symmetric", s.static_int8.symmetric, "Activations in INT8 around 0, not UINT8");
  verb.add_flag("!--per-tensor", s.static_int8.per_channel, "One scale for each weight tensor");
  verb.add_option("--calibrator", o.calibrator,
                  "minmax, moving-average, percentile, entropy, mse (default: what errs least)");
}

}  // namespace

void AddShrinkCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, "shrink", "Make INT8, 16-bit, pruned and distilled variants within an accuracy budget",
      "minim shrink model.onnx --data x.npy --labels y.npy --max-loss 0.02 --out models/mine\n"
      "  minim shrink --repository models",
      exit_code, [o] { return Run(*o); });
  verb->add_option("model", o->shrink.model, "FP32 ONNX file");
  verb->add_option("--out", o->shrink.out, "Model folder to write");
  AddData(*verb, *o);
  AddAims(*verb, *o);
  verb->add_option("--time-budget", o->time_budget, "Seconds after which no search goes on")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--seed", o->shrink.seed, "Of drawing calibration samples and of training")
      ->capture_default_str();
  verb->add_option("--threads", o->shrink.threads, "Of calibration and training")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  verb->add_option("--repository", o->repository.folder,
                   "Every model of a repository, with the data in its folder: [shrink] in "
                   "minim.toml, or data/samples.npy and data/labels.npy");
  o->repository.jobs = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  verb->add_option("--jobs", o->repository.jobs, "Models at a time (default: the cores)")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--again", o->repository.again,
                 "Also models whose report is of the same files and options");
}

}  // namespace minim
