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

json StatOf(const DurationStat& stat) {
  return {{"count", stat.count.load()}, {"ns", stat.ns.load()}};
}

}  // namespace

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
               {"parameters", {{"tiers", tiers}, {"default_tier", version.default_tier}}}});
}

std::string ModelConfigJson(const ServedVersion& version) {
  const bool batched = version.max_batch > 0;
  return Text({{"name", version.model},
               {"platform", kPlatform},
               {"backend", "minim"},
               {"max_batch_size", version.max_batch},
               {"input", ConfigOf(version.reference().inputs(), batched)},
               {"output", ConfigOf(version.reference().outputs(), batched)},
               {"version_policy", {{"all", json::object()}}}});
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
                    {"batch_stats", json::array()}});
  }
  return Text({{"model_stats", list}});
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
