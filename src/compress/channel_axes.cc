#include "compress/channel_axes.h"

#include <algorithm>
#include <map>

#include "compress/reshape_channels.h"
#include "ops/op_def.h"

namespace minim {
namespace {

// Channels while they are followed: numbers that are found equal, or to stay, as nodes are visited.
class Channels {
 public:
  std::vector<int> Fresh(int64_t count) {
    std::vector<int> made;
    for (int64_t i = 0; i < count; ++i) {
      made.push_back(static_cast<int>(parent_.size()));
      parent_.push_back(made.back());
    }
    return made;
  }
  int Root(int channel) const {
    while (parent_[channel] != channel) channel = parent_[channel];
    return channel;
  }
  bool Stays(int channel) const { return Root(channel) == kFixed; }
  void Fix(const std::vector<int>& channels) {
    for (int channel : channels) parent_[Root(channel)] = kFixed;
  }
  void Unite(const std::vector<int>& a, const std::vector<int>& b) {
    if (a.size() != b.size()) {
      Fix(a);
      Fix(b);
      return;
    }
    for (size_t i = 0; i < a.size(); ++i) {
      const auto [low, high] = std::minmax({Root(a[i]), Root(b[i])});
      parent_[high] = low;  // kFixed is the lowest
    }
  }

  static constexpr int kFixed = 0;

 private:
  std::vector<int> parent_ = {kFixed};
};

using Track = TrackedAxis;

constexpr std::string_view kPools[] = {"MaxPool",           "AveragePool",   "LpPool",
                                       "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"};
constexpr std::string_view kReductions[] = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
                                            "ReduceL1",   "ReduceL2",  "ReduceProd"};
constexpr std::string_view kShapeChanges[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"};

bool OneOf(std::span<const std::string_view> names, const Node& node) {
  return node.domain.empty() && std::find(names.begin(), names.end(), node.op) != names.end();
}

int64_t AxisSize(const Graph& graph, ValueId id, int axis) {  // -1: not known
  const TensorType& type = graph.type(id);
  if (!type.ranked() || axis < 0 || axis >= type.rank()) return -1;
  const Dim& dim = (*type.shape)[axis];
  return dim.known() ? dim.value() : -1;
}

class Tracker {
 public:
  explicit Tracker(const Graph& graph) : graph_(graph), uses_(graph.UseCounts()) {}

  Result<ChannelAxes> Run() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (!node.subgraphs.empty())
        return Unsupported("node '{}': {} has a sub-graph, through which channels are not followed",
                           node.name, node.op);
      index_ = i;
      Visit(node);
    }
    for (ValueId id : graph_.outputs)
      if (const Track* track = Of(id)) channels_.Fix(track->channels);
    // Whoever else reads a constant needs it whole.
    for (const auto& [key, label] : labels_)
      if (label.reads != uses_[key.first]) channels_.Fix(label.axis.channels);
    return Numbered();
  }

 private:
  struct Label {
    ChannelsOfAxis axis;
    int reads = 0;
  };

  void Visit(const Node& node) {
    const OpDef* def = FindOp(node);
    if (node.Is("Concat")) return Concat(node);
    if (def != nullptr && Has(def->traits, OpTrait::kElementwise)) return Elementwise(node);
    if (node.Is("MatMul") && ConstantOf(node.input(1)) == nullptr) return Batched(node);
    for (size_t i = 1; i < node.inputs.size(); ++i)
      if (Of(node.inputs[i]) != nullptr) return Stop(node);
    if (node.Is("Conv")) return Conv(node);
    if (node.Is("ConvTranspose")) return ConvTranspose(node);
    if (node.Is("Gemm")) return Gemm(node);
    if (node.Is("MatMul")) return MatMul(node);
    if (node.Is("BatchNormalization")) return Norm(node, 5);
    if (node.Is("InstanceNormalization")) return Norm(node, 3);
    if (node.Is("Transpose")) return Transpose(node);
    if (OneOf(kPools, node)) return SameChannels(node, 1);
    if (node.Is("Identity") || node.Is("Dropout")) return SameChannels(node, kAnyAxis);
    if (OneOf(kReductions, node)) return Reduce(node);
    if (node.Is("Softmax")) return AlongOthers(node);
    if (OneOf(kShapeChanges, node)) return ChangeShape(node);
    Stop(node);
  }

