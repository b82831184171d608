#include "serve/protocol/documents.h"

#include <nlohmann/json.hpp>

#include "serve/protocol/datatypes.h"

namespace minim::serve {
namespace {

using nlohmann::json;

std::string Text(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

json MetadataOf(const std::vector<TensorInfo>& infos) {
  json list = json::array();
  for (const TensorInfo& info : infos) {
    json shape = json::array();
    for (const int64_t size : info.dims) shape.push_back(size < 0 ? -1 : size);
    list.push_back({{"name", info.name}, {"datatype", DatatypeName(info.dtype)}, {"shape", shape}});
  }
  return list;
}

// Configurations leave the batch dimension out.
json ConfigOf(const std::vector<TensorInfo>& infos, bool batched) {
  json list = json::array();
  for (const TensorInfo& info : infos) {
    json dims = json::array();
    for (size_t i = batched ? 1 : 0; i < info.dims.size(); ++i)
      dims.push_back(info.dims[i] < 0 ? -1 : info.dims[i]);
    list.push_back(
        {{"name", info.name}, {"data_type", ConfigTypeName(info.dtype)}, {"dims", dims}});
  }
  return list;
}

json VersionPolicyOf(const VersionPolicy& policy) {
  if (!policy.numbers.empty()) return {{"specific", {{"versions", policy.numbers}}}};
  if (policy.latest == 0) return {{"all", json::object()}};
  return {{"latest", {{"num_versions", policy.latest}}}};
}

// What the protocol's sums cannot say: quantiles, hit rate and batches, by tier. Microseconds.
json TierSummaries(const ServedVersion& version) {
  json list = json::array();
  for (const auto& [name, tier] : version.tiers) {
    const ModelMetrics& metrics = *tier->metrics;
    json phases = json::object();
    for (int p = 0; p < kPhases; ++p) {
      const LatencyHistogram& times = metrics.phase(static_cast<Phase>(p));
      const auto micros = [&](double fraction) {
        return std::chrono::duration<double, std::micro>(times.Quantile(fraction)).count();
      };
      phases[std::string(PhaseName(static_cast<Phase>(p)))] = {{"count", times.count()},
                                                               {"p50_us", micros(0.5)},
                                                               {"p95_us", micros(0.95)},
                                                               {"p99_us", micros(0.99)}};
    }
    list.push_back({{"tier", name},
                    {"requests", metrics.requests()},
                    {"failures", metrics.failures()},
                    {"cache_hits", metrics.hits()},
                    {"cache_misses", metrics.misses()},
                    {"runs", metrics.runs()},
                    {"rows", metrics.rows()},
                    {"cold_runs", metrics.cold_runs()},
                    {"batch_efficiency", metrics.batch_efficiency()},
                    {"waiting_rows", tier->batcher->queued_rows()},
                    {"phases", phases}});
  }
  return list;
}

json IntervalOf(const Interval& interval) { return {interval.low, interval.high}; }

double Milliseconds(Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

json StatOf(const DurationStat& stat) {
  return {{"count", stat.count.load()}, {"ns", stat.ns.load()}};
}

}  // namespace

int64_t QueueDelayMicroseconds(const ServingConfig& config) {
  const bool waits = config.policy == "time-window";
  return waits ? std::chrono::duration_cast<std::chrono::microseconds>(config.bounds.window).count()
               : 0;
}

std::span<const std::string_view> ServerExtensions() {
  static constexpr std::string_view kExtensions[] = {"binary_tensor_data",  "statistics",
                                                     "model_configuration", "model_repository",
                                                     "schedule_policy",     "parameters"};
  return kExtensions;
}

std::string ServerMetadataJson(std::string_view server_version) {
  return Text({{"name", "minim"}, {"version", server_version}, {"extensions", ServerExtensions()}});
}

std::string ModelMetadataJson(const ServedVersion& version,
                              const std::vector<std::string>& all_versions) {
  json tiers = json::array();
  for (const auto& [name, tier] : version.tiers) tiers.push_back(name);
  return Text({{"name", version.model},
               {"versions", all_versions},
               {"platform", kPlatform},
               {"inputs", MetadataOf(version.reference().inputs())},
               {"outputs", MetadataOf(version.reference().outputs())},
               {"parameters", {{"tiers", tiers}, {"default_tier", version.chain->First()}}}});
}

std::string ModelConfigJson(const ServedVersion& version) {
  const bool batched = version.max_batch > 0;
  const std::shared_ptr<const ServingConfig> config = version.config->Get();
  return Text(
      {{"name", version.model},
       {"platform", kPlatform},
       {"backend", "minim"},
       {"max_batch_size", version.max_batch},
       {"input", ConfigOf(version.reference().inputs(), batched)},
       {"output", ConfigOf(version.reference().outputs(), batched)},
       {"version_policy", VersionPolicyOf(config->versions)},
       {"instance_group",
        {{{"name", version.model + "_0"}, {"kind", "KIND_CPU"}, {"count", config->instances}}}},
       {"dynamic_batching", {{"max_queue_delay_microseconds", QueueDelayMicroseconds(*config)}}},
       {"response_cache", {{"enable", config->cache}}}});
}

std::string ModelStatsJson(const std::vector<std::shared_ptr<const ServedVersion>>& versions) {
  json list = json::array();
  for (const auto& version : versions) {
    const ModelStats& stats = *version->stats;
    list.push_back({{"name", version->model},
                    {"version", version->version},
                    {"last_inference", stats.last_inference_ms.load()},
                    {"inference_count", stats.inference_count.load()},
                    {"execution_count", stats.execution_count.load()},
                    {"inference_stats",
                     {{"success", StatOf(stats.success)},
                      {"fail", StatOf(stats.fail)},
                      {"queue", StatOf(stats.queue)},
                      {"compute_input", StatOf(stats.compute_input)},
                      {"compute_infer", StatOf(stats.compute_infer)},
                      {"compute_output", StatOf(stats.compute_output)},
                      {"cache_hit", StatOf(stats.cache_hit)},
                      {"cache_miss", StatOf(stats.cache_miss)}}},
                    {"batch_stats", json::array()},
                    {"minim", TierSummaries(*version)}});
  }
  return Text({{"model_stats", list}});
}

std::string TiersJson(const ServedVersion& version) {
  json list = json::array();
  for (const TierStatus& tier : version.chain->Describe())
    list.push_back({{"tier", tier.candidate.name},
                    {"state", tier.state},
                    {"reason", tier.reason},
                    {"speedup", tier.candidate.speedup},
                    {"demotions", tier.demotions},
                    {"compared_rows", tier.compared_rows},
                    {"differing_rows", tier.differing_rows}});
  return Text({{"model_name", version.model}, {"model_version", version.version}, {"tiers", list}});
}

std::string RolloutJson(const ServedVersion& version) {
  const RolloutStatus status = version.rollout->Describe();
  json list = json::array();
  for (const VersionComparison& one : status.versions)
    list.push_back({{"version", std::to_string(one.version)},
                    {"share", one.share},
                    {"requests", one.requests},
                    {"failures", one.failures},
                    {"p50_ms", Milliseconds(one.p50)},
                    {"p99_ms", Milliseconds(one.p99)},
                    {"compared_rows", one.compared_rows},
                    {"differing_rows", one.differing_rows},
                    {"score_difference", one.score_difference.mean},
                    {"score_difference_interval_95", IntervalOf(one.score_difference)}});
  return Text({{"model_name", version.model},
               {"mode", RolloutModeName(status.mode)},
               {"stage", status.stage + 1},
               {"stages", status.stages},
               {"state", status.state},
               {"reason", status.reason},
               {"versions", list}});
}

std::string IndexJson(const std::vector<IndexEntry>& entries) {
  json list = json::array();
  for (const IndexEntry& entry : entries)
    list.push_back({{"name", entry.name},
                    {"version", entry.version},
                    {"state", entry.ready ? "READY" : "UNAVAILABLE"},
                    {"reason", entry.reason}});
  return Text(list);
}

}  // namespace minim::serve
