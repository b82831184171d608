#include "serve/fallback/tier_timing.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "core/philox.h"
#include "core/stats.h"
#include "serve/batching/rows.h"

namespace minim::serve {
namespace {

constexpr int kFewestRounds = 3;
constexpr int kMostRounds = 31;

double RunSeconds(const Model& model, const std::vector<ConstView>& inputs) {
  const TimePoint start = Clock::now();
  const bool ok = model.Run(inputs).ok();
  return ok ? std::chrono::duration<double>(Clock::now() - start).count() : NAN;
}

// Median seconds of each model on the same inputs; NaN where a run failed.
std::vector<double> MedianSeconds(std::span<const std::shared_ptr<const Model>> models,
                                  const std::vector<Tensor>& inputs, Duration budget) {
  std::vector<ConstView> views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  std::vector<std::vector<double>> times(models.size());
  const TimePoint start = Clock::now();
  for (int round = 0; round <= kMostRounds; ++round) {
    for (size_t i = 0; i < models.size(); ++i) {
      const double seconds = RunSeconds(*models[i], views);
      if (round > 0) times[i].push_back(seconds);  // the first one warms
    }
    if (round >= kFewestRounds && Clock::now() - start > budget) break;
  }
  std::vector<double> medians;
  for (const auto& of_model : times) {
    const bool failed = std::any_of(of_model.begin(), of_model.end(),
                                    [](double seconds) { return std::isnan(seconds); });
    medians.push_back(failed ? NAN : Percentile(of_model, 0.5));
  }
  return medians;
}

}  // namespace

std::vector<Tensor> SampleInputs(const Model& model, int64_t rows) {
  const auto dims = DimsForRows(model, rows);
  if (!dims) return {};
  const Philox rng(1);
  uint64_t drawn = 0;
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < dims->size(); ++i) {
    Tensor values(DType::f32, (*dims)[i]);
    const DType dtype = model.inputs()[i].dtype;
    for (float& value : values.as<float>()) {
      value = rng.Uniform(drawn++);
      if (!IsFloat(dtype)) value = std::round(value);
    }
    inputs.push_back(Converted(values.view(), dtype));
  }
  return inputs;
}

std::vector<double> MeasureSpeedups(std::span<const std::shared_ptr<const Model>> models,
                                    int64_t max_rows, Duration budget) {
  std::vector<double> logs(models.size(), 0);
  int sizes = 0;
  for (const int64_t rows : {int64_t{1}, max_rows}) {
    if (sizes > 0 && max_rows <= 1) break;
    const std::vector<Tensor> inputs = SampleInputs(*models[0], rows);
    if (inputs.empty()) continue;
    const std::vector<double> medians = MedianSeconds(models, inputs, budget / 2);
    for (size_t i = 0; i < models.size(); ++i) logs[i] += std::log(medians[0] / medians[i]);
    ++sizes;
  }
  std::vector<double> speedups;
  for (const double log : logs)
    speedups.push_back(sizes == 0 || std::isnan(log) ? 0 : std::exp(log / sizes));
  return speedups;
}

}  // namespace minim::serve