  const Track* Of(ValueId id) const {
    const auto it = tracks_.find(id);
    return it == tracks_.end() ? nullptr : &it->second;
  }
  const Tensor* ConstantOf(ValueId id) const {
    return id == kNoValue ? nullptr : graph_.constant(id);
  }

  // What reaches the node keeps its channels.
  void Stop(const Node& node) {
    bool stops = false;
    for (ValueId id : node.inputs) {
      const Track* track = id == kNoValue ? nullptr : Of(id);
      if (track == nullptr) continue;
      channels_.Fix(track->channels);
      stops = true;
    }
    if (stops) obstacles_.push_back(fmt::format("{} '{}'", node.op, node.name));
  }

  void Name(ValueId constant, int axis, AxisRole role, const std::vector<int>& channels) {
    Label& label = labels_[{constant, axis}];
    if (label.reads++ == 0)
      label.axis = {constant, axis, role, channels};
    else
      channels_.Unite(label.axis.channels, channels);
  }

  // The track of a layer's input if its channels are on `axis`, else null; then they stay.
  const Track* Reads(const Node& node, int axis) {
    const Track* track = Of(node.input(0));
    if (track == nullptr || track->axis == axis) return track;
    Stop(node);
    return nullptr;
  }

  // Channels along `axis` of a layer's weights, on output axis `out_axis`.
  std::vector<int> Make(const Node& node, int axis, int out_axis) {
    const ValueId weights = node.input(1);
    std::vector<int> made = channels_.Fresh(graph_.constant(weights)->dims()[axis]);
    Name(weights, axis, AxisRole::kMade, made);
    tracks_[node.output(0)] = {out_axis, made};
    return made;
  }

  // One number a channel on the last axis of a constant, or one for all.
  void AddBias(ValueId id, const std::vector<int>& channels) {
    if (id == kNoValue) return;
    const Tensor* bias = graph_.constant(id);
    if (bias == nullptr) return channels_.Fix(channels);  // Visit saw to its own
    const int rank = bias->dims().rank();
    if (rank == 0 || (bias->dims()[rank - 1] == 1 && channels.size() != 1)) return;
    Name(id, rank - 1, AxisRole::kEach, channels);
  }

  void Conv(const Node& node) {
    const Tensor* weights = ConstantOf(node.input(1));
    const int64_t groups = node.attributes.Int("group", 1);
    if (weights == nullptr) return Stop(node);
    const Track* x = Reads(node, 1);
    if (groups == 1) {
      if (x != nullptr) Name(node.input(1), 1, AxisRole::kRead, x->channels);
      return AddBias(node.input(2), Make(node, 0, 1));
    }
    const Dims& dims = weights->dims();
    if (x == nullptr || dims[1] != 1 || groups != static_cast<int64_t>(x->channels.size()))
      return Stop(node);
    std::vector<int> made;  // each channel has filters of its own
    for (int64_t i = 0; i < dims[0]; ++i) made.push_back(x->channels[i / (dims[0] / groups)]);
    Name(node.input(1), 0, AxisRole::kScaled, made);
    AddBias(node.input(2), made);
    counts_.push_back({index_, 0, x->channels});
    tracks_[node.output(0)] = {1, made};
  }

  void ConvTranspose(const Node& node) {
    if (ConstantOf(node.input(1)) == nullptr || node.attributes.Int("group", 1) != 1)
      return Stop(node);
    if (const Track* x = Reads(node, 1)) Name(node.input(1), 0, AxisRole::kRead, x->channels);
    AddBias(node.input(2), Make(node, 1, 1));
  }

  void Gemm(const Node& node) {
    if (ConstantOf(node.input(1)) == nullptr || node.attributes.Int("transA", 0) != 0)
      return Stop(node);
    const int read = node.attributes.Int("transB", 0) != 0 ? 1 : 0;
    if (const Track* x = Reads(node, 1)) Name(node.input(1), read, AxisRole::kRead, x->channels);
    AddBias(node.input(2), Make(node, 1 - read, 1));
  }

