#include "apps/shrink_page.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace minim {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

json Report() {
  return json::parse(R"({
    "preferred_tier": "int8", "goal": "latency", "metric": "log-loss", "max_loss": 0.02,
    "samples": 1000, "calibration_samples": 64, "seed": 3,
    "variants": [
      {"name": "fp32", "file": "model.onnx", "verdict": "pass", "metric": 0.5, "relative_loss": 0,
       "relative_loss_interval_95": [0, 0], "agreement": 1, "bytes": 4096, "compression": 1,
       "latency_us_batch_1": 20, "latency_us_batch_32": 300, "p99_us_batch_1": 25,
       "p99_us_batch_32": 330, "arena_bytes_batch_32": 2048, "kept": true, "reason": "the reference"},
      {"name": "int8<", "file": "variants/int8.onnx", "verdict": "fail", "metric": 0.6,
       "relative_loss": 0.2, "relative_loss_interval_95": [0.1, 0.3], "agreement": 0.9,
       "bytes": 1024, "compression": 4, "latency_us_batch_1": 10, "latency_us_batch_32": 100,
       "p99_us_batch_1": 12, "p99_us_batch_32": 120, "arena_bytes_batch_32": 1024, "kept": false,
       "reason": "refused: its loss is above the budget", "float_ops": ["head", "stem"],
       "confidence_difference": 0.0123, "detail": "entropy, bias corrected", "stored_weights": [
         {"name": "w", "max_abs": 2, "smallest_nonzero": 1e-9, "overflow": 0, "underflow": 7,
          "relative_rms_error": 0.001}]}],
    "warnings": ["few samples"],
    "sensitivity": [{"op": "conv1", "kind": "Conv", "error": 0.01, "saved_us": 4.25},
                    {"op": "head", "kind": "Gemm", "error": 0.5, "saved_us": -1}],
    "calibration": [{"value": "relu_1", "min": 0, "max": 9, "low": 0, "high": 6,
                     "histogram": [9, 3, 1], "quantized_histogram": [9, 4, 0]}]})");
}

TEST(ShrinkPage, ShowsWhatWasMeasured) {
  const std::string page = ShrinkPage(Report());
  for (const char* text :
       {"Served by default: int8; goal: latency; budget: 2 % of log-loss; 1000 samples; calibrated "
        "on 64; seed 3",
        "log-loss against microseconds at batch 1", "log-loss against KiB of the file",
        "20.00 % [10.00, 30.00]", "refused: its loss is above the budget", "2: head, stem",
        "Latency at batch 32", "10 / 12", "Memory of a run", "head Gemm", "50 %, +1.0 us",
        "1 %, -4.2 us", "relu_1", "0.0123", "entropy, bias corrected", "few samples", "<td>7</td>",
        "1.00e-03"})
    EXPECT_THAT(page, HasSubstr(text));
  EXPECT_LT(page.find("head Gemm"), page.find("conv1 Conv")) << "the worst op comes first";
  EXPECT_THAT(page, Not(HasSubstr("<script")));
}

TEST(ShrinkPage, AFewSlowRunsDoNotHideTheMedians) {
  json report = Report();
  const auto bar = [&] {  // as wide as the first one of the chart
    const std::string page = ShrinkPage(report);
    const size_t at = page.find("<rect", page.find("Latency at batch 1:"));
    const size_t width = page.find("width=\"", at) + 7;
    return std::stod(page.substr(width));
  };
  const double before = bar();
  report["variants"][0]["p99_us_batch_1"] = 1e6;
  EXPECT_GT(bar(), before / 2);
  EXPECT_THAT(ShrinkPage(report), HasSubstr("20 / 1e+06"));
}

TEST(ShrinkPage, NamesAreEscaped) {
  const std::string page = ShrinkPage(Report());
  EXPECT_THAT(page, HasSubstr("int8&lt;"));
  EXPECT_THAT(page, Not(HasSubstr("int8<<")));
}

TEST(ShrinkPage, TheBudgetLineFollowsTheDirectionOfTheMetric) {
  json report = Report();
  report["metric"] = "accuracy";
  report["variants"][1]["metric"] = 0.49;  // the budget is 0.49, too: at the point's height
  EXPECT_THAT(ShrinkSections(report), HasSubstr("49.00 %"));
  EXPECT_THAT(ShrinkSections(report), HasSubstr("accuracy, %"));
}

TEST(ShrinkPage, TakesReportsOfOlderVersions) {
  const json report = json::parse(R"({"preferred_tier": "bf16", "goal": "bytes", "max_loss": 0.02,
    "variants": [{"name": "fp32", "verdict": "pass", "accuracy": 0.9, "relative_loss": 0,
                  "relative_loss_interval_95": [0, 0], "agreement": 1, "bytes": 4096,
                  "latency_us_batch_1": 20, "latency_us_batch_32": 300, "kept": true,
                  "reason": "the reference"}]})");
  const std::string sections = ShrinkSections(report);
  EXPECT_THAT(sections, HasSubstr("90.00 %"));
  EXPECT_THAT(sections, HasSubstr("accuracy against KiB"));
  EXPECT_THAT(sections, Not(HasSubstr("times smaller")));
  EXPECT_THAT(sections, Not(HasSubstr("Sensitivity")));
}

// Whatever is taken away or has another type, the rest is shown.
TEST(ShrinkPage, TakesReportsThatLackOrBendAnything) {
  const json flat = Report().flatten();
  for (const auto& [path, value] : flat.items()) {
    for (const json& instead : {json(), json("text"), json::array({1}), json::object(), json(-1)}) {
      json bent = Report();
      bent[json::json_pointer(path)] = instead;
      EXPECT_THAT(ShrinkPage(bent), HasSubstr("</html>")) << path;
    }
  }
  for (const char* text : {"null", "[]", "{}", "3", R"({"variants": [1, null, {}]})",
                           R"({"variants": {}})", R"({"variants": [[]]})"})
    EXPECT_THAT(ShrinkPage(json::parse(text)), HasSubstr("</html>")) << text;
}

}  // namespace
}  // namespace minim
