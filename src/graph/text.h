// The text form of graphs. It parses back to an equal graph and is what tests, dumps and
// `minim inspect` show.
//
//   graph "net"(x: f32[N,4]) -> (y) {
//     const w: f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8]
//     state "step" (s -> s2: f32)
//     y: f32[N,2] = MatMul(x, w) {attribute=1} "node name"
//   }
#pragma once

#include <string>
#include <string_view>

#include "graph/graph.h"

namespace minim {

struct TextOptions {
  /// Constants with more elements are printed as "[...]" and do not parse back.
  int64_t max_constant_elements = 1 << 30;
};

std::string ToText(const Graph& graph, const TextOptions& options = {});
/// "axis=1, pads=[1, 1]", by name.
std::string ToText(const Attributes& attributes);
/// Errors: kInvalidArgument names the line. The result is verified.
Result<Graph> ParseText(std::string_view text);

}  // namespace minim
