#include "compress/calibrate.h"

#include <algorithm>
#include <cmath>

#include "compress/value_choice.h"
#include "core/dtype.h"
#include "core/thread_pool.h"
#include "ops/builder.h"
#include "session/session_impl.h"

namespace minim {
namespace {

constexpr int64_t kFewest = 8;
constexpr double kNewest = 0.01;  // weight of the newest sample in the moving averages
constexpr size_t kChunkBytes = size_t{64} << 20;  // of samples in memory, but for one a thread

struct Watched {
  ValueId id = kNoValue;
  int channel_axis = -1;  // of the mean; -1: none
};

// Where the channels are in what `node` multiplies its weights with; -1: there is no other axis.
int InputChannelAxis(const Graph& graph, const Node& node) {
  const TensorType& type = graph.type(node.input(0));
  if (!type.ranked() || type.rank() < 2) return -1;
  return node.Is("Conv") ? 1 : type.rank() - 1;
}

// All that any subset of the quantizable ops makes 8 bits of: a subset chooses fewer values.
std::vector<Watched> ValuesToWatch(const Graph& graph) {
  std::map<ValueId, int> axes;
  const ValueChoice choice = ChooseQuantized(graph);
  for (const auto& [root, sources] : choice.sources)
    for (ValueId id : sources) axes.emplace(id, -1);
  for (const Node& node : graph.nodes)
    if (ChannelAxis(graph, node) >= 0) axes[node.input(0)] = InputChannelAxis(graph, node);
  std::vector<Watched> watched;
  for (const auto& [id, axis] : axes) watched.push_back({id, axis});
  return watched;
}

// Both graphs have reductions for outputs, so that no value outlives its readers.
Result<Graph> RangeGraph(const Graph& graph, const std::vector<Watched>& watched) {
  Graph observed = graph;
  Builder builder(observed);
  observed.outputs.clear();
  for (const Watched& w : watched) {
    for (const char* op : {"ReduceMin", "ReduceMax"})
      observed.outputs.push_back(builder.Emit(op, {w.id}, {{"keepdims", int64_t{0}}}));
    if (w.channel_axis < 0) continue;
    std::vector<int64_t> axes;
    for (int axis = 0; axis < graph.type(w.id).rank(); ++axis)
      if (axis != w.channel_axis) axes.push_back(axis);
    observed.outputs.push_back(
        builder.Emit("ReduceMean", {w.id, builder.Ints(axes)}, {{"keepdims", int64_t{0}}}));
  }
  MINIM_TRY(builder.status());
  return observed;
}

Result<Graph> HistogramGraph(const Graph& graph, const std::vector<Watched>& watched,
                             const ActivationProfile& profile) {
  Graph observed = graph;
  Builder builder(observed);
  observed.outputs.clear();
  for (const Watched& w : watched) {
    const ValueProfile& p = profile.values.at(graph.value(w.id).name);
    const ValueId range = builder.Constant(Tensor::From<float>({2}, {p.low, p.high}));
    const std::vector<ValueId> made = builder.EmitMany(
        "ValueHistogram", {w.id, range}, 2, {{"bins", int64_t{kHistogramBins}}}, kMinimDomain);
    observed.outputs.insert(observed.outputs.end(), made.begin(), made.end());
  }
  MINIM_TRY(builder.status());
  return observed;
}

// Rows of such an array are inputs as a whole, of which the first dim counts no samples.
bool IsWhole(const TensorType& type, const Dims& dims) {
  return type.ranked() && dims.rank() == type.rank() + 1;
}

// The tensors of a batch in the order and the dtypes of the graph's inputs.
Result<std::vector<Tensor>> InputsOf(const Graph& graph, const Batch& batch) {
  if (graph.inputs.size() != 1 + batch.others.size())
    return InvalidArgument("calibration: the model has {} inputs, the data gives {}",
                           graph.inputs.size(), 1 + batch.others.size());
  std::vector<Tensor> inputs = {batch.samples};
  inputs.insert(inputs.end(), batch.others.begin(), batch.others.end());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const DType wanted = graph.type(graph.inputs[i]).dtype;
    if (inputs[i].dtype() != wanted) inputs[i] = Converted(inputs[i].view(), wanted);
  }
  return inputs;
}

// The batch size that the model fixes for samples like these; else 1.
Result<int64_t> GroupSize(const Graph& graph, DataSource& samples) {
  const int64_t first[] = {0};
  MINIM_TRY(const Batch batch, samples.Gather(first));
  MINIM_TRY(const std::vector<Tensor> inputs, InputsOf(graph, batch));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorType& type = graph.type(graph.inputs[i]);
    const bool counts = type.ranked() && type.rank() > 0 && !IsWhole(type, inputs[i].dims());
    if (counts && (*type.shape)[0].known()) return std::max<int64_t>(1, (*type.shape)[0].value());
  }
  return 1;
}

