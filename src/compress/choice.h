// Which variants are worth keeping, and which is served. A pure policy.
#pragma once

#include "compress/shrink.h"

namespace minim {

/// Sets `kept`, `on_frontier` and `reason` of each and returns the name of the one to serve: among
/// those that pass the gate the fastest at the smallest batch, or the smallest file. For latency
/// what is slower than the first, the reference, at every batch is not kept; faster and
/// slower is what the whole interval of the ratio shows by more than `noise`, a share.
std::string ChooseVariants(std::vector<VariantReport>& variants, ShrinkGoal goal, double noise);

}  // namespace minim
