#include "serve/preload/memory_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

using nlohmann::json;

constexpr std::chrono::hours kLongIdle{24 * 7};
// A share of misses that a larger budget could do something about.
constexpr double kManyMisses = 0.05;

std::string AdviceOnIdle(const ModelMemory& model) {
  const auto days = std::chrono::duration_cast<std::chrono::days>(model.idle).count();
  return fmt::format("model '{}' had no request for {} days and holds {}: {}", model.name, days,
                     ShowBytes(model.bytes),
                     model.pinned ? "do not pin it" : "take it out, or serve with a memory budget");
}

// Empty if the budget is enough, as far as can be told.
std::string AdviceOnBudget(const MemoryReport& report) {
  uint64_t hits = 0, misses = 0, wanted = 0;
  for (const ModelMemory& model : report.models) {
    hits += model.hits;
    misses += model.misses;
    if (model.pinned || model.rate >= 1) wanted += model.bytes;
  }
  if (wanted <= report.budget) return "";
  const double share = static_cast<double>(misses) / static_cast<double>(hits + misses);
  if (!(share > kManyMisses)) return "";
  return fmt::format(
      "{:.0f} % of the requests had to wait for a model to be loaded: the models that are asked "
      "for need {}, the budget is {}",
      100 * share, ShowBytes(wanted), ShowBytes(report.budget));
}

json TiersOf(const ModelMemory& model) {
  json list = json::array();
  for (const TierMemory& tier : model.tiers)
    list.push_back({{"version", tier.version},
                    {"tier", tier.tier},
                    {"weight_bytes", tier.weight_bytes},
                    {"context_bytes", tier.context_bytes}});
  return list;
}

json ModelJson(const ModelMemory& model, bool budget) {
  json entry = {{"name", model.name},     {"state", model.state},           {"bytes", model.bytes},
                {"pinned", model.pinned}, {"requests_an_hour", model.rate}, {"last_use", nullptr},
                {"tiers", TiersOf(model)}};
  if (model.last_use)
    entry["last_use"] =
        std::chrono::duration_cast<std::chrono::milliseconds>(model.last_use->time_since_epoch())
            .count();
  if (!budget) return entry;
  entry["hits"] = model.hits;
  entry["misses"] = model.misses;
  entry["evictions"] = model.evictions;
  return entry;
}

}  // namespace

uint64_t MemoryReport::model_bytes() const {
  uint64_t sum = 0;
  for (const ModelMemory& model : models)
    if (model.holds_memory()) sum += model.bytes;
  return sum;
}

std::string ShowBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit > 0 && value < 10 ? 1 : 0, kUnits[unit]);
}

std::vector<std::string> Recommendations(const MemoryReport& report) {
  std::vector<std::string> advice;
  if (report.budget > 0)
    if (std::string more = AdviceOnBudget(report); !more.empty()) advice.push_back(std::move(more));
  std::vector<const ModelMemory*> idle;
  for (const ModelMemory& model : report.models)
    if (model.holds_memory() && model.idle >= kLongIdle) idle.push_back(&model);
  std::stable_sort(idle.begin(), idle.end(),
                   [](const auto* a, const auto* b) { return a->bytes > b->bytes; });
  for (const ModelMemory* model : idle) advice.push_back(AdviceOnIdle(*model));
  return advice;
}

std::string MemoryJson(const MemoryReport& report) {
  json models = json::array();
  for (const ModelMemory& model : report.models)
    models.push_back(ModelJson(model, report.budget > 0));
  const uint64_t used = report.model_bytes();
  json document = {{"budget_bytes", nullptr},
                   {"threshold_bytes", nullptr},
                   {"model_bytes", used},
                   {"cache_bytes", report.cache_bytes},
                   {"request_bytes", report.request_bytes},
                   {"total_bytes", used + report.cache_bytes + report.request_bytes},
                   {"models", std::move(models)},
                   {"recommendations", Recommendations(report)}};
  if (report.budget > 0) {
    document["budget_bytes"] = report.budget;
    document["threshold_bytes"] = report.threshold;
  }
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace minim::serve
