// Lifts that several ops share.
#pragma once

#include "ops/op_def.h"

namespace minim::ops {

/// The output of a node that stands before the upgraded one, of `dtype` and not yet known shape.
ValueId EmitBefore(UpgradeContext& u, std::string_view op, std::vector<ValueId> inputs, DType dtype,
                   Attributes attributes = {});

/// Before 7 the second operand of a binary op was stretched only under `broadcast`, and stood at
/// `axis` of the first: it gets the trailing axes of size 1 that say so. Errors: kUnsupported
/// where the ranks that this takes are not known.
Status BroadcastUpgrade(UpgradeContext& u);

/// The same for an operand whose one axis lies at `axis` of the first input.
Status AlignOperand(UpgradeContext& u, int64_t axis);

}  // namespace minim::ops
