#include "core/dtype.h"

#include <immintrin.h>

#include <algorithm>
#include <string>

#include "core/small_float.h"

namespace minim {
namespace {

struct Row {
  std::string_view name;
  size_t bytes;
  int file_bits;
  int onnx_id;
  DTypeKind kind;
};

constexpr Row kRows[] = {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) \
  {#name, (bits) / 8, bits, onnx, DTypeKind::kind},
#define MINIM_SMALL_DTYPE(name, type, file_bits, onnx, kind) \
  {#name, 1, file_bits, onnx, DTypeKind::kind},
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
    {"string", sizeof(std::string), 0, 8, DTypeKind::kString},
};

const Row& RowOf(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

std::string_view PublicName(const Row& row) {
  return row.name.ends_with('_') ? row.name.substr(0, row.name.size() - 1) : row.name;
}

uint16_t RoundDouble(double value, int mantissa_bits, int min_exponent, int max_exponent) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const uint32_t infinity = static_cast<uint32_t>(max_exponent - min_exponent + 2) << mantissa_bits;
  if (std::isnan(value)) {
    const uint64_t payload = std::bit_cast<uint64_t>(value) >> (52 - mantissa_bits);
    const uint32_t mask = (1u << mantissa_bits) - 1;
    return sign | infinity | (1u << (mantissa_bits - 1)) | (payload & mask);
  }
  if (std::isinf(value)) return sign | infinity;
  if (value == 0) return sign;
  if (std::fabs(value) >= std::ldexp(1.0, max_exponent + 1)) return sign | infinity;
  return sign | std::min(RoundMagnitude(std::fabs(value), mantissa_bits, min_exponent), infinity);
}

bool HasF16c() {
  static const bool has = __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx2");
  return has;
}

__attribute__((target("avx2,f16c"))) void HalfToFloatF16c(const Half* src, float* dst, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i));
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(half));
  }
  for (; i < n; ++i) dst[i] = static_cast<float>(src[i]);
}

__attribute__((target("avx2,f16c"))) void FloatToHalfF16c(const float* src, Half* dst, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), half);
  }
  for (; i < n; ++i) dst[i] = Half(src[i]);
}

template <typename From, typename To>
void ConvertLoop(const From* src, To* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = ConvertTo<To>(src[i]);
}

template <typename Wide>
void SmallToWide(ConstView src, View dst) {
  VisitSmall(src.dtype, [&]<typename From>() {
    ConvertLoop(src.as<From>().data(), dst.as<Wide>().data(), src.size());
  });
}

template <typename Wide>
void WideToSmall(ConstView src, View dst) {
  VisitSmall(dst.dtype, [&]<typename To>() {
    ConvertLoop(src.as<Wide>().data(), dst.as<To>().data(), src.size());
  });
}

// Between a small type and Wide, which is int64_t or double: no loop per pair of types. The other
// pairs go through Wide, piece by piece; it holds every value of either side exactly enough.
template <typename Wide>
void ConvertSmall(ConstView src, View dst) {
  constexpr int64_t kPiece = 512;
  constexpr DType kWide = kDTypeOf<Wide>;
  if (dst.dtype == kWide) return SmallToWide<Wide>(src, dst);
  if (src.dtype == kWide) return WideToSmall<Wide>(src, dst);
  Wide wide[kPiece];
  const auto* from = static_cast<const std::byte*>(src.data);
  auto* to = static_cast<std::byte*>(dst.data);
  for (int64_t at = 0; at < src.size(); at += kPiece) {
    const Dims dims{std::min(kPiece, src.size() - at)};
    const View piece{wide, kWide, dims};
    ConvertElements({from + at * SizeOf(src.dtype), src.dtype, dims}, piece);
    ConvertElements(piece, {to + at * SizeOf(dst.dtype), dst.dtype, dims});
  }
}

bool HoldsFractions(DType dtype) { return IsFloat(dtype) || IsSmallFloat(dtype); }

}  // namespace

size_t SizeOf(DType dtype) { return RowOf(dtype).bytes; }
int FileBits(DType dtype) { return RowOf(dtype).file_bits; }
std::string_view Name(DType dtype) { return PublicName(RowOf(dtype)); }
DTypeKind KindOf(DType dtype) { return RowOf(dtype).kind; }
int OnnxId(DType dtype) { return RowOf(dtype).onnx_id; }

