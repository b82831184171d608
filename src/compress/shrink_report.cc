#include "compress/shrink_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace minim {
namespace {

using nlohmann::json;

constexpr size_t kReportBins = 128;  // a picture shows no more, and a file of them stays small

json StoredJson(const std::vector<TensorRange>& ranges) {
  json list = json::array();
  for (const TensorRange& r : ranges)
    list.push_back({{"name", r.name},
                    {"max_abs", r.max_abs},
                    {"smallest_nonzero", r.smallest_nonzero},
                    {"overflow", r.overflow},
                    {"underflow", r.underflow},
                    {"relative_rms_error", r.relative_rms_error}});
  return list;
}

json VariantJson(const VariantReport& v, int64_t reference_bytes, bool accuracy) {
  json out = {{"name", v.name}, {"kept", v.kept}, {"reason", v.reason}};
  if (v.bytes == 0) return out;
  const Interval& loss = v.gate.relative_loss;
  out.update({{"file", v.file},
              {"verdict", VerdictName(v.gate.verdict)},
              {"metric", v.gate.variant},
              {"relative_loss", loss.mean},
              {"relative_loss_interval_95", {loss.low, loss.high}},
              {"bytes", v.bytes},
              {"compression", static_cast<double>(reference_bytes) / static_cast<double>(v.bytes)},
              {"on_frontier", v.on_frontier}});
  if (accuracy) out["accuracy"] = v.gate.variant;
  if (v.gate.verdict == Verdict::kUndecided) out["samples_needed"] = v.gate.samples_needed;
  if (v.likeness.agreement >= 0) {
    out["agreement"] = v.likeness.agreement;
    out["confidence_difference"] = v.likeness.confidence;
  }
  for (const auto& [batch, latency] : v.latency) {
    out[fmt::format("latency_us_batch_{}", batch)] = latency.p50;
    out[fmt::format("p99_us_batch_{}", batch)] = latency.p99;
    out[fmt::format("time_ratio_batch_{}", batch)] = {latency.ratio.mean, latency.ratio.low,
                                                      latency.ratio.high};
  }
  for (const auto& [batch, bytes] : v.arena_bytes)
    out[fmt::format("arena_bytes_batch_{}", batch)] = bytes;
  if (!v.detail.empty()) out["detail"] = v.detail;
  if (!v.float_ops.empty()) out["float_ops"] = v.float_ops;
  if (!v.stored.empty()) out["stored_weights"] = StoredJson(v.stored);
  return out;
}

// Neighbouring bins together.
std::vector<int64_t> Coarse(const std::vector<int64_t>& counts) {
  if (counts.size() <= kReportBins) return counts;
  std::vector<int64_t> bins(kReportBins);
  for (size_t i = 0; i < counts.size(); ++i) bins[i * kReportBins / counts.size()] += counts[i];
  return bins;
}

// The counts of a value once its elements are rounded to 256 steps of `range`, or 255 around 0.
std::vector<int64_t> RoundedCounts(const ValueProfile& value, const Range& range, bool symmetric) {
  const size_t bins = value.counts.size();
  const double span = double{value.high} - value.low;
  const double step = symmetric ? std::max(-double{range.low}, double{range.high}) / 127
                                : (double{range.high} - range.low) / 255;
  if (bins == 0 || span <= 0 || step <= 0) return value.counts;
  std::vector<int64_t> counts(bins);
  for (size_t i = 0; i < bins; ++i) {
    const double middle =
        value.low + span * (static_cast<double>(i) + 0.5) / static_cast<double>(bins);
    const double clipped = std::clamp<double>(middle, range.low, range.high);
    const double rounded = std::nearbyint(clipped / step) * step;
    const double place = (rounded - value.low) / span * static_cast<double>(bins);
    counts[static_cast<size_t>(std::clamp(place, 0.0, static_cast<double>(bins - 1)))] +=
        value.counts[i];
  }
  return counts;
}

json CalibrationJson(const ShrinkReport& report) {
  json list = json::array();
  for (const auto& [name, value] : report.profile.values) {
    json line = {{"value", name},
                 {"min", value.low},
                 {"max", value.high},
                 {"histogram", Coarse(value.counts)}};
    if (report.static_options) {
      const StaticOptions& o = *report.static_options;
      const Range range = ChooseRange(value, o.calibrator, o.percentile, o.symmetric);
      line["low"] = range.low;
      line["high"] = range.high;
      line["quantized_histogram"] = Coarse(RoundedCounts(value, range, o.symmetric));
    }
    list.push_back(std::move(line));
  }
  return list;
}

}  // namespace

json SensitivityJson(const std::vector<OpSensitivity>& sensitivity) {
  json list = json::array();
  for (const OpSensitivity& s : sensitivity)
    list.push_back({{"op", s.op}, {"kind", s.kind}, {"error", s.error}, {"saved_us", s.saved_us}});
  return list;
}

Result<std::vector<OpSensitivity>> SensitivityFromJson(std::string_view text) {
  std::vector<OpSensitivity> list;
  try {
    for (const json& item : json::parse(text))
      list.push_back({item.at("op"), item.at("kind"), item.at("error"), item.at("saved_us")});
  } catch (const json::exception& error) {
    return DataLoss("sensitivity: {}", error.what());
  }
  return list;
}

json ShrinkReportJson(const ShrinkReport& report, const ShrinkOptions& options,
                      const std::string& key) {
  json variants = json::array();
  for (const VariantReport& v : report.variants)
    variants.push_back(VariantJson(v, report.variants[0].bytes, report.metric == "accuracy"));
  return {{"preferred_tier", report.preferred},
          {"goal", options.goal == ShrinkGoal::kLatency ? "latency" : "bytes"},
          {"metric", report.metric},
          {"max_loss", options.max_loss},
          {"samples", report.samples},
          {"calibration_samples", report.calibration_samples},
          {"seed", options.seed},
          {"run", key},
          {"warnings", report.warnings},
          {"variants", variants},
          {"sensitivity", SensitivityJson(report.sensitivity)},
          {"calibration", CalibrationJson(report)}};
}

std::optional<ShrinkReport> ReportOfRun(std::string_view text, const std::string& key) {
  ShrinkReport report;
  report.was_done = true;
  try {
    const json root = json::parse(text);
    if (root.at("run") != key) return std::nullopt;
    report.metric = root.at("metric");
    report.preferred = root.at("preferred_tier");
    for (const json& item : root.at("variants")) {
      VariantReport& v = report.variants.emplace_back();
      v.name = item.at("name");
      v.kept = item.at("kept");
      v.bytes = item.value("bytes", int64_t{0});
      v.gate.variant = item.value("metric", 0.0);
      constexpr std::string_view kLatency = "latency_us_batch_";
      for (const auto& [name, value] : item.items())
        if (name.starts_with(kLatency))
          v.latency[std::stoll(name.substr(kLatency.size()))].p50 = value;
    }
  } catch (const std::exception&) {
    return std::nullopt;  // not a report of ours: the run starts anew
  }
  return report;
}

std::vector<std::string> VariantFiles(std::string_view text) {
  std::vector<std::string> files;
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("variants") || !root["variants"].is_array()) return files;
  for (const json& variant : root["variants"]) {
    if (!variant.is_object() || !variant.contains("file") || !variant["file"].is_string()) continue;
    const auto file = variant["file"].get<std::string>();
    constexpr std::string_view kFolder = "variants/";
    const bool inside = file.starts_with(kFolder) && file.find('/', kFolder.size()) == file.npos;
    if (inside) files.push_back(file);
  }
  return files;
}

}  // namespace minim
