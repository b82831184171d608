#include "compress/calibrate.h"

#include <algorithm>
#include <numeric>

#include "session/session_impl.h"

namespace minim {
namespace {

constexpr int64_t kFewest = 8;
constexpr int64_t kBatch = 50;

void Widen(Range& range, const Tensor& values) {
  for (float v : values.as<float>()) {
    range.low = std::min(range.low, v);
    range.high = std::max(range.high, v);
  }
}

}  // namespace

Result<std::map<ValueId, Range>> CalibrateMinMax(const Graph& graph,
                                                 const std::vector<ValueId>& values,
                                                 const Dataset& samples) {
  if (samples.size() < kFewest)
    return InvalidArgument(
        "calibration needs at least {} samples (100 or more are advised), found {}", kFewest,
        samples.size());
  Graph observed = graph;
  observed.outputs = values;
  MINIM_TRY(const std::shared_ptr<Session> session, MakeSession(std::move(observed), {}));
  std::vector<int64_t> order(static_cast<size_t>(samples.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::map<ValueId, Range> ranges;
  for (int64_t first = 0; first < samples.size(); first += kBatch) {
    const int64_t count = std::min(kBatch, samples.size() - first);
    const Batch batch = GatherBatch(samples, std::span(order).subspan(first, count));
    const ConstView views[] = {batch.samples.view()};
    MINIM_TRY(const std::vector<Tensor> outputs, session->Run(views));
    for (size_t i = 0; i < values.size(); ++i) Widen(ranges[values[i]], outputs[i]);
  }
  return ranges;
}

}  // namespace minim