Status CheckFinite(const Tensor& samples, std::span<const int64_t> indices) {
  if (samples.dtype() != DType::f32) return {};
  const auto values = samples.as<float>();
  const size_t width = values.size() / std::max<size_t>(1, indices.size());
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return InvalidArgument("calibration sample {} holds {} at element {}: take it out or mend it",
                             indices[i / width], values[i], i % width);
  return {};
}

using Outputs = std::vector<Tensor>;

// Runs a graph over all groups of samples, `batch` samples in memory at a time.
class Sweep {
 public:
  Sweep(const Graph& graph, DataSource& samples, int64_t group, const CollectOptions& options)
      : graph_(graph),
        samples_(samples),
        group_(group),
        chunk_(std::max<int64_t>(1, options.batch / group_)),
        threads_(std::max(1, options.threads)),
        pool_(threads_ - 1) {}

  int threads() const { return threads_; }
  int64_t groups() const { return (samples_.size() + group_ - 1) / group_; }
  int64_t chunk() const { return chunk_; }
  int64_t group() const { return group_; }

  /// take(thread, place in the chunk, outputs) for every group, concurrently for different threads;
  /// done(first group, count) after each chunk.
  Status Run(Graph observed, const std::function<void(int, int64_t, const Outputs&)>& take,
             const std::function<Status(int64_t, int64_t)>& done) {
    MINIM_TRY(const std::shared_ptr<Session> session,
              MakeSession(std::move(observed), {.threads = 1, .contexts = threads_}));
    int64_t most = std::min<int64_t>(threads_, chunk_), count = 0;
    for (int64_t first = 0; first < groups(); first += count) {
      count = std::min(most, groups() - first);
      MINIM_TRY(const std::vector<Tensor> inputs, Gather(first, count));
      const auto fit = static_cast<int64_t>(kChunkBytes / (BytesOf(inputs) / count + 1));
      most = std::clamp(fit, most, chunk_);
      std::vector<Status> status(static_cast<size_t>(threads_));
      pool_.ParallelFor(threads_, threads_, [&](int t) {
        for (int64_t i = count * t / threads_; i < count * (t + 1) / threads_; ++i) {
          auto outputs = session->Run(GroupViews(inputs, i));
          status[t] = outputs.status();
          if (!outputs.ok()) return;
          take(t, i, *outputs);
        }
      });
      for (const Status& s : status) MINIM_TRY(s);
      MINIM_TRY(done(first, count));
    }
    return {};
  }

 private:
  Result<std::vector<Tensor>> Gather(int64_t first, int64_t count) {
    std::vector<int64_t> indices;
    for (int64_t i = first * group_; i < (first + count) * group_; ++i)
      indices.push_back(std::min(i, samples_.size() - 1));
    MINIM_TRY(const Batch batch, samples_.Gather(indices));
    MINIM_TRY(CheckFinite(batch.samples, indices));
    for (const Tensor& other : batch.others) MINIM_TRY(CheckFinite(other, indices));
    return InputsOf(graph_, batch);
  }

  static size_t BytesOf(const std::vector<Tensor>& tensors) {
    size_t bytes = 0;
    for (const Tensor& tensor : tensors) bytes += tensor.bytes();
    return bytes;
  }

  std::vector<ConstView> GroupViews(const std::vector<Tensor>& inputs, int64_t i) const {
    std::vector<ConstView> views;
    for (size_t k = 0; k < inputs.size(); ++k)
      views.push_back(GroupView(inputs[k].view(), graph_.type(graph_.inputs[k]), i));
    return views;
  }

  ConstView GroupView(ConstView view, const TensorType& type, int64_t i) const {
    const size_t bytes = view.bytes() / static_cast<size_t>(view.dims[0]) * group_;
    view.data = static_cast<const std::byte*>(view.data) + static_cast<size_t>(i) * bytes;
    view.dims[0] = group_;
    if (IsWhole(type, view.dims)) view.dims = Dims(view.dims.span().subspan(1));
    return view;
  }

  const Graph& graph_;
  DataSource& samples_;
  const int64_t group_;
  const int64_t chunk_;  // groups
  const int threads_;
  ThreadPool pool_;
};

class Collector {
 public:
  Collector(const Graph& graph, DataSource& samples, int64_t group, const CollectOptions& options)
      : graph_(graph), watched_(ValuesToWatch(graph)), sweep_(graph, samples, group, options) {
    profile_.samples = samples.size();
  }

  Result<ActivationProfile> Run() {
    MINIM_TRY(FindRanges());
    MINIM_TRY(Count());
    return std::move(profile_);
  }

 private:
  ValueProfile& ProfileOf(const Watched& w) { return profile_.values[graph_.value(w.id).name]; }

