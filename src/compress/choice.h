// Which variants are worth keeping, and which is served. A pure policy.
#pragma once

#include "compress/shrink.h"

namespace minim {

/// Sets `kept`, `on_frontier` and `reason` of each and returns the name of the one to serve: among
/// those that pass the gate the fastest at the smallest batch, or the smallest file. What
/// is neither faster at some batch nor smaller than the first, the reference, is not kept, nor, for
/// latency, what is slower at every batch; faster and
/// slower is what the whole interval of the ratio shows by more than `noise`, a share.
std::string ChooseVariants(std::vector<VariantReport>& variants, ShrinkGoal goal, double noise);

}  // namespace minim
