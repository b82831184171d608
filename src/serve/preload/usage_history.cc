#include "serve/preload/usage_history.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

using nlohmann::json;

constexpr double kHalfLifeHours = 0.5;
constexpr double kDayWeight = 0.7;
constexpr int64_t kMostDays = 100000;  // since the epoch: what a clock in nanoseconds can say

double Hours(WallTime::duration time) {
  return std::chrono::duration<double, std::ratio<3600>>(time).count();
}

// What is left of a fading sum. A clock that was set back fades nothing.
double Faded(double sum, WallTime::duration since) {
  return sum * std::exp2(-std::max(0.0, Hours(since)) / kHalfLifeHours);
}

}  // namespace

int64_t UsageHistory::DayOf(WallTime time) {
  return std::chrono::floor<std::chrono::days>(time.time_since_epoch()).count();
}

int UsageHistory::SlotOf(WallTime time) {
  const auto into_day =
      time.time_since_epoch() - std::chrono::floor<std::chrono::days>(time.time_since_epoch());
  return std::clamp(static_cast<int>(Hours(into_day) * 2), 0, kSlots - 1);
}

// Folds the days that are over into the past. Days without a request count as well.
void UsageHistory::EndDays(Model& model, int64_t day) {
  for (int ended = 0; model.day < day && ended < 60; ++model.day, ++ended) {
    const double weight = model.days * kDayWeight;
    for (int s = 0; s < kSlots; ++s)
      model.past[s] = (model.past[s] * weight + model.today[s]) / (weight + 1);
    model.days = weight + 1;
    model.today.fill(0);
  }
  model.day = std::max(model.day, day);
}

void UsageHistory::Record(const std::string& model_name, WallTime now, double requests) {
  Model& model = models_[model_name];
  if (model.total == 0) model.day = DayOf(now);
  EndDays(model, DayOf(now));
  model.recent = Faded(model.recent, now - model.recent_at) + requests;
  model.recent_at = now;
  model.today[SlotOf(now)] += requests;
  model.total += requests;
}

double UsageHistory::PredictedRate(const std::string& model_name, WallTime now) const {
  const auto it = models_.find(model_name);
  if (it == models_.end()) return 0;
  Model model = it->second;
  EndDays(model, DayOf(now));
  // A steady rate r keeps the fading sum at r * half life / ln 2.
  const double recent = Faded(model.recent, now - model.recent_at) * std::log(2) / kHalfLifeHours;
  if (model.days == 0) return recent;
  const int slot = SlotOf(now);
  const double habit = model.past[slot] + model.past[(slot + 1) % kSlots];  // an hour's requests
  return (recent + habit) / 2;
}

std::vector<std::string> UsageHistory::ByUse(WallTime now) const {
  std::vector<std::pair<double, std::string>> ranked;
  for (const auto& [name, stored] : models_) {
    Model model = stored;
    EndDays(model, DayOf(now));
    double sum = 0;
    for (int s = 0; s < kSlots; ++s) sum += model.past[s] + model.today[s];
    ranked.emplace_back(-sum, name);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> names;
  for (auto& [use, name] : ranked) names.push_back(std::move(name));
  return names;
}

double UsageHistory::total(const std::string& model) const {
  const auto it = models_.find(model);
  return it == models_.end() ? 0 : it->second.total;
}

std::optional<WallTime> UsageHistory::last_use(const std::string& model) const {
  const auto it = models_.find(model);
  return it == models_.end() ? std::nullopt : std::optional(it->second.recent_at);
}

std::string UsageHistory::ToJson() const {
  json models = json::object();
  for (const auto& [name, model] : models_)
    models[name] = {{"recent", model.recent},
                    {"recent_at", std::chrono::duration_cast<std::chrono::milliseconds>(
                                      model.recent_at.time_since_epoch())
                                      .count()},
                    {"past", model.past},
                    {"today", model.today},
                    {"days", model.days},
                    {"day", model.day},
                    {"total", model.total}};
  return json{{"version", 1}, {"models", models}}.dump(-1, ' ', false,
                                                       json::error_handler_t::replace);
}

// What Record never wrote would turn up in every later prediction.
Status UsageHistory::CheckNumbers(const Model& model) {
  const auto sane = [](double value) { return value >= 0 && value <= 1e18; };
  const bool counts = sane(model.recent) && sane(model.days) && sane(model.total) &&
                      std::all_of(model.past.begin(), model.past.end(), sane) &&
                      std::all_of(model.today.begin(), model.today.end(), sane);
  if (!counts || model.day < -kMostDays || model.day > kMostDays)
    return DataLoss("found a number out of range; remove the file to begin anew");
  return {};
}

Status UsageHistory::FromJson(std::string_view text) {
  std::map<std::string, Model> read;
  try {
    const json root = json::parse(text);
    for (const auto& [name, from] : root.at("models").items()) {
      Model& model = read[name];
      from.at("recent").get_to(model.recent);
      const auto at_ms = from.at("recent_at").get<int64_t>();
      if (at_ms < 0 || at_ms > kMostDays * 86400000)
        return DataLoss("usage history: model '{}': recent_at is out of range", name);
      model.recent_at = WallTime(std::chrono::milliseconds(at_ms));
      from.at("past").get_to(model.past);
      from.at("today").get_to(model.today);
      from.at("days").get_to(model.days);
      from.at("day").get_to(model.day);
      from.at("total").get_to(model.total);
      MINIM_TRY(Annotate(CheckNumbers(model), fmt::format("usage history: model '{}'", name)));
    }
  } catch (const json::exception& error) {
    return DataLoss("usage history: {}; remove the file to begin anew", error.what());
  }
  models_ = std::move(read);
  return {};
}

}  // namespace minim::serve
