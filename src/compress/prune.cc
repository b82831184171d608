#include "compress/prune.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "compress/fold_parameters.h"
#include "compress/remove_channels.h"

namespace minim {
namespace {

// The sum of squares at each index of an axis.
std::vector<double> SquaresAlong(const Tensor& tensor, int axis) {
  const Dims& dims = tensor.dims();
  const auto inner = static_cast<size_t>(dims.Elements(axis + 1, dims.rank()));
  std::vector<double> sums(static_cast<size_t>(dims[axis]), 0);
  const auto values = tensor.as<float>();
  for (size_t first = 0, row = 0; first < values.size(); first += inner, ++row)
    for (float value : values.subspan(first, inner))
      sums[row % sums.size()] += double{value} * value;
  return sums;
}

// What the layers of a graph can do without: chooses channels to remove.
class Chooser {
 public:
  Chooser(const Graph& graph, const ChannelAxes& axes, const PruneOptions& options)
      : graph_(graph), axes_(axes), options_(options), removed_(axes.channel_count, false) {
    importance_.resize(removed_.size(), 0);
    MeasureWork();
    MeasureImportance();
    MakeGroups();
  }

  bool CanRemove() const {
    return std::any_of(groups_.begin(), groups_.end(),
                       [&](const Group& group) { return NextBlock(group) > 0; });
  }

  // Removes blocks of channels until at most `limit` parameters are left or nothing more can go.
  std::vector<bool> Choose(int64_t limit) {
    int64_t left = ParameterCount(graph_);
    const auto all = static_cast<double>(std::max<int64_t>(1, left));
    while (left > limit) {
      Group* best = nullptr;
      double best_cost = 0;
      int64_t best_saved = 0;
      for (Group& group : groups_) {
        const int64_t block = NextBlock(group);
        if (block == 0) continue;
        const Savings saved = Saved(group, block);
        // More than is asked for counts for nothing.
        const auto wanted = static_cast<double>(std::min(saved.parameters, left - limit));
        const double shares = wanted / all + saved.work / std::max(1.0, work_);
        const double cost = Loss(group, block) / std::max(shares, 1e-12);
        if (best != nullptr && cost >= best_cost) continue;
        best = &group;
        best_cost = cost;
        best_saved = saved.parameters;
      }
      if (best == nullptr) break;
      Remove(*best, NextBlock(*best));
      left -= best_saved;
    }
    return removed_;
  }

 private:
  // Channels of the same layers, the least important first.
  struct Group {
    std::vector<int> channels;
    int64_t width = INT64_MAX;  // the fewest indices that one has in a layer
    size_t removed = 0;         // of the first
    double energy = 0;          // importance of those left
  };

  // Of a block; work is in multiplications a sample.
  struct Savings {
    int64_t parameters = 0;
    double work = 0;
  };

  // How often a sample multiplies with each weight.
  void MeasureWork() {
    for (const Node& node : graph_.nodes) {
      const bool layer = node.Is("Conv") || node.Is("Gemm") || node.Is("MatMul");
      if ((!layer && !node.Is("ConvTranspose")) || graph_.constant(node.input(1)) == nullptr)
        continue;
      const TensorType& type = graph_.type(layer ? node.output(0) : node.input(0));
      const int rank = type.ranked() ? type.rank() : 0;
      const int channels = node.Is("MatMul") ? rank - 1 : 1;
      double places = 1;
      for (int axis = 1; axis < rank; ++axis)
        if (axis != channels && (*type.shape)[axis].known())
          places *= static_cast<double>((*type.shape)[axis].value());
      places_[node.input(1)] += places;
      work_ += places * static_cast<double>(graph_.constant(node.input(1))->size());
    }
  }

