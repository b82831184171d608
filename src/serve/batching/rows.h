// Putting rows of several requests together, and taking answers apart again.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/error.h"
#include "serve/model.h"

namespace minim::serve {

/// Joins tensors along axis 0. Needs equal dtypes and inner dims, at least one part.
Tensor ConcatRows(std::span<const Tensor* const> parts);

/// Copies rows [first, first + count) of a tensor of rank 1 or more.
Tensor SliceRows(const ConstView& tensor, int64_t first, int64_t count);

/// The model's input dims for a run of `rows` rows (of any other number if it is not batchable: as
/// declared). Nothing if other dims are open too.
std::optional<std::vector<Dims>> DimsForRows(const Model& model, int64_t rows);

/// True if the two may be rows of one batch: dtype and all dims but the first agree.
bool SameRowType(const ConstView& a, const ConstView& b);

}  // namespace minim::serve
