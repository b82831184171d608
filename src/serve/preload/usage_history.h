// UsageHistory: how often each model is asked for, of late and at this time of day, and from that
// how often it will be. Data only: time comes in with every call.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace minim::serve {

/// Local wall-clock time: what people's habits go by.
using WallTime = std::chrono::system_clock::time_point;

class UsageHistory {
 public:
  void Record(const std::string& model, WallTime now, double requests = 1);

  /// Requests an hour to expect from now on: the mean of the rate of late (half of it is of the
  /// last half hour) and of the rate at this and the next half hour of earlier days (each day
  /// counts 0.7 of the day after it). A model that has no earlier days goes by its rate of late
  /// alone.
  double PredictedRate(const std::string& model, WallTime now) const;
  /// All models ever recorded, the most asked for in the days past first.
  std::vector<std::string> ByUse(WallTime now) const;
  double total(const std::string& model) const;
  std::optional<WallTime> last_use(const std::string& model) const;

  /// One JSON document; what cannot be read is an error and changes nothing.
  std::string ToJson() const;
  Status FromJson(std::string_view text);

 private:
  static constexpr int kSlots = 48;  // half hours

  struct Model {
    double recent = 0;  // requests, fading
    WallTime recent_at;
    /// Mean requests per slot of earlier days, and what today has so far.
    std::array<double, kSlots> past{};
    std::array<double, kSlots> today{};
    double days = 0;  // the weight of the days in `past`
    int64_t day = 0;  // since the epoch
    double total = 0;
  };

  static int64_t DayOf(WallTime time);
  static int SlotOf(WallTime time);
  static void EndDays(Model& model, int64_t day);
  static Status CheckNumbers(const Model& model);

  std::map<std::string, Model> models_;
};

}  // namespace minim::serve
