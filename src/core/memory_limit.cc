#include "core/memory_limit.h"

#include <unistd.h>

#include "core/error.h"

namespace minim {

size_t PhysicalMemory() {
  static const size_t bytes =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  return bytes;
}

Status CheckFits(const Shape& shape, DType dtype) {
  size_t bytes = SizeOf(dtype);
  bool fits = true;
  for (const Dim& dim : shape) {
    if (!dim.known() || dim.value() == 0) continue;
    fits = fits && !__builtin_mul_overflow(bytes, static_cast<size_t>(dim.value()), &bytes);
  }
  if (fits && bytes <= LargestValue()) return {};
  return ResourceExhausted("{}{} would take {} bytes; one value may take {}, half of main memory",
                           Name(dtype), ToString(shape),
                           fits ? std::to_string(bytes) : "more than 2^64", LargestValue());
}

}  // namespace minim
