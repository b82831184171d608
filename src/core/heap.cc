#include "core/heap.h"

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace minim {

void ReturnFreedPages() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace minim
