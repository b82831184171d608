// minim tune: measures kernels on this machine once, for every process that runs the model later.
#include "apps/cli.h"
#include "exec/tuning.h"

namespace minim {
namespace {

struct Options {
  ModelOptions model;
  std::vector<int64_t> batches{1};
  std::vector<std::string> shapes;
  double seconds = 6;
  uint64_t seed = 1;
};

Status Tune(const Options& options) {
  if (options.seconds <= 0)
    return InvalidArgument("--seconds is {}, expected more than 0", options.seconds);
  const std::optional<Path> path = TuningFile::DefaultPath();
  for (const int64_t batch : options.batches) {
    if (batch < 1) return InvalidArgument("--batch is {}, expected at least 1", batch);
    MINIM_TRY(const std::shared_ptr<Session> session, LoadModel(options.model));
    MINIM_TRY(const std::vector<Dims> dims, InputDims(*session, options.shapes, batch));
    const std::vector<Tensor> inputs = RandomInputs(*session, dims, options.seed);
    std::vector<ConstView> views;
    for (const Tensor& input : inputs) views.push_back(input.view());
    fmt::print("batch {}, {} thread{}, {}:\n", batch, options.model.threads,
               options.model.threads == 1 ? "" : "s", options.model.precision);
    std::fflush(stdout);
    MINIM_TRY(const std::string found, session->Tune(views, options.seconds));
    fmt::print("{}", found);
  }
  fmt::print("kept in {}\n", path->string());
  return {};
}

}  // namespace

void AddTuneCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, "tune", "Measure which kernels are fastest here, for all later runs of a model",
      "minim tune model.onnx --batch 1 --batch 8 --threads 2\n"
      "  MINIM_TUNING=tuning.json minim tune model.onnx; MINIM_TUNING=tuning.json minim serve "
      "model.onnx",
      exit_code, [o] {
        const Status status = Tune(*o);
        return status.ok() ? 0 : Report(status);
      });
  AddModelOptions(*verb, o->model);
  verb->add_option("--batch", o->batches, "Sizes of a symbolic leading dim")->capture_default_str();
  verb->add_option("--shape", o->shapes, "NAME=1x3x224x224");
  verb->add_option("--seconds", o->seconds, "How long to measure each batch")
      ->capture_default_str();
  verb->add_option("--seed", o->seed, "Of the random inputs")->capture_default_str();
  verb->footer(verb->get_footer() +
               "\n\nMINIM_TUNING names the file (off: none); else it is minim/tuning.json in "
               "XDG_CACHE_HOME or ~/.cache.\nIt counts on this processor and for this version of "
               "minim only.");
}

}  // namespace minim
