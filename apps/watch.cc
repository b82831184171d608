// minim stats and minim top: what a running server has done, once or live; what it holds in memory.
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/cli.h"
#include "apps/http_line.h"
#include "serve/preload/memory_report.h"

namespace minim {
namespace {

using nlohmann::json;

struct Options {
  std::string url;
  bool json = false;
  double interval = 2;
  int64_t times = 0;
};

Result<json> ReadStats(const std::string& url) {
  MINIM_TRY(const std::string text, Fetch(url, "/v2/models/stats"));
  json stats = json::parse(text, nullptr, false);
  if (!stats.is_object() || !stats.contains("model_stats"))
    return DataLoss("{}: answered, but not with statistics", url);
  return stats["model_stats"];
}

double Number(const json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_number()
             ? object[key].get<double>()
             : 0;
}

// The counts of one tier a moment ago, to tell rates by.
using Before = std::map<std::string, double>;

std::string Row(const json& version, const json& tier, double seconds, Before& before) {
  const std::string name = fmt::format("{}/{} {}", version.value("name", ""),
                                       version.value("version", ""), tier.value("tier", ""));
  const double requests = Number(tier, "requests");
  const double rate = seconds > 0 ? (requests - before[name]) / seconds : 0;
  before[name] = requests;
  const double hits = Number(tier, "cache_hits"), misses = Number(tier, "cache_misses");
  const double runs = Number(tier, "runs");
  const json total = tier.value("phases", json::object()).value("total", json::object());
  return fmt::format(
      "{:<36.36} {:>10.0f} {:>8} {:>7.0f} {:>8.1f} % {:>9.3f} {:>9.3f} {:>9.3f} {:>7.2f} {:>7.0f} "
      "{:>5.0f}\n",
      name, requests, seconds > 0 ? fmt::format("{:.1f}", rate) : "", Number(tier, "failures"),
      hits + misses > 0 ? 100 * hits / (hits + misses) : 0, Number(total, "p50_us") / 1000,
      Number(total, "p95_us") / 1000, Number(total, "p99_us") / 1000,
      runs > 0 ? Number(tier, "rows") / runs : 0, Number(tier, "waiting_rows"),
      Number(tier, "cold_runs"));
}

// Errors: kDataLoss where a number or a name is something else.
Result<std::string> Table(const json& stats, double seconds, Before& before) try {
  std::string text =
      fmt::format("{:<36} {:>10} {:>8} {:>7} {:>10} {:>9} {:>9} {:>9} {:>7} {:>7} {:>5}\n",
                  "model/version tier", "requests", "a second", "failed", "hit rate", "p50 ms",
                  "p95 ms", "p99 ms", "rows", "waiting", "cold");
  for (const json& version : stats)
    for (const json& tier : version.value("minim", json::array()))
      if (Number(tier, "requests") > 0 || tier.value("tier", "") == "fp32")
        text += Row(version, tier, seconds, before);
  return text;
} catch (const json::exception& error) {
  return DataLoss("statistics that are none: {}", error.what());
}

int Stats(const Options& options) {
  const auto stats = ReadStats(options.url);
  if (!stats.ok()) return Report(stats.status());
  Before before;
  const auto table = Table(*stats, 0, before);
  if (!table.ok()) return Report(table.status());
  fmt::print("{}", options.json ? stats->dump(2) + "\n" : *table);
  return 0;
}

// Redraws in place on a terminal, appends elsewhere.
int Top(const Options& options) {
  if (!(options.interval >= 0.1 && options.interval <= 3600))
    return Report(
        InvalidArgument("--interval: found {}, expected 0.1 to 3600 seconds", options.interval));
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  Before before;
  auto last = std::chrono::steady_clock::now();
  for (int64_t i = 0; options.times == 0 || i < options.times; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::duration<double>(options.interval));
    const auto stats = ReadStats(options.url);
    if (!stats.ok()) return Report(stats.status());
    const auto now = std::chrono::steady_clock::now();
    const double seconds = i == 0 ? 0 : std::chrono::duration<double>(now - last).count();
    last = now;
    const auto table = Table(*stats, seconds, before);
    if (!table.ok()) return Report(table.status());
    fmt::print("{}{}", terminal ? "\x1b[H\x1b[2J" : "", *table);
    std::fflush(stdout);
  }
  return 0;
}

std::string MemoryRow(const json& model) {
  std::string tiers;
  for (const json& tier : model.value("tiers", json::array()))
    tiers += fmt::format("{}{}/{}", tiers.empty() ? "" : " ", tier.value("version", ""),
                         tier.value("tier", ""));
  return fmt::format("{:<28.28} {:<10} {:>10} {:>12.1f} {:>8.0f} {:>8.0f} {:>9.0f} {:>6} {}\n",
                     model.value("name", ""), model.value("state", ""),
                     serve::ShowBytes(model.value("bytes", uint64_t{0})),
                     Number(model, "requests_an_hour"), Number(model, "hits"),
                     Number(model, "misses"), Number(model, "evictions"),
                     model.value("pinned", false) ? "pinned" : "", tiers);
}

// Errors: kDataLoss where a number or a name is something else.
Result<std::string> MemoryText(const json& memory) try {
  std::string text =
      fmt::format("{:<28} {:<10} {:>10} {:>12} {:>8} {:>8} {:>9} {:>6} {}\n", "model", "state",
                  "memory", "expected/h", "hits", "misses", "evictions", "", "version/tier");
  for (const json& model : memory.at("models")) text += MemoryRow(model);
  const auto bytes = [&](const char* key) {
    return serve::ShowBytes(memory.at(key).get<uint64_t>());
  };
  text += fmt::format("models {} of {}, cache {}, requests {}\n", bytes("model_bytes"),
                      memory.at("budget_bytes").is_null() ? "no budget" : bytes("budget_bytes"),
                      bytes("cache_bytes"), bytes("request_bytes"));
  for (const json& advice : memory.at("recommendations"))
    text += fmt::format("advice: {}\n", advice.get<std::string>());
  return text;
} catch (const json::exception& error) {
  return DataLoss("an account of memory that is none: {}", error.what());
}

}  // namespace

Status ExplainServer(const std::string& url) {
  MINIM_TRY(const std::string answer, Fetch(url, "/v2/memory"));
  const json memory = json::parse(answer, nullptr, false);
  if (!memory.is_object()) return DataLoss("{}: answered, but not with its memory", url);
  MINIM_TRY(const std::string text, MemoryText(memory));
  fmt::print("{}", text);
  return {};
}

void AddWatchCommands(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* stats =
      AddVerb(app, "stats", "What a running server has done since it started",
              "minim stats http://127.0.0.1:8000", exit_code, [o] { return Stats(*o); });
  stats->add_option("url", o->url, "Of the server: http://HOST:PORT")->required();
  stats->add_flag("--json", o->json, "All of it, as JSON");
  CLI::App* top =
      AddVerb(app, "top", "The same, live: requests a second, latency, batches",
              "minim top http://127.0.0.1:8000 --interval 1", exit_code, [o] { return Top(*o); });
  top->add_option("url", o->url, "Of the server: http://HOST:PORT")->required();
  top->add_option("--interval", o->interval, "Seconds between looks")->capture_default_str();
  top->add_option("--times", o->times, "Stop after so many looks; 0: never")->capture_default_str();
}

}  // namespace minim