  // The mean over a channel's tensors of its part of their squared norms.
  void MeasureImportance() {
    std::vector<int> tensors(importance_.size(), 0);
    for (const ChannelsOfAxis& axis : axes_.axes) {
      const Tensor& tensor = *graph_.constant(axis.constant);
      if (axis.role == AxisRole::kEach || tensor.dtype() != DType::f32) continue;
      std::map<int, double> energy;
      double total = 0;
      const std::vector<double> squares = SquaresAlong(tensor, axis.axis);
      for (size_t i = 0; i < squares.size(); ++i) {
        energy[axis.channels[i]] += squares[i];
        total += squares[i];
      }
      for (const auto& [channel, part] : energy) {
        if (channel == kStays || total == 0) continue;
        importance_[channel] += part / total;
        ++tensors[channel];
      }
    }
    for (size_t c = 0; c < tensors.size(); ++c) importance_[c] /= std::max(1, tensors[c]);
  }

  void MakeGroups() {
    std::vector<std::vector<int>> made_by(importance_.size());
    std::vector<int64_t> width(importance_.size(), INT64_MAX);
    uses_.resize(importance_.size());
    for (size_t a = 0; a < axes_.axes.size(); ++a) {
      std::map<int, int64_t> indices;
      for (int channel : axes_.axes[a].channels)
        if (channel != kStays) ++indices[channel];
      for (const auto& [channel, count] : indices) {
        uses_[channel].emplace_back(a, count);
        if (axes_.axes[a].role != AxisRole::kMade) continue;
        made_by[channel].push_back(static_cast<int>(a));
        width[channel] = std::min(width[channel], count);
      }
    }
    std::map<std::vector<int>, Group> groups;
    for (size_t c = 0; c < made_by.size(); ++c) {
      if (made_by[c].empty()) continue;
      Group& group = groups[made_by[c]];
      group.channels.push_back(static_cast<int>(c));
      group.energy += importance_[c];
      group.width = std::min(group.width, width[c]);
    }
    for (auto& [layers, group] : groups) {
      std::stable_sort(group.channels.begin(), group.channels.end(),
                       [&](int a, int b) { return importance_[a] < importance_[b]; });
      groups_.push_back(std::move(group));
    }
    for (size_t a = 0; a < axes_.axes.size(); ++a) {
      axes_of_[axes_.axes[a].constant].push_back(a);
      left_.push_back(static_cast<int64_t>(axes_.axes[a].channels.size()));
    }
  }

  // How many channels go at once, so that a multiple stays; 0: none may.
  int64_t NextBlock(const Group& group) const {
    const auto have = static_cast<int64_t>(group.channels.size() - group.removed);
    const int64_t multiple = std::max<int64_t>(1, options_.multiple / group.width);
    const int64_t least = (options_.least + group.width - 1) / group.width;
    const int64_t block = have % multiple > 0 ? have % multiple : multiple;
    return have - block >= least ? block : 0;
  }

  // How much smaller the logarithm of what is left becomes: the last channels of a layer are dear.
  double Loss(const Group& group, int64_t block) const {
    double lost = 0;
    for (int64_t i = 0; i < block; ++i) lost += importance_[group.channels[group.removed + i]];
    if (group.energy <= 0) return 0;
    return -std::log1p(-std::min(lost / group.energy, 1 - 1e-12));
  }

  // Indices that each axis loses with a block.
  std::map<size_t, int64_t> Lost(const Group& group, int64_t block) const {
    std::map<size_t, int64_t> lost;
    for (int64_t i = 0; i < block; ++i)
      for (const auto& [axis, count] : uses_[group.channels[group.removed + i]])
        lost[axis] += count;
    return lost;
  }

  Savings Saved(const Group& group, int64_t block) const {
    const std::map<size_t, int64_t> lost = Lost(group, block);
    std::set<ValueId> constants;
    for (const auto& [axis, count] : lost) constants.insert(axes_.axes[axis].constant);
    Savings saved;
    for (ValueId id : constants) {
      const int64_t gone = Elements(id, {}) - Elements(id, lost);
      if (graph_.constant(id)->dtype() == DType::f32) saved.parameters += gone;
      const auto places = places_.find(id);
      if (places != places_.end()) saved.work += places->second * static_cast<double>(gone);
    }
    return saved;
  }