  // Sums of floats depend on their order: they are taken in that of the samples.
  Status FindRanges() {
    MINIM_TRY(Graph observed, RangeGraph(graph_, watched_));
    std::vector<Outputs> chunk(static_cast<size_t>(sweep_.chunk()));
    MINIM_TRY(sweep_.Run(
        std::move(observed), [&](int, int64_t i, const Outputs& outputs) { chunk[i] = outputs; },
        [&](int64_t first, int64_t count) -> Status {
          for (int64_t i = 0; i < count; ++i) MINIM_TRY(Fold(first + i, chunk[i]));
          return {};
        }));
    const auto n = static_cast<double>(sweep_.groups());
    const double weights = 1 - std::pow(1 - kNewest, n);  // so that the first samples count in full
    for (const Watched& w : watched_) {
      ValueProfile& p = ProfileOf(w);
      p.average_low /= weights;
      p.average_high /= weights;
      for (double& mean : p.channel_mean) mean /= n;
    }
    return {};
  }

  Status Fold(int64_t group, const Outputs& outputs) {
    size_t next = 0;
    for (const Watched& w : watched_) {
      const float low = outputs[next++].as<float>()[0], high = outputs[next++].as<float>()[0];
      const bool empty = low > high;  // no elements
      if (!empty && !(std::isfinite(low) && std::isfinite(high)))
        return InvalidArgument("value '{}' is not finite ({} to {}) on calibration sample {}",
                               graph_.value(w.id).name, low, high, group * sweep_.group());
      ValueProfile& p = ProfileOf(w);
      if (!empty) FoldRange(low, high, group == 0, p);
      if (w.channel_axis < 0) continue;
      const Tensor& mean = outputs[next++];
      p.channel_axis = w.channel_axis;
      p.channel_mean.resize(static_cast<size_t>(mean.size()), 0);
      for (int64_t c = 0; c < mean.size() && !empty; ++c) p.channel_mean[c] += mean.as<float>()[c];
    }
    return {};
  }

  static void FoldRange(float low, float high, bool first, ValueProfile& p) {
    p.low = first ? low : std::min(p.low, low);
    p.high = first ? high : std::max(p.high, high);
    p.average_low += kNewest * (static_cast<double>(low) - p.average_low);
    p.average_high += kNewest * (static_cast<double>(high) - p.average_high);
  }

  // Sums of integers do not depend on their order: each thread has its own.
  Status Count() {
    MINIM_TRY(Graph observed, HistogramGraph(graph_, watched_, profile_));
    struct Counts {
      std::vector<int64_t> bins = std::vector<int64_t>(kHistogramBins, 0);
      int64_t zeros = 0;
    };
    std::vector<std::vector<Counts>> counts(static_cast<size_t>(sweep_.threads()));
    for (auto& of_thread : counts) of_thread.resize(watched_.size());
    MINIM_TRY(sweep_.Run(
        std::move(observed),
        [&](int thread, int64_t, const Outputs& outputs) {
          for (size_t i = 0; i < watched_.size(); ++i) {
            const auto bins = outputs[2 * i].as<int64_t>();
            Counts& c = counts[thread][i];
            for (int b = 0; b < kHistogramBins; ++b) c.bins[b] += bins[b];
            c.zeros += outputs[2 * i + 1].as<int64_t>()[0];
          }
        },
        [](int64_t, int64_t) -> Status { return {}; }));
    for (size_t i = 0; i < watched_.size(); ++i) {
      ValueProfile& p = ProfileOf(watched_[i]);
      p.counts.assign(kHistogramBins, 0);
      for (const auto& of_thread : counts) {
        for (int b = 0; b < kHistogramBins; ++b) p.counts[b] += of_thread[i].bins[b];
        p.zeros += of_thread[i].zeros;
      }
    }
    return {};
  }

  const Graph& graph_;
  const std::vector<Watched> watched_;
  Sweep sweep_;
  ActivationProfile profile_;
};

}  // namespace

Result<ActivationProfile> CollectProfile(const Graph& prepared, DataSource& samples,
                                         const CollectOptions& options) {
  if (ValuesToWatch(prepared).empty()) return ActivationProfile{.samples = samples.size()};
  if (samples.size() < kFewest)
    return InvalidArgument(
        "calibration needs at least {} samples (100 or more are advised), found {}", kFewest,
        samples.size());
  MINIM_TRY(const int64_t group, GroupSize(prepared, samples));
  return Collector(prepared, samples, group, options).Run();
}

Result<ActivationProfile> CollectProfile(const Graph& prepared, const Dataset& samples,
                                         const CollectOptions& options) {
  ArraySource source(samples);
  return CollectProfile(prepared, source, options);
}

}  // namespace minim
