#include "core/heap.h"

#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>

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

size_t AnonymousMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) << 10;
  return 0;
}

}  // namespace minim