  // Of what is left of a constant without `lost`.
  int64_t Elements(ValueId constant, const std::map<size_t, int64_t>& lost) const {
    Dims dims = graph_.constant(constant)->dims();
    for (size_t axis : axes_of_.at(constant)) {
      const auto it = lost.find(axis);
      dims[axes_.axes[axis].axis] = left_[axis] - (it == lost.end() ? 0 : it->second);
    }
    return dims.Elements();
  }

  void Remove(Group& group, int64_t block) {
    for (const auto& [axis, count] : Lost(group, block)) left_[axis] -= count;
    for (int64_t i = 0; i < block; ++i) {
      const int channel = group.channels[group.removed++];
      removed_[channel] = true;
      group.energy -= importance_[channel];
    }
  }

  const Graph& graph_;
  const ChannelAxes& axes_;
  const PruneOptions& options_;
  double work_ = 0;                   // multiplications a sample, of all layers
  std::map<ValueId, double> places_;  // a sample's, where each element of weights is used
  std::vector<bool> removed_;         // by channel, as the following two
  std::vector<double> importance_;
  std::vector<std::vector<std::pair<size_t, int64_t>>> uses_;  // axes and how many of their indices
  std::vector<Group> groups_;
  std::map<ValueId, std::vector<size_t>> axes_of_;  // a constant's, in axes_
  std::vector<int64_t> left_;                       // indices, by axis of axes_
};

Status CheckFraction(double fraction) {
  if (fraction > 0 && fraction < 1) return {};
  return InvalidArgument("pruning: the fraction is {}, expected between 0 and 1", fraction);
}

Status Nothing(const ChannelAxes& axes, const PruneOptions& options) {
  if (axes.obstacles.empty())
    return Unsupported(
        "no channel can be removed: no Conv, Gemm or MatMul makes more than {} that stay inside "
        "the "
        "model",
        std::max(options.least, options.multiple));
  constexpr size_t kNamed = 5;
  const size_t named = std::min(axes.obstacles.size(), kNamed);
  const size_t others = axes.obstacles.size() - named;
  return Unsupported("no channel can be removed: they do not pass {}{}",
                     fmt::join(axes.obstacles.begin(),
                               axes.obstacles.begin() + static_cast<ptrdiff_t>(named), ", "),
                     others == 0 ? "" : fmt::format(" and {} more", others));
}

}  // namespace

int64_t ParameterCount(const Graph& graph) {
  int64_t count = 0;
  for (const auto& [id, tensor] : graph.constants)
    if (tensor.dtype() == DType::f32 && tensor.dims().rank() > 0) count += tensor.size();
  return count;
}

Result<Pruned> PruneChannels(const Graph& graph, double fraction, const PruneOptions& options) {
  MINIM_TRY(CheckFraction(fraction));
  if (options.multiple < 1 || options.least < 1)
    return InvalidArgument("pruning: multiple ({}) and least ({}) must be at least 1",
                           options.multiple, options.least);
  MINIM_TRY(const Graph folded, FoldParameters(graph));
  MINIM_TRY(const ChannelAxes axes, FindChannelAxes(folded));
  Chooser chooser(folded, axes, options);
  if (!chooser.CanRemove()) return Nothing(axes, options);
  Pruned pruned{.parameters_before = ParameterCount(graph)};
  const double limit = (1 - fraction) * static_cast<double>(pruned.parameters_before);
  MINIM_TRY(pruned.graph,
            RemoveChannels(folded, axes, chooser.Choose(static_cast<int64_t>(limit))));
  pruned.parameters_after = ParameterCount(pruned.graph);
  return pruned;
}

}  // namespace minim
