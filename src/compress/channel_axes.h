// Which axes of which constants must lose an index together when a channel is removed.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace minim {

enum class AxisRole {
  kMade,    // a layer makes channels with it
  kScaled,  // one factor, or one filter, a channel
  kEach,    // one number a channel: biases, shifts, statistics
  kRead,    // a layer mixes channels with it
};

/// The channel of an index that cannot be removed.
inline constexpr int kStays = -1;

/// One axis of a constant.
struct ChannelsOfAxis {
  ValueId constant = kNoValue;
  int axis = 0;
  AxisRole role = AxisRole::kEach;
  std::vector<int> channels;  // of each index
};

/// A number in a node that counts channels.
struct ChannelCount {
  size_t node = 0;
  int entry = 0;              // of a Reshape's shape; a Conv has its groups instead
  std::vector<int> channels;  // those counted
};

struct ChannelAxes {
  int channel_count = 0;  // numbered from 0
  std::vector<ChannelsOfAxis> axes;
  std::vector<ChannelCount> counts;
  std::vector<std::string> obstacles;  // nodes that keep channels from being removed
};

/// Follows the channels that Conv, ConvTranspose, Gemm and MatMul with constant weights make to
/// those that read them: through element-wise ops, pools, normalisations of single channels,
/// changes of shape, transpositions, Concat and reductions along other axes. What is added up is
/// one channel. What passes through any other node, or out of the graph, stays. Removing a channel
/// wherever it is named equals zeros along kRead. Needs: folded constants, inferred types. Errors:
/// kUnsupported for a graph with sub-graphs.
Result<ChannelAxes> FindChannelAxes(const Graph& graph);

}  // namespace minim
