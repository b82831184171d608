// The number of nodes in a model file, from its wire format.
#pragma once

#include <string_view>

namespace minim {

/// Nodes of the graph, its sub-graphs and its functions, without building them: ten megabytes of
/// empty nodes would otherwise grow to half a gigabyte. What is nested deeper than `max_depth`
/// messages or is malformed is not counted; the parser refuses it.
int CountNodes(std::string_view bytes, int max_depth);

}  // namespace minim
