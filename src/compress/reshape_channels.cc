#include "compress/reshape_channels.h"

#include <algorithm>

namespace minim {
namespace {

// A run of input axes that holds the same elements, in order, as a run of output axes.
struct Segment {
  int in = 0, in_end = 0, out = 0, out_end = 0;
};

// The segment with input axis `axis`; nothing where sizes other than of a leading batch are open.
std::optional<Segment> SegmentWith(const Shape& in, const Shape& out, int axis) {
  const int in_rank = static_cast<int>(in.size()), out_rank = static_cast<int>(out.size());
  int i = 0, j = 0;
  if (in_rank > 0 && out_rank > 0 && !in[0].known() && !out[0].known()) i = j = 1;
  const auto open = [](const Dim& dim) { return !dim.known() || dim.value() < 1; };
  if (std::any_of(in.begin() + i, in.end(), open) || std::any_of(out.begin() + j, out.end(), open))
    return std::nullopt;
  while (i < in_rank && j < out_rank) {
    Segment segment{.in = i, .out = j};
    int64_t left = in[i++].value(), right = out[j++].value();
    while (left != right) {
      if (left < right ? i == in_rank : j == out_rank) return std::nullopt;
      left < right ? left *= in[i++].value() : right *= out[j++].value();
    }
    segment.in_end = i;
    segment.out_end = j;
    if (axis >= segment.in && axis < segment.in_end) return segment;
  }
  return std::nullopt;
}

int64_t Product(const Shape& shape, int first, int last) {
  int64_t product = 1;
  for (int i = first; i < last; ++i) product *= shape[i].value();
  return product;
}

// The channel of each element of the segment.
std::vector<int> Flat(const Shape& from, const Segment& segment, const TrackedAxis& x) {
  const int64_t inner = Product(from, x.axis + 1, segment.in_end);
  std::vector<int> flat(static_cast<size_t>(Product(from, segment.in, segment.in_end)));
  for (size_t i = 0; i < flat.size(); ++i)
    flat[i] = x.channels[i / static_cast<size_t>(inner) % x.channels.size()];
  return flat;
}

// The channels of the indices of an output axis; empty if it does not separate them.
std::vector<int> Along(const Shape& to, const Segment& segment, int axis,
                       const std::vector<int>& flat) {
  const auto inner = static_cast<size_t>(Product(to, axis + 1, segment.out_end));
  const auto size = static_cast<size_t>(to[axis].value());
  std::vector<int> along(size);
  for (size_t i = 0; i < size; ++i) along[i] = flat[i * inner];
  for (size_t i = 0; i < flat.size(); ++i)
    if (flat[i] != along[i / inner % size]) return {};
  return along;
}

}  // namespace

std::optional<TrackedAxis> ReshapeChannels(const Shape& from, const Shape& to,
                                           const TrackedAxis& x) {
  const auto segment = SegmentWith(from, to, x.axis);
  if (!segment) return std::nullopt;
  const std::vector<int> flat = Flat(from, *segment, x);
  for (int axis = segment->out; axis < segment->out_end; ++axis) {
    std::vector<int> along = Along(to, *segment, axis, flat);
    if (!along.empty()) return TrackedAxis{axis, std::move(along)};
  }
  return std::nullopt;
}

std::optional<MergedChannels> MergeChannels(const Shape& from, const Shape& to,
                                            const TrackedAxis& x) {
  const auto segment = SegmentWith(from, to, x.axis);
  if (!segment) return std::nullopt;
  MergedChannels result{.flat = Flat(from, *segment, x)};
  int& axis = result.tracked.axis = segment->out;
  while (axis + 1 < segment->out_end && to[axis].value() == 1) ++axis;
  const auto inner = static_cast<size_t>(Product(to, axis + 1, segment->out_end));
  const auto size = static_cast<size_t>(to[axis].value());
  for (size_t i = 0; i < size; ++i) result.tracked.channels.push_back(result.flat[i * inner]);
  for (size_t i = 0; i < result.flat.size(); ++i)
    result.merged.push_back(result.tracked.channels[i / inner % size]);
  return result;
}

}  // namespace minim
