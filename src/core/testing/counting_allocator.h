// A test that links this counts every operator new of its process.
#pragma once

#include <cstdint>

namespace minim {

/// Calls of operator new so far, by any thread.
int64_t AllocationCount();

}  // namespace minim
