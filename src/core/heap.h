// What a process keeps of freed memory.
#pragma once

#include <cstddef>

namespace minim {

/// Gives pages that loading left free back to the system, where the C library can; a parsed file
/// and the steps between it and a plan are many times what stays. Milliseconds: not for a hot path.
void ReturnFreedPages();
/// Resident bytes of the process that are no file's: code and mapped files do not count. 0 where
/// the system does not say.
size_t AnonymousMemory();

}  // namespace minim