  void MatMul(const Node& node) {
    const Tensor* weights = ConstantOf(node.input(1));
    const TensorType& x = graph_.type(node.input(0));
    if (weights == nullptr || weights->dims().rank() != 2 || !x.ranked() || x.rank() < 2)
      return Stop(node);
    if (const Track* track = Reads(node, x.rank() - 1))
      Name(node.input(1), 0, AxisRole::kRead, track->channels);
    Make(node, 1, x.rank() - 1);
  }

  // A product of two values for each channel.
  void Batched(const Node& node) {
    for (ValueId id : node.inputs)
      if (const Track* track = Of(id);
          track != nullptr && track->axis >= graph_.type(id).rank() - 2)
        return Stop(node);
    Elementwise(node);
  }

  // Channels do not mix along `axis` unless it is theirs.
  void AlongOthers(const Node& node) {
    const Track* x = Of(node.input(0));
    if (x == nullptr) return;
    const int64_t axis = node.attributes.Int("axis", -1);
    if ((axis < 0 ? axis + graph_.type(node.input(0)).rank() : axis) == x->axis) return Stop(node);
    Follow(node, *x);
  }

  // Inputs 1 to `end` hold one number a channel.
  void Norm(const Node& node, size_t end) {
    const Track* x = Of(node.input(0));
    if (x == nullptr) return;
    bool known = x->axis == 1 && node.output(1) == kNoValue;
    for (size_t i = 1; i < end; ++i) known = known && ConstantOf(node.input(i)) != nullptr;
    if (!known) return Stop(node);
    for (size_t i = 1; i < end; ++i)
      Name(node.input(i), 0, i == 1 ? AxisRole::kScaled : AxisRole::kEach, x->channels);
    Follow(node, *x);
  }

  void Follow(const Node& node, Track track) { tracks_[node.output(0)] = std::move(track); }

  void SameChannels(const Node& node, int axis) {
    const Track* x = Of(node.input(0));
    if (x == nullptr) return;
    if (node.output(1) != kNoValue || (axis != kAnyAxis && x->axis != axis)) return Stop(node);
    Follow(node, *x);
  }

  void Transpose(const Node& node) {
    const Track* x = Of(node.input(0));
    if (x == nullptr) return;
    const int rank = graph_.type(node.input(0)).rank();
    std::vector<int64_t> perm = node.attributes.Ints("perm");
    for (int i = 0; perm.size() < static_cast<size_t>(rank); ++i) perm.push_back(rank - 1 - i);
    const auto at = std::find(perm.begin(), perm.end(), x->axis);
    if (at == perm.end()) return Stop(node);
    Follow(node, {static_cast<int>(at - perm.begin()), x->channels});
  }

  void Reduce(const Node& node) {
    const Track* x = Of(node.input(0));
    if (x == nullptr) return;
    const Tensor* axes = ConstantOf(node.input(1));
    if (axes == nullptr || axes->dtype() != DType::i64 || axes->size() == 0) return Stop(node);
    const int rank = graph_.type(node.input(0)).rank();
    int before = 0;
    for (int64_t axis : axes->as<int64_t>()) {
      if (axis < 0) axis += rank;
      if (axis == x->axis) return Stop(node);
      before += axis < x->axis;
    }
    Follow(node, {x->axis - (node.attributes.Int("keepdims", 1) != 0 ? 0 : before), x->channels});
  }

  void Concat(const Node& node) {
    const TensorType& y = graph_.type(node.output(0));
    const Track* first = nullptr;
    for (ValueId id : node.inputs)
      if (first == nullptr) first = Of(id);
    if (first == nullptr) return;
    if (!y.ranked()) return Stop(node);
    const int64_t axis = node.attributes.Int("axis", 0);
    Track whole = *first;
    if (whole.axis != (axis < 0 ? axis + y.rank() : axis)) return Together(node, whole);
    whole.channels.clear();
    for (ValueId id : node.inputs) {
      const Track* track = Of(id);
      const int64_t size = AxisSize(graph_, id, whole.axis);
      if (size < 0 || (track != nullptr && track->axis != whole.axis)) return Stop(node);
      const std::vector<int> fixed(static_cast<size_t>(size), Channels::kFixed);
      const std::vector<int>& part = track != nullptr ? track->channels : fixed;
      whole.channels.insert(whole.channels.end(), part.begin(), part.end());
    }
    Follow(node, whole);
  }

