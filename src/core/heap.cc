#include "core/heap.h"

#include <cstdlib>
#include <mutex>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace minim {

void ReturnFreedPages() {
#ifdef __GLIBC__
  // One at a time: where another allocator serves malloc (a sanitizer's, jemalloc), the first call
  // sets glibc's up, and glibc lets a second thread in before that is done.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  malloc_trim(0);
#endif
}

}  // namespace minim
