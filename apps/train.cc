// minim train: a TOML recipe becomes an ONNX file.
#include "minim/train.h"

#include <csignal>
#include <cstdio>

#include "apps/cli.h"
#include "apps/progress.h"
#include "apps/train_page.h"
#include "core/file.h"

namespace minim {
namespace {

volatile std::sig_atomic_t interrupted = 0;

struct Options {
  std::string config, precision;
  int64_t epochs = 0;
  int threads = 0;
  double budget = 0;  // MiB
  bool resume = false, profile = false, tune = false;
};

std::string Mebibytes(size_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

void ShowStart(const TrainReport& r) {
  fmt::print(
      "{} parameters, {}; a step needs {} between its ops and {} of weights, moments and "
      "gradients\n",
      r.parameters, r.precision_reason.empty() ? Name(r.precision) : r.precision_reason,
      Mebibytes(r.arena_bytes), Mebibytes(r.state_bytes));
  if (r.repeated_ops + r.encoded_values > 0)
    fmt::print(
        "{} ops run twice and {} values wait as {}: {:.1f} % more work, instead of {} between "
        "ops\n",
        r.repeated_ops, r.encoded_values, Name(r.storage), r.added_work * 100,
        Mebibytes(r.kept_arena_bytes));
  std::fflush(stdout);  // seen before the first step, wherever it goes
}

std::string SkippedText(const TrainProgress& p) {
  return p.skipped_steps == 0 ? "" : fmt::format(", {} steps skipped", p.skipped_steps);
}

// ", test loss 0.4123, accuracy 80.12 %, AUC 0.8421", as far as there is a test set with classes.
std::string TestText(const TrainProgress& p) {
  std::string text = p.test_loss < 0 ? "" : fmt::format(", test loss {:.4f}", p.test_loss);
  if (p.test_accuracy >= 0) text += fmt::format(", accuracy {:.2f} %", p.test_accuracy * 100);
  if (p.test_auc >= 0) text += fmt::format(", AUC {:.4f}", p.test_auc);
  return text;
}

bool Show(ProgressBar& bar, const TrainProgress& p) {
  if (p.ends_epoch) {
    bar.Finish(fmt::format("epoch {}/{}: loss {:.4f}{}{}, {:.1f} s", p.epoch, p.epochs, p.loss,
                           TestText(p), SkippedText(p), p.seconds));
  } else {
    const std::string scale = p.scale == 1 ? "" : fmt::format(" scale {:g}", p.scale);
    bar.Update(static_cast<double>(p.step) / static_cast<double>(p.steps),
               fmt::format("epoch {}/{} loss {:.4f}{}{} {:.0f} samples/s", p.epoch, p.epochs,
                           p.loss, scale, SkippedText(p), p.samples_per_second));
  }
  return interrupted == 0;
}

Status Override(const Options& options, TrainConfig& config) {
  if (options.epochs > 0) config.epochs = options.epochs;
  if (options.threads > 0) config.threads = options.threads;
  if (options.budget > 0)
    config.memory.budget_bytes = static_cast<size_t>(options.budget * (1 << 20));
  config.resume = config.resume || options.resume;
  if (config.resume && config.checkpoint.empty())
    return InvalidArgument("--resume needs [output] checkpoint in {}", options.config);
  if (options.precision.empty()) return {};
  for (TrainPrecision p : {TrainPrecision::kFp32, TrainPrecision::kBf16, TrainPrecision::kFp16,
                           TrainPrecision::kAuto}) {
    if (Name(p) == options.precision) return config.precision = p, Status();
  }
  return InvalidArgument("--precision {}: expected fp32, bf16, fp16 or auto", options.precision);
}

// Beside the log: train.jsonl becomes train.html.
Status WritePage(const TrainConfig& config) {
  if (config.log_out.empty()) return {};
  Path page = config.log_out;
  page.replace_extension(".html");
  MINIM_TRY(WriteTrainPage(config.log_out, page.string()));
  fmt::print("curves in {}\n", page.string());
  return {};
}

// Times some settings and puts the best into the config.
Status TuneConfig(TrainConfig& config) {
  const auto show = [](const TuneTrial& t) {
    fmt::print("{}, {} threads, batch {}: {:.2f} ms a step, {:.0f} samples/s, {}\n",
               Name(t.precision), t.threads, t.batch, t.step_seconds * 1e3, t.samples_per_second,
               Mebibytes(t.bytes));
    std::fflush(stdout);
    return interrupted == 0;
  };
  MINIM_TRY(config, Tune(config, show));
  fmt::print("chosen: [train] precision = \"{}\", threads = {}, batch = {}", Name(config.precision),
             config.threads, config.batch);
  if (config.memory.budget_bytes > 0)
    fmt::print("; [memory] budget_mib = {}", config.memory.budget_bytes >> 20);
  fmt::print("\n");
  return {};
}

int Run(const Options& options) {
  auto config = ReadTrainConfig(options.config);
  if (!config.ok()) return Report(config.status());
  if (const Status status = Override(options, *config); !status.ok()) return Report(status);
  if (options.profile) {
    const auto table = ProfileStep(*config);
    if (!table.ok()) return Report(table.status());
    fmt::print("{}", *table);
    return 0;
  }
  std::signal(SIGINT, [](int) { interrupted = 1; });
  if (options.tune) {
    if (const Status status = TuneConfig(*config); !status.ok()) return Report(status);
  }
  ProgressBar bar;
  const auto report =
      Train(*config, [&](const TrainProgress& p) { return Show(bar, p); }, ShowStart);
  if (!report.ok()) bar.Finish("");
  const Status page = WritePage(*config);
  if (!report.ok()) return Report(report.status());
  if (!page.ok()) return Report(page);
  fmt::print("trained in {:.1f} s{}{}, wrote {}{}\n", report->seconds,
             report->stopped_early ? ", stopped early" : "",
             report->skipped_steps == 0
                 ? ""
                 : fmt::format(", {} steps skipped for gradients that were not finite",
                               report->skipped_steps),
             config->onnx_out,
             config->stop_after > 0 ? fmt::format(" as of epoch {}", report->exported_epoch) : "");
  return 0;
}

}  // namespace

void AddTrainCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, "train", "Train a model from a TOML recipe",
                           "minim train examples/fashion_mnist.toml --threads 2", exit_code,
                           [o] { return Run(*o); });
  verb->add_option("config", o->config,
                   "TOML file with [data], [model], [train], [optimizer], [schedule], "
                   "[scaler], [memory], [output]")
      ->required();
  verb->add_option("--precision", o->precision,
                   "fp32, bf16, fp16 or auto (whichever measures faster); overrides [train]");
  verb->add_option("--epochs", o->epochs, "Overrides [train] epochs");
  verb->add_option("--threads", o->threads, "Overrides [train] threads");
  verb->add_option("--budget", o->budget,
                   "MiB that a step may take; ops run twice as needed. Overrides [memory]")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--tune", o->tune,
                 "Time precisions, threads and batch sizes first, and train with the fastest");
  verb->add_flag("--profile", o->profile, "Print what each op of a step takes, and do not train");
  verb->add_flag("--resume", o->resume, "Continue from the checkpoint if it exists");
}

}  // namespace minim
