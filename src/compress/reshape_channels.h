// Channels through a change of shape.
#pragma once

#include <optional>
#include <vector>

#include "core/shape.h"

namespace minim {

/// The axis of a value that holds channels, and the channel of each of its indices.
struct TrackedAxis {
  int axis = 0;
  std::vector<int> channels;
};

/// Where the channels of `from` are when its elements, in order, have the shape `to`: on an axis of
/// which each index holds elements of one channel. Nothing if there is none, or where sizes other
/// than that of a leading batch are not known.
std::optional<TrackedAxis> ReshapeChannels(const Shape& from, const Shape& to,
                                           const TrackedAxis& x);

/// The same where no output axis separates channels: those that an index of `axis` holds elements
/// of must become one. `flat` and `merged` are the elements' channels before and after.
struct MergedChannels {
  TrackedAxis tracked;
  std::vector<int> flat, merged;
};
std::optional<MergedChannels> MergeChannels(const Shape& from, const Shape& to,
                                            const TrackedAxis& x);

}  // namespace minim