  void Elementwise(const Node& node) {
    const TensorType& y = graph_.type(node.output(0));
    const Track* widest = nullptr;
    int rank = 0;
    for (ValueId id : node.inputs) {
      const Track* track = id == kNoValue ? nullptr : Of(id);
      if (track == nullptr || (widest && widest->channels.size() >= track->channels.size()))
        continue;
      widest = track;
      rank = graph_.type(id).rank();
    }
    if (widest == nullptr) return;
    if (!y.ranked() || node.output(1) != kNoValue) return Stop(node);
    Together(node, {widest->axis + y.rank() - rank, widest->channels});
  }

  // The inputs are aligned at their last axes and share the channels of `whole`, where they do not
  // broadcast along its axis.
  void Together(const Node& node, const Track& whole) {
    const int rank = graph_.type(node.output(0)).rank();
    const auto size = static_cast<int64_t>(whole.channels.size());
    if (AxisSize(graph_, node.output(0), whole.axis) != size) return Stop(node);
    for (ValueId id : node.inputs) {
      if (id == kNoValue) continue;
      if (!graph_.type(id).ranked()) return Stop(node);
      const int axis = whole.axis - rank + graph_.type(id).rank();
      const Track* track = Of(id);
      if (track != nullptr && track->axis != axis) return Stop(node);
      if (axis < 0 || (track == nullptr && size != 1 && AxisSize(graph_, id, axis) == 1)) continue;
      if (track != nullptr && track->channels.size() == 1 && size != 1)
        channels_.Fix(track->channels);  // broadcast
      else if (track != nullptr)
        channels_.Unite(track->channels, whole.channels);
      else if (graph_.constant(id) != nullptr && AxisSize(graph_, id, axis) == size)
        Name(id, axis, AxisRole::kEach, whole.channels);
      else
        return Stop(node);
    }
    Follow(node, whole);
  }

  void ChangeShape(const Node& node) {
    const Track* x = Of(node.input(0));
    if (x == nullptr) return;
    const TensorType &from = graph_.type(node.input(0)), &to = graph_.type(node.output(0));
    const bool reshapes = node.Is("Reshape");
    if (!to.ranked() || (reshapes && ConstantOf(node.input(1)) == nullptr)) return Stop(node);
    std::optional<Track> moved = ReshapeChannels(*from.shape, *to.shape, *x);
    if (!moved) {  // heads of attention, groups of a normalisation
      auto merged = MergeChannels(*from.shape, *to.shape, *x);
      if (!merged) return Stop(node);
      channels_.Unite(merged->flat, merged->merged);
      moved = std::move(merged->tracked);
    }
    if (reshapes) counts_.push_back({index_, moved->axis, moved->channels});
    Follow(node, *moved);
  }

  ChannelAxes Numbered() const {
    ChannelAxes result;
    std::map<int, int> numbers = {{Channels::kFixed, kStays}};
    const auto renumber = [&](std::vector<int> channels) {
      for (int& channel : channels)
        channel = numbers.emplace(channels_.Root(channel), static_cast<int>(numbers.size()) - 1)
                      .first->second;
      return channels;
    };
    for (const auto& [key, label] : labels_) {
      ChannelsOfAxis axis = label.axis;
      axis.channels = renumber(axis.channels);
      result.axes.push_back(std::move(axis));
    }
    for (const ChannelCount& count : counts_)
      result.counts.push_back({count.node, count.entry, renumber(count.channels)});
    result.channel_count = static_cast<int>(numbers.size()) - 1;
    result.obstacles = obstacles_;
    return result;
  }

  static constexpr int kAnyAxis = -1;

  const Graph& graph_;
  const std::vector<int> uses_;
  Channels channels_;
  std::map<ValueId, Track> tracks_;
  std::map<std::pair<ValueId, int>, Label> labels_;
  std::vector<ChannelCount> counts_;
  std::vector<std::string> obstacles_;
  size_t index_ = 0;  // of the node that is visited
};

}  // namespace

Result<ChannelAxes> FindChannelAxes(const Graph& graph) { return Tracker(graph).Run(); }

}  // namespace minim
