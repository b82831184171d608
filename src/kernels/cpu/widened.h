// FP32 rows for values of 16 bits that no row takes.
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

/// Binds `request` with its f16 and bf16 values as f32, converted before and after each run
/// (constants once). Errors: kUnsupported if it has none, or no FP32 row fits.
Result<BoundKernel> BindWidened(const KernelRequest& request);

}  // namespace minim
