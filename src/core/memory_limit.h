// What a file or a request may ask of memory: sizes are checked before anything is allocated.
#pragma once

#include "core/shape.h"
#include "minim/status.h"

namespace minim {

/// Bytes of main memory.
size_t PhysicalMemory();

/// The most bytes that one value may take: half of main memory.
inline size_t LargestValue() { return PhysicalMemory() / 2; }

/// Errors: kResourceExhausted if a tensor of the known dims would take more than LargestValue(),
/// also where their product wraps. Dims that are unknown or 0 count as 1: the product of any of the
/// dims is then a small number too.
Status CheckFits(const Shape& shape, DType dtype);

}  // namespace minim
