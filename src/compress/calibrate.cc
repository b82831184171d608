#include "compress/calibrate.h"

#include <algorithm>
#include <numeric>

#include "ops/builder.h"
#include "session/session_impl.h"

namespace minim {
namespace {

constexpr int64_t kFewest = 8;
constexpr int64_t kBatch = 50;
constexpr int64_t kBatchBytes = 8 << 20;  // of samples: what a model makes of them is far more

// The graph that gives the least and the greatest element of each value, so that no value outlives
// its readers.
Result<Graph> Observing(const Graph& graph, const std::vector<ValueId>& values) {
  Graph observed = graph;
  Builder builder(observed);
  observed.outputs.clear();
  for (ValueId id : values) {
    for (const char* op : {"ReduceMin", "ReduceMax"})
      observed.outputs.push_back(builder.Emit(op, {id}, {{"keepdims", int64_t{0}}}));
  }
  MINIM_TRY(builder.status());
  return observed;
}

}  // namespace

Result<std::map<ValueId, Range>> CalibrateMinMax(const Graph& graph,
                                                 const std::vector<ValueId>& values,
                                                 const Dataset& samples) {
  if (samples.size() < kFewest)
    return InvalidArgument(
        "calibration needs at least {} samples (100 or more are advised), found {}", kFewest,
        samples.size());
  MINIM_TRY(Graph observed, Observing(graph, values));
  MINIM_TRY(const std::shared_ptr<Session> session, MakeSession(std::move(observed), {}));
  std::vector<int64_t> order(static_cast<size_t>(samples.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::map<ValueId, Range> ranges;
  const int64_t sample_bytes =
      static_cast<int64_t>(samples.samples.bytes()) / std::max<int64_t>(1, samples.size());
  const int64_t most =
      std::clamp<int64_t>(kBatchBytes / std::max<int64_t>(1, sample_bytes), 1, kBatch);
  for (int64_t first = 0; first < samples.size(); first += most) {
    const int64_t count = std::min(most, samples.size() - first);
    const Batch batch = GatherBatch(samples, std::span(order).subspan(first, count));
    const ConstView views[] = {batch.samples.view()};
    MINIM_TRY(const std::vector<Tensor> outputs, session->Run(views));
    for (size_t i = 0; i < values.size(); ++i) {
      const Range seen{outputs[2 * i].as<float>()[0], outputs[2 * i + 1].as<float>()[0]};
      ranges[values[i]] = ranges[values[i]].Union(seen);
    }
  }
  return ranges;
}

}  // namespace minim
