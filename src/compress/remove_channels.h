// Takes channels out of a graph.
#pragma once

#include <vector>

#include "compress/channel_axes.h"

namespace minim {

/// `graph` without the channels for which `removed` holds, by their numbers in `axes`, which is
/// FindChannelAxes(graph). Needs and keeps inferred types.
Result<Graph> RemoveChannels(const Graph& graph, const ChannelAxes& axes,
                             const std::vector<bool>& removed);

}  // namespace minim
