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

Result<double> Microseconds(const Session& session, const Tensor& samples) {
  const ConstView views[] = {samples.view()};
  const auto start = Clock::now();
  MINIM_TRY(session.Run(views));
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

}  // namespace

Result<std::vector<Latency>> TimeInTurns(const std::vector<std::shared_ptr<Session>>& sessions,
                                         const Dataset& data, int64_t batch,
                                         const TimingOptions& options) {
  std::vector<std::vector<double>> found(sessions.size());
  std::vector<Tensor> inputs;
  for (const auto& session : sessions) {
    inputs.push_back(Cycled(data, batch, session->inputs()[0].dtype));
    MINIM_TRY(Microseconds(*session, inputs.back()));  // plans and packs
  }
  const auto start = Clock::now();
  for (int round = 0; round < options.most_rounds; ++round) {
    if (round >= options.least_rounds && Clock::now() - start > options.budget) break;
    for (size_t i = 0; i < sessions.size(); ++i) {
      MINIM_TRY(const double us, Microseconds(*sessions[i], inputs[i]));
      found[i].push_back(us);
    }
  }
  std::vector<Latency> result;
  for (const auto& samples : found)
    result.push_back({Percentile(samples, 0.5), Percentile(samples, 0.99)});
  return result;
}

}  // namespace minim
