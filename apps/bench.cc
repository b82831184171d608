// minim bench: latency of a model on this machine.
#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/bench_server.h"
#include "apps/cli.h"
#include "core/heap.h"
#include "core/stats.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  ModelOptions model;
  std::vector<std::string> shapes, inputs;
  int64_t batch = 1;
  uint64_t seed = 1;
  double seconds = 2;
  bool json = false;
  bool profile = false;
  ServerBenchOptions server;
};

struct Timing {
  double median = 0, p10 = 0, p90 = 0;  // microseconds
  double load_ms = 0, first_ms = 0;
  SessionMemory memory;
  size_t held_bytes = 0;  // what the process grew by, loading to the second run
  size_t runs = 0;
  std::string profile;
};

double Since(Clock::time_point start, double unit) {
  return std::chrono::duration<double>(Clock::now() - start).count() * unit;
}

Result<std::vector<Tensor>> Inputs(const Session& session, const Options& options) {
  if (!options.inputs.empty()) return ReadInputs(session, options.inputs);
  MINIM_TRY(const std::vector<Dims> dims, InputDims(session, options.shapes, options.batch));
  return RandomInputs(session, dims, options.seed);
}

Result<Timing> Measure(const Options& options) {
  Timing timing;
  const size_t before = AnonymousMemory();
  const auto load_start = Clock::now();
  MINIM_TRY(const std::shared_ptr<Session> session, LoadModel(options.model));
  timing.load_ms = Since(load_start, 1e3);
  MINIM_TRY(const std::vector<Tensor> inputs, Inputs(*session, options));
  std::vector<ConstView> views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  const auto first_start = Clock::now();
  MINIM_TRY(std::vector<Tensor> outputs, session->Run(views));
  timing.first_ms = Since(first_start, 1e3);
  std::vector<View> buffers;
  for (Tensor& output : outputs) buffers.push_back(output.view());
  MINIM_TRY(session->RunInto(views, buffers));
  const size_t after = AnonymousMemory();
  timing.held_bytes = after - std::min(before, after);
  timing.memory = session->memory();
  std::vector<double> samples;
  for (const auto start = Clock::now(); Since(start, 1) < options.seconds || samples.size() < 3;) {
    const auto run_start = Clock::now();
    MINIM_TRY(session->RunInto(views, buffers));
    samples.push_back(Since(run_start, 1e6));
  }
  timing.runs = samples.size();
  timing.median = Percentile(samples, 0.5);
  timing.p10 = Percentile(samples, 0.1);
  timing.p90 = Percentile(samples, 0.9);
  if (options.profile) {
    MINIM_TRY(timing.profile, session->Profile(views, std::min<int>(50, timing.runs)));
  }
  return timing;
}

int Bench(Options& options) {
  if (!options.server.url.empty()) {
    options.server.model = options.model.model;
    options.server.json = options.json;
    if (options.server.samples.empty())
      return Report(InvalidArgument("bench --url needs --samples FILE (.npy or IDX)"));
    return BenchServer(options.server);
  }
  const auto timing = Measure(options);
  if (!timing.ok()) return Report(timing.status());
  if (options.json) {
    fmt::print("{}\n", nlohmann::json({{"median_us", timing->median},
                                       {"p10_us", timing->p10},
                                       {"p90_us", timing->p90},
                                       {"runs", timing->runs},
                                       {"arena_bytes", timing->memory.arena},
                                       {"weight_bytes", timing->memory.weights},
                                       {"packed_bytes", timing->memory.packed},
                                       {"held_bytes", timing->held_bytes},
                                       {"load_ms", timing->load_ms},
                                       {"first_ms", timing->first_ms},
                                       {"threads", options.model.threads},
                                       {"batch", options.batch},
                                       {"precision", options.model.precision}})
                           .dump());
    return 0;
  }
  fmt::print("median {:.1f} us, p10 {:.1f}, p90 {:.1f} ({} runs)\n", timing->median, timing->p10,
             timing->p90, timing->runs);
  fmt::print("load {:.1f} ms, first run {:.1f} ms\n", timing->load_ms, timing->first_ms);
  constexpr double kMiB = 1 << 20;
  fmt::print("memory {:.1f} MiB: weights {:.1f}, packed {:.1f}, arena {:.1f}\n",
             timing->held_bytes / kMiB, timing->memory.weights / kMiB, timing->memory.packed / kMiB,
             timing->memory.arena / kMiB);
  fmt::print("{}", timing->profile);
  return 0;
}

}  // namespace

void AddBenchCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, "bench", "Measure a model's latency, or a running server's",
              "minim bench model.onnx --threads 1 --batch 8 --json\n"
              "  minim bench NAME --url http://127.0.0.1:8000 --samples x.npy --labels y.npy",
              exit_code, [o] { return Bench(*o); });
  AddModelOptions(*verb, o->model);
  verb->add_option("--batch", o->batch, "Size of a symbolic leading dim")->capture_default_str();
  verb->add_option("--shape", o->shapes, "NAME=1x3x224x224");
  verb->add_option("--seed", o->seed, "Of the random inputs")->capture_default_str();
  verb->add_option("--input", o->inputs, "[NAME=]FILE instead of random inputs, as in run");
  verb->add_option("--seconds", o->seconds, "How long to measure")->capture_default_str();
  verb->add_flag("--json", o->json, "One JSON object instead of text");
  verb->add_flag("--profile", o->profile, "Also a table of what each step takes");
  ServerBenchOptions& s = o->server;
  verb->add_option("--url", s.url, "Measure the server there; MODEL is its name on the server");
  verb->add_option("--tier", s.tier, "fp32, bf16, int8, ...; default: the server's choice");
  verb->add_option("--samples", s.samples, "One request a sample");
  verb->add_option("--labels", s.labels, "Class ids, for accuracy as served");
  verb->add_option("--requests", s.requests, "How many requests")->capture_default_str();
  verb->add_option("--concurrency", s.concurrency, "Requests in flight")->capture_default_str();
  verb->add_flag("--repeat", s.repeat,
                 "Cache on; everything is sent twice, the second pass counts");
  verb->add_flag("--no-batching", s.no_batching, "Ask the server not to wait for a batch");
  verb->add_option("--keep-latencies", s.keep_latencies, "How many latencies the JSON lists");
}

}  // namespace minim
