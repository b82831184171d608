// Putting rows of several requests together, and taking answers apart again.
#pragma once

#include <span>
#include <vector>

#include "core/error.h"
#include "minim/tensor.h"

namespace minim::serve {

/// Joins tensors along axis 0. Needs equal dtypes and inner dims, at least one part.
Tensor ConcatRows(std::span<const Tensor* const> parts);

/// Copies rows [first, first + count) of a tensor of rank 1 or more.
Tensor SliceRows(const ConstView& tensor, int64_t first, int64_t count);

/// True if the two may be rows of one batch: dtype and all dims but the first agree.
bool SameRowType(const ConstView& a, const ConstView& b);

}  // namespace minim::serve
