// minim shrink: variants of a model, measured and gated.
#include "compress/shrink.h"

#include "apps/cli.h"
#include "apps/progress.h"

namespace minim {
namespace {

int Run(const ShrinkOptions& options) {
  ProgressBar bar;
  const auto report = Shrink(
      options, [&](double fraction, const std::string& text) { bar.Update(fraction, text); });
  bar.Finish("");
  if (!report.ok()) return Report(report.status());
  fmt::print("{:13} {:>9} {:>9} {:>22} {:>10} {:>11} {:>11}\n", "variant", "bytes", "accuracy",
             "relative loss (95 %)", "verdict", "us batch 1", "us batch 32");
  for (const VariantReport& v : report->variants) {
    if (v.bytes > 0)
      fmt::print(
          "{:13} {:>9} {:>8.2f}% {:>6.2f}% [{:>5.2f}, {:>5.2f}] {:>10} {:>11.1f} {:>11.1f}\n",
          v.name, v.bytes, v.gate.variant_accuracy * 100, v.gate.relative_loss.mean * 100,
          v.gate.relative_loss.low * 100, v.gate.relative_loss.high * 100,
          VerdictName(v.gate.verdict), v.latency_us, v.latency_b32_us);
    fmt::print("{:13} {}\n", "", v.reason);
  }
  fmt::print("served by default: {}; written to {}/1\n", report->preferred, options.out);
  return 0;
}

}  // namespace

void AddShrinkCommand(CLI::App& app, int& exit_code) {
  struct Options {
    ShrinkOptions shrink;
    std::string goal = "latency";
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, "shrink", "Make INT8 and BF16 variants within an accuracy budget",
              "minim shrink model.onnx --test-samples x.npy --test-labels y.npy "
              "--calibration-samples cx.npy --calibration-labels cy.npy --out models/mine",
              exit_code, [o] {
                if (o->goal != "latency" && o->goal != "bytes")
                  return Report(InvalidArgument("--goal '{}' is unknown; expected latency or bytes",
                                                o->goal));
                o->shrink.goal = o->goal == "bytes" ? ShrinkGoal::kBytes : ShrinkGoal::kLatency;
                return Run(o->shrink);
              });
  ShrinkOptions& s = o->shrink;
  verb->add_option("model", s.model, "FP32 ONNX file")->required();
  verb->add_option("--test-samples", s.test_samples, ".npy or IDX: accuracy is measured on these")
      ->required();
  verb->add_option("--test-labels", s.test_labels, "Their class ids")->required();
  verb->add_option("--calibration-samples", s.calibration_samples,
                   "Static INT8 is calibrated on these")
      ->required();
  verb->add_option("--calibration-labels", s.calibration_labels, "Their class ids")->required();
  verb->add_option("--calibration-count", s.calibration_count, "How many of them")
      ->capture_default_str();
  verb->add_option("--max-loss", s.max_loss, "Largest relative loss of accuracy")
      ->capture_default_str();
  verb->add_option("--goal", o->goal, "latency or bytes")->capture_default_str();
  verb->add_option("--out", s.out, "Model folder to write")->required();
}

}  // namespace minim
