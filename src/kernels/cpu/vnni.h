// vpdpbusd and vpdpwssd, for the files compiled at that level.
#pragma once

#include <immintrin.h>

namespace minim {
namespace {

inline __m512i LoadInts(const void* src) { return _mm512_loadu_si512(src); }

/// sum + x * y, as the intrinsics give it; through those, GCC 12 copies every sum twice a product.
inline __m512i AddPairs(__m512i sum, __m512i x, __m512i y) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
  return sum;
}
inline __m512i AddQuads(__m512i sum, __m512i unsigned_x, __m512i y) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_x), "v"(y));
  return sum;
}

}  // namespace
}  // namespace minim
