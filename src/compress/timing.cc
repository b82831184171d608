#include "compress/timing.h"

#include "core/stats.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

Batch Cycled(const Dataset& data, int64_t batch) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < batch; ++i) rows.push_back(i % data.size());
  return GatherBatch(data, rows);
}

constexpr double kBlockMicroseconds = 30;  // that a clock measures well
constexpr int kMostRuns = 64;

// One session, its inputs and what it took.
class Timed {
 public:
  static Result<Timed> Of(const Session& session, const Feedback& feedback, const Batch& batch,
                          int64_t count) {
    Timed timed(Stream(session, feedback, count));
    MINIM_TRY(timed.inputs_, DataTensors(session, feedback, batch));
    MINIM_TRY(timed.Measure());  // plans and packs
    timed.singles_.clear();
    timed.blocks_.clear();
    return timed;
  }

  Status Measure() {
    double sum = 0;
    int runs = 0;
    stream_.Reset();  // so that no state grows without end
    for (; runs == 0 || (runs < kMostRuns && sum < kBlockMicroseconds); ++runs) {
      const auto start = Clock::now();
      MINIM_TRY(stream_.Step(inputs_).status());
      singles_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
      sum += singles_.back();
    }
    blocks_.push_back(sum / runs);
    return {};
  }

  Latency Beside(const Timed& reference) const {
    std::vector<double> ratios;
    for (size_t k = 0; k < blocks_.size(); ++k) ratios.push_back(blocks_[k] / reference.blocks_[k]);
    return {Percentile(blocks_, 0.5), Percentile(singles_, 0.99), MedianInterval(ratios)};
  }

 private:
  explicit Timed(Stream stream) : stream_(std::move(stream)) {}

  Stream stream_;
  std::vector<Tensor> inputs_;
  std::vector<double> singles_, blocks_;  // microseconds of a run; of blocks the mean
};

}  // namespace

Result<std::vector<Latency>> TimeInTurns(const std::vector<std::shared_ptr<Session>>& sessions,
                                         const Dataset& data, int64_t batch,
                                         const TimingOptions& options) {
  const Batch samples = Cycled(data, batch);
  std::vector<Timed> all;
  for (const auto& session : sessions) {
    MINIM_TRY(Timed timed, Timed::Of(*session, options.feedback, samples, batch));
    all.push_back(std::move(timed));
  }
  const auto start = Clock::now();
  for (int round = 0; round < options.most_rounds; ++round) {
    if (round >= options.least_rounds && Clock::now() - start > options.budget) break;
    for (Timed& timed : all) MINIM_TRY(timed.Measure());
  }
  std::vector<Latency> result;
  for (const Timed& timed : all) result.push_back(timed.Beside(all[0]));
  return result;
}

}  // namespace minim
