#include "core/dtype.h"

#include <immintrin.h>

#include <string>

namespace minim {
namespace {

struct Row {
  std::string_view name;
  size_t bytes;
  int onnx_id;
  DTypeKind kind;
};

constexpr Row kRows[] = {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) {#name, (bits) / 8, onnx, DTypeKind::kind},
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
    {"string", sizeof(std::string), 8, DTypeKind::kString},
};

const Row& RowOf(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

std::string_view PublicName(const Row& row) {
  return row.name.ends_with('_') ? row.name.substr(0, row.name.size() - 1) : row.name;
}

// Rounds the magnitude of a finite double to `mantissa_bits` stored bits with the given exponent
// range, to nearest even; returns the format's bits without sign.
uint32_t RoundMagnitude(double magnitude, int mantissa_bits, int min_exponent, int max_exponent) {
  const int bias = 1 - min_exponent;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  exponent -= 1;  // magnitude = 1.x * 2^exponent
  const int quantum = std::max(exponent, min_exponent) - mantissa_bits;
  const double steps = std::nearbyint(std::ldexp(magnitude, -quantum));
  uint32_t count = static_cast<uint32_t>(steps);
  const int biased = std::max(exponent, min_exponent) + bias;
  // count includes the hidden bit for normals; adding instead of or-ing lets a carry raise the
  // exponent, up to infinity.
  const uint32_t bits = count + ((biased - 1) << mantissa_bits);
  const uint32_t infinity = static_cast<uint32_t>(max_exponent + bias + 1) << mantissa_bits;
  return std::min(bits, infinity);
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
  return sign | RoundMagnitude(std::fabs(value), mantissa_bits, min_exponent, max_exponent);
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

}  // namespace

size_t SizeOf(DType dtype) { return RowOf(dtype).bytes; }
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
