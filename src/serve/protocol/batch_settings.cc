#include "serve/protocol/batch_settings.h"

#include "serve/protocol/json_reader.h"

namespace minim::serve {
namespace {

constexpr std::string_view kKnown =
    "policy, max_batch, min_batch, window_ms, max_wait_ms, latency_target_ms, max_queue_rows";

Status ReadRows(ondemand::value value, std::string_view key, int64_t& rows) {
  if (value.get_int64().get(rows)) return InvalidArgument("{}: expected a whole number", key);
  return {};
}

Status ReadMilliseconds(ondemand::value value, std::string_view key, Duration& time) {
  double found = 0;
  if (value.get_double().get(found)) return InvalidArgument("{}: expected milliseconds", key);
  // What overflows a duration is refused here, what is merely too long by CheckBatchSettings.
  if (!(found >= 0 && found <= 1e9))
    return InvalidArgument("{}: found {}, expected 0 to a day of milliseconds", key, found);
  time = FromSeconds(found / 1e3);
  return {};
}

Status ReadField(std::string_view key, ondemand::value value, BatchSettings& settings) {
  BatchOptions& bounds = settings.bounds;
  if (key == "policy") {
    std::string_view name;
    if (value.get_string().get(name)) return InvalidArgument("policy: expected a string");
    auto policy = FindBatchPolicy(name.substr(0, 64));
    if (!policy.ok()) return Annotate(policy.status(), key);
    settings.policy = *policy;
    return {};
  }
  if (key == "max_batch") return ReadRows(value, key, bounds.max_batch);
  if (key == "min_batch") return ReadRows(value, key, bounds.min_batch);
  if (key == "max_queue_rows") return ReadRows(value, key, settings.max_queue_rows);
  if (key == "window_ms") return ReadMilliseconds(value, key, bounds.window);
  if (key == "max_wait_ms") return ReadMilliseconds(value, key, bounds.max_wait);
  if (key == "latency_target_ms") return ReadMilliseconds(value, key, bounds.latency_target);
  return InvalidArgument("'{}': no such setting; there are {}", key.substr(0, 64), kKnown);
}

}  // namespace

Result<BatchSettings> ParseBatchSettings(std::string& text, const BatchSettings& current) {
  constexpr std::string_view kWhere = "batch settings";
  if (text.capacity() < text.size() + simdjson::SIMDJSON_PADDING)
    text.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  BatchSettings settings = current;
  ondemand::parser parser;
  ondemand::document document;
  READ_JSON(document,
            parser.iterate(simdjson::padded_string_view(text.data(), text.size(), text.capacity())),
            kWhere);
  ondemand::object object;
  READ_JSON(object, document.get_object(), kWhere);
  MINIM_TRY(ForEachField(object, kWhere, [&](std::string_view key, ondemand::value value) {
    return ReadField(key, value, settings);
  }));
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
    return InvalidArgument("{}: something follows the closing brace", kWhere);
  MINIM_TRY(CheckBatchSettings(settings));
  return settings;
}

std::string BatchSettingsJson(const BatchSettings& settings) {
  const BatchOptions& bounds = settings.bounds;
  const auto ms = [](Duration time) { return ToSeconds(time) * 1e3; };
  return fmt::format(
      R"({{"policy":"{}","max_batch":{},"min_batch":{},"window_ms":{},"max_wait_ms":{},)"
      R"("latency_target_ms":{},"max_queue_rows":{}}})",
      settings.policy.name, bounds.max_batch, bounds.min_batch, ms(bounds.window),
      ms(bounds.max_wait), ms(bounds.latency_target), settings.max_queue_rows);
}

}  // namespace minim::serve
