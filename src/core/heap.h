// What a process keeps of freed memory.
#pragma once

namespace minim {

/// Gives pages that loading left free back to the system, where the C library can; a parsed file
/// and the steps between it and a plan are many times what stays. Milliseconds: not for a hot path.
void ReturnFreedPages();

}  // namespace minim
