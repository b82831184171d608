// minim load: traffic for a running server, and how long its answers took.
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/cli.h"
#include "apps/load_client.h"
#include "core/stats.h"
#include "data/dataset.h"

namespace minim {
namespace {

constexpr double kFractions[] = {0.5, 0.9, 0.95, 0.99, 0.999, 1};

struct Options {
  LoadOptions load;
  std::string samples;
  double seconds = 10;
  double target_ms = 0;
  bool json = false;
};

Result<std::vector<Tensor>> ReadSamples(const std::string& file) {
  std::vector<Tensor> rows;
  if (file.empty()) return rows;
  MINIM_TRY(const Dataset data, ReadDataset(file, file, {}));
  for (int64_t i = 0; i < std::min<int64_t>(data.size(), 10000); ++i) {
    const int64_t order[] = {i};
    rows.push_back(GatherBatch(data, order).samples);
  }
  return rows;
}

double PerSecond(int64_t count, const LoadReport& report) {
  return report.seconds > 0 ? static_cast<double>(count) / report.seconds : 0;
}

std::string NameOf(double fraction) {
  return fraction == 1 ? "max" : fmt::format("p{:g}", fraction * 100);
}

void PrintText(const Options& options, const LoadReport& report) {
  if (options.load.rate > 0) {
    fmt::print("{:.0f} requests a second asked, {:.1f} answered; latency from the moment due\n",
               options.load.rate, report.requests_per_second);
  } else {
    fmt::print("{} at a time: {:.1f} requests a second\n", options.load.concurrency,
               report.requests_per_second);
  }
  fmt::print(
      "{} requests in {:.1f} s, {} failed ({} of them refused), {} from the cache; tier {}, {:.2f} "
      "rows a run\n",
      report.latencies_us.size(), report.seconds, report.failed, report.refused, report.cache_hits,
      report.tier, report.mean_batch_rows);
  if (options.load.target.count() > 0)
    fmt::print("{} answers within {:g} ms: {:.1f} a second\n", report.in_time, options.target_ms,
               PerSecond(report.in_time, report));
  const std::vector<double> answered = report.answered_us();
  for (const double fraction : kFractions)
    if (!answered.empty())
      fmt::print("{:>6} {:12.3f} ms\n", NameOf(fraction), Percentile(answered, fraction) / 1000);
}

void PrintJson(const LoadReport& report) {
  nlohmann::json out = {{"requests", report.latencies_us.size()},
                        {"failed", report.failed},
                        {"refused", report.refused},
                        {"in_time", report.in_time},
                        {"in_time_per_second", PerSecond(report.in_time, report)},
                        {"seconds", report.seconds},
                        {"requests_per_second", report.requests_per_second},
                        {"cache_hits", report.cache_hits},
                        {"mean_batch_rows", report.mean_batch_rows},
                        {"tier", report.tier}};
  const std::vector<double> answered = report.answered_us();
  for (const double fraction : kFractions)
    if (!answered.empty()) out["latency_us"][NameOf(fraction)] = Percentile(answered, fraction);
  fmt::print("{}\n", out.dump());
}

int RunLoadVerb(Options& options) {
  if (!(options.seconds > 0 && options.seconds <= 86400))
    return Report(InvalidArgument("--seconds: found {}, expected more than 0, up to one day",
                                  options.seconds));
  options.load.duration = std::chrono::milliseconds(static_cast<int64_t>(options.seconds * 1000));
  if (!(options.target_ms >= 0 && options.target_ms <= 1e6))
    return Report(InvalidArgument("--target-ms: found {}, expected 0 to 1e6", options.target_ms));
  options.load.target = std::chrono::microseconds(std::llround(options.target_ms * 1000));
  const auto rows = ReadSamples(options.samples);
  if (!rows.ok()) return Report(rows.status());
  const auto report = RunLoad(options.load, *rows);
  if (!report.ok()) return Report(report.status());
  if (report->latencies_us.empty())
    return Report(InvalidArgument("nothing was sent: raise --rate or --seconds"));
  options.json ? PrintJson(*report) : PrintText(options, *report);
  // At a rate, refusing is what a server does with more than it can answer.
  const bool refusals_only = options.load.rate > 0 && report->failed == report->refused;
  if (report->failed == 0 || refusals_only) return 0;
  fmt::print(stderr, "minim: {} requests failed, the first: {}\n", report->failed,
             report->first_failure);
  return kExitFailed;
}

}  // namespace

void AddLoadCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  o->load.concurrency = 0;
  CLI::App* verb =
      AddVerb(app, "load", "Drive a running server and print how long its answers took",
              "minim load http://127.0.0.1:8000 --model NAME --rate 500 --seconds 30\n"
              "  minim load http://127.0.0.1:8000 --model NAME --concurrency 16 --samples x.npy",
              exit_code, [o] {
                if (o->load.concurrency == 0) o->load.concurrency = o->load.rate > 0 ? 256 : 1;
                return RunLoadVerb(*o);
              });
  LoadOptions& load = o->load;
  verb->add_option("url", load.url, "Of the server: http://HOST:PORT")->required();
  verb->add_option("--model", load.model, "Its name there")->required();
  verb->add_option("--samples", o->samples,
                   "One request a sample (.npy, IDX, CSV); without: random inputs");
  verb->add_option("--rate", load.rate,
                   "Requests a second, however long answers take; without: each connection waits "
                   "for its answer");
  verb->add_option(
      "--arrivals", load.arrivals,
      "With --rate: poisson, burst (three times the rate for a quarter of the time) or "
      "diurnal (three waves of 80 %); default: evenly spaced");
  verb->add_option("--target-ms", o->target_ms, "Count the answers that come within it");
  verb->add_option("--concurrency", load.concurrency, "Connections; default 1, or 256 with --rate");
  verb->add_option("--seconds", o->seconds, "How long")->capture_default_str();
  verb->add_option("--requests", load.requests, "How many, instead of --seconds");
  verb->add_option("--tier", load.tier, "fp32, int8, ...; default: the server's choice");
  verb->add_flag("--cache", load.use_cache, "Let the prediction cache answer");
  verb->add_flag("--json", o->json, "One JSON object instead of text");
}

}  // namespace minim