std::optional<DType> DTypeFromName(std::string_view name) {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (PublicName(kRows[i]) == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromOnnx(int onnx_id) {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (kRows[i].onnx_id == onnx_id) return static_cast<DType>(i);
  }
  return std::nullopt;
}

Half HalfFromDouble(double value) {
  Half half;
  half.bits = RoundDouble(value, 10, -14, 15);
  return half;
}

BFloat16 BFloat16FromDouble(double value) {
  BFloat16 result;
  result.bits = RoundDouble(value, 7, -126, 127);
  return result;
}

Half::Half(float value) : bits(HalfFromDouble(value).bits) {}

Half::operator float() const {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1f;
  const uint32_t mantissa = bits & 0x3ff;
  if (exponent == 0x1f) {
    const uint32_t quiet = mantissa ? 0x400000 : 0;
    return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13) | quiet);
  }
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

BFloat16::BFloat16(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  if ((word & 0x7fffffff) > 0x7f800000) {
    bits = static_cast<uint16_t>((word >> 16) | 0x40);
  } else {
    bits = static_cast<uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
}

BFloat16::operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

namespace {

#define MINIM_INLINE inline __attribute__((always_inline))

// As BFloat16 converts, without a branch.
MINIM_INLINE void WidenBf16(const uint16_t* src, float* dst, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dst[i] = std::bit_cast<float>(uint32_t{src[i]} << 16);
}

MINIM_INLINE void NarrowToBf16(const float* src, uint16_t* dst, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const auto word = std::bit_cast<uint32_t>(src[i]);
    const uint32_t rounded = word + 0x7FFF + (word >> 16 & 1);
    dst[i] = static_cast<uint16_t>((src[i] != src[i] ? word | 0x400000 : rounded) >> 16);
  }
}
#undef MINIM_INLINE

// The same loops in wider vectors.
__attribute__((target("avx2"))) void WidenBf16Avx2(const uint16_t* src, float* dst, int64_t n) {
  WidenBf16(src, dst, n);
}
__attribute__((target("avx2"))) void NarrowToBf16Avx2(const float* src, uint16_t* dst, int64_t n) {
  NarrowToBf16(src, dst, n);
}

}  // namespace

void ConvertElements(ConstView src, View dst) {
  MINIM_CHECK(src.size() == dst.size());
  const int64_t n = src.size();
  if (n == 0) return;
  if (src.dtype == dst.dtype) {
    std::memcpy(dst.data, src.data, src.bytes());
    return;
  }
  if (HasF16c() && src.dtype == DType::f16 && dst.dtype == DType::f32)
    return HalfToFloatF16c(src.as<Half>().data(), dst.as<float>().data(), n);
  if (HasF16c() && src.dtype == DType::f32 && dst.dtype == DType::f16)
    return FloatToHalfF16c(src.as<float>().data(), dst.as<Half>().data(), n);
  if (src.dtype == DType::bf16 && dst.dtype == DType::f32)
    return (HasF16c() ? WidenBf16Avx2 : WidenBf16)(static_cast<const uint16_t*>(src.data),
                                                   dst.as<float>().data(), n);
  if (src.dtype == DType::f32 && dst.dtype == DType::bf16)
    return (HasF16c() ? NarrowToBf16Avx2 : NarrowToBf16)(src.as<float>().data(),
                                                         static_cast<uint16_t*>(dst.data), n);
  if (IsSmall(src.dtype) || IsSmall(dst.dtype)) {
    const bool fractions = HoldsFractions(src.dtype) || HoldsFractions(dst.dtype);
    return fractions ? ConvertSmall<double>(src, dst) : ConvertSmall<int64_t>(src, dst);
  }
  Visit(src.dtype, [&]<typename From>() {
    Visit(dst.dtype,
          [&]<typename To>() { ConvertLoop(src.as<From>().data(), dst.as<To>().data(), n); });
  });
}

Tensor Converted(const ConstView& src, DType dtype) {
  Tensor result(dtype, src.dims);
  ConvertElements(src, result.view());
  return result;
}

}  // namespace minim
