// minim train: a TOML recipe becomes an ONNX file.
#include "minim/train.h"

#include <csignal>

#include "apps/cli.h"
#include "apps/progress.h"

namespace minim {
namespace {

volatile std::sig_atomic_t interrupted = 0;

struct Options {
  std::string config;
  int64_t epochs = 0;
  int threads = 0;
  bool resume = false;
};

bool Show(ProgressBar& bar, const TrainProgress& p) {
  const std::string text = fmt::format("epoch {}/{} loss {:.4f} {:.0f} samples/s", p.epoch,
                                       p.epochs, p.loss, p.samples_per_second);
  if (p.test_accuracy >= 0) {
    bar.Finish(fmt::format("epoch {}/{}: loss {:.4f}, test accuracy {:.2f} %, {:.1f} s", p.epoch,
                           p.epochs, p.loss, p.test_accuracy * 100, p.seconds));
  } else {
    bar.Update(static_cast<double>(p.step) / static_cast<double>(p.steps), text);
  }
  return interrupted == 0;
}

int Run(const Options& options) {
  auto config = ReadTrainConfig(options.config);
  if (!config.ok()) return Report(config.status());
  if (options.epochs > 0) config->epochs = options.epochs;
  if (options.threads > 0) config->threads = options.threads;
  config->resume = config->resume || options.resume;
  if (config->resume && config->checkpoint.empty())
    return Report(InvalidArgument("--resume needs [output] checkpoint in {}", options.config));
  std::signal(SIGINT, [](int) { interrupted = 1; });
  ProgressBar bar;
  const auto report = Train(*config, [&](const TrainProgress& p) { return Show(bar, p); });
  if (!report.ok()) {
    bar.Finish("");
    return Report(report.status());
  }
  fmt::print("trained {} parameters in {:.1f} s, step arena {:.1f} MiB, wrote {}\n",
             report->parameters, report->seconds,
             static_cast<double>(report->arena_bytes) / (1 << 20), config->onnx_out);
  return 0;
}

}  // namespace

void AddTrainCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, "train", "Train a model from a TOML recipe",
                           "minim train examples/fashion_mnist.toml --threads 2", exit_code,
                           [o] { return Run(*o); });
  verb->add_option("config", o->config, "TOML file with [data], [model], [train], [output]")
      ->required();
  verb->add_option("--epochs", o->epochs, "Overrides [train] epochs");
  verb->add_option("--threads", o->threads, "Overrides [train] threads");
  verb->add_flag("--resume", o->resume, "Continue from the checkpoint if it exists");
}

}  // namespace minim
