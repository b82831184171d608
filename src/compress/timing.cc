#include "compress/timing.h"

#include "core/dtype.h"
#include "core/stats.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

Tensor Cycled(const Dataset& data, int64_t batch, DType dtype) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < batch; ++i) rows.push_back(i % data.size());
  return Converted(GatherBatch(data, rows).samples.view(), dtype);
}

constexpr double kBlockMicroseconds = 30;  // that a clock measures well
constexpr int kMostRuns = 64;

// What one session took.
struct Times {
  std::vector<double> singles, blocks;  // microseconds of a run; of blocks the mean

  Status Measure(const Session& session, const Tensor& samples) {
    const ConstView views[] = {samples.view()};
    double sum = 0;
    int runs = 0;
    for (; runs == 0 || (runs < kMostRuns && sum < kBlockMicroseconds); ++runs) {
      const auto start = Clock::now();
      MINIM_TRY(session.Run(views));
      singles.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
      sum += singles.back();
    }
    blocks.push_back(sum / runs);
    return {};
  }
};

}  // namespace

Result<std::vector<Latency>> TimeInTurns(const std::vector<std::shared_ptr<Session>>& sessions,
                                         const Dataset& data, int64_t batch,
                                         const TimingOptions& options) {
  std::vector<Times> times(sessions.size());
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < sessions.size(); ++i) {
    inputs.push_back(Cycled(data, batch, sessions[i]->inputs()[0].dtype));
    MINIM_TRY(times[i].Measure(*sessions[i], inputs[i]));  // plans and packs
    times[i] = {};
  }
  const auto start = Clock::now();
  for (int round = 0; round < options.most_rounds; ++round) {
    if (round >= options.least_rounds && Clock::now() - start > options.budget) break;
    for (size_t i = 0; i < sessions.size(); ++i)
      MINIM_TRY(times[i].Measure(*sessions[i], inputs[i]));
  }
  std::vector<Latency> result;
  for (const Times& t : times) {
    std::vector<double> ratios;
    for (size_t k = 0; k < t.blocks.size(); ++k) ratios.push_back(t.blocks[k] / times[0].blocks[k]);
    result.push_back(
        {Percentile(t.blocks, 0.5), Percentile(t.singles, 0.99), MedianInterval(ratios)});
  }
  return result;
}

}  // namespace minim
