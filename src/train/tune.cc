#include "train/tune.h"

#include <chrono>
#include <thread>

#include "core/stats.h"
#include "train/step_runner.h"

namespace minim {
namespace {

constexpr int kSteps = 5;
constexpr double kFewerThreads = 0.97, kLargerBatch = 1.05;
constexpr int64_t kLeastSteps = 10;  // an epoch

class Tuner {
 public:
  Tuner(const Graph& forward, const TrainConfig& config, DataSource& data, size_t most_bytes,
        const std::function<bool(const TuneTrial&)>& tried)
      : forward_(forward), config_(config), data_(data), most_bytes_(most_bytes), tried_(tried) {}

  Result<TrainConfig> Run() {
    config_.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    MINIM_TRY(best_, Try(config_, TrainPrecision::kFp32));
    MINIM_TRY(Improve(config_, TrainPrecision::kBf16, 1));
    MINIM_TRY(Threads());
    MINIM_TRY(BatchSize());
    config_.precision = best_.precision;
    return config_;
  }

 private:
  Result<TuneTrial> Try(TrainConfig& config, TrainPrecision precision) {
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < config.batch; ++i) indices.push_back(i);
    MINIM_TRY(const Batch like, data_.Gather(indices));
    auto trial = TimeStep(forward_, config, precision, like);
    if (trial.ok() && trial->bytes > most_bytes_ && config.memory.budget_bytes == 0) {
      config.memory.budget_bytes = most_bytes_;
      trial = TimeStep(forward_, config, precision, like);
    }
    if (trial.ok() && tried_ && !tried_(*trial)) return Cancelled("tuning was stopped");
    return trial;
  }

  // Takes a setting that is at least `factor` times as fast. One that cannot run is passed over.
  Result<bool> Improve(TrainConfig config, TrainPrecision precision, double factor) {
    const auto trial = Try(config, precision);
    if (!trial.ok() && trial.status().code() == StatusCode::kCancelled) return trial.status();
    if (!trial.ok() || trial->samples_per_second < factor * best_.samples_per_second) return false;
    best_ = *trial;
    config_ = std::move(config);
    return true;
  }

  Status Threads() {
    for (int threads = config_.threads / 2; threads >= 1; threads /= 2) {
      TrainConfig fewer = config_;
      fewer.threads = threads;
      MINIM_TRY(const bool taken, Improve(std::move(fewer), best_.precision, kFewerThreads));
      if (!taken) return {};
    }
    return {};
  }

  Status BatchSize() {
    while (2 * config_.batch * config_.accumulate * kLeastSteps <= data_.size()) {
      TrainConfig larger = config_;
      larger.batch *= 2;
      MINIM_TRY(const bool taken, Improve(std::move(larger), best_.precision, kLargerBatch));
      if (!taken) return {};
    }
    return {};
  }

  const Graph& forward_;
  TrainConfig config_;
  DataSource& data_;
  const size_t most_bytes_;  // of a step without a budget
  const std::function<bool(const TuneTrial&)>& tried_;
  TuneTrial best_;
};

}  // namespace

Result<TuneTrial> TimeStep(const Graph& forward, const TrainConfig& config,
                           TrainPrecision precision, const Batch& like) {
  using Clock = std::chrono::steady_clock;
  const std::vector<Batch> batches(static_cast<size_t>(config.accumulate), like);
  MINIM_TRY(const auto runner, StepRunner::Make(forward, config, precision, like));
  std::vector<double> times;
  for (int i = 0; i <= kSteps; ++i) {
    const Clock::time_point start = Clock::now();
    MINIM_TRY(runner->Run(batches, 0, i).status());
    if (i > 0) times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  TuneTrial trial{.precision = precision, .threads = config.threads, .batch = config.batch};
  trial.step_seconds = Percentile(times, 0.5);
  trial.samples_per_second =
      static_cast<double>(config.batch * config.accumulate) / trial.step_seconds;
  trial.bytes = runner->arena_bytes() + runner->state_bytes();
  return trial;
}

Result<TrainConfig> TuneSteps(const Graph& forward, const TrainConfig& config, DataSource& data,
                              size_t most_bytes,
                              const std::function<bool(const TuneTrial&)>& tried) {
  return Tuner(forward, config, data, most_bytes, tried).Run();
}

}  // namespace minim
