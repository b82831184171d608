#include "kernels/cpu/int_gemm.h"

#include <algorithm>
#include <cstring>

namespace minim {
namespace {

template <typename Packed, typename T>
void Pack(const T* b, int64_t row, int64_t column, int64_t k, int64_t n,
          const ZeroPoints& zero_points, int64_t first, int64_t last, Packed* packed) {
  constexpr int64_t kPerWord = sizeof(int32_t) / sizeof(Packed);
  const int64_t words = (k + kPerWord - 1) / kPerWord;
  for (int64_t p = first; p < last; ++p) {
    for (int64_t i = 0; i < words * kPerWord; ++i) {
      for (int64_t j = 0; j < kPanel; ++j) {
        const int64_t at = p * kPanel + j;
        Packed* dst = packed + ((p * words + i / kPerWord) * kPanel + j) * kPerWord + i % kPerWord;
        const bool inside = i < k && at < n;
        *dst = inside ? static_cast<Packed>(b[i * row + at * column] - zero_points.At(at)) : 0;
      }
    }
  }
}

// The first word of a row among tiles, and how far its words are apart.
struct Place {
  int64_t first, step;
};
Place PlaceOf(int64_t row, int64_t m, int64_t depth) {
  const int64_t tile = row / kIntRows * kIntRows, rows = std::min(kIntRows, m - tile);
  return {tile * depth + row - tile, rows};
}

// Byte by byte: 0xFF where negative, and the magnitude.
SignedQuad SignsOf(uint32_t bytes) {
  const uint32_t negative = bytes >> 7 & 0x01010101u, signs = negative * 0xFF;
  return {(bytes ^ signs) + negative, signs};  // no carry: ~x is below 128
}

}  // namespace

bool AreMiddle(const ZeroPoints& zero_points) {
  if (zero_points.data == nullptr) return zero_points.dtype == DType::i8;
  for (int64_t i = 0; i < zero_points.count; ++i)
    if (zero_points.At(i) != MiddleOf(zero_points.dtype)) return false;
  return true;
}

void PlacePairs(const void* src, int64_t depth, int64_t row, int64_t m, void* a) {
  const Place place = PlaceOf(row, m, depth);
  uint32_t* dst = static_cast<uint32_t*>(a) + place.first;
  for (int64_t i = 0; i < depth; ++i, dst += place.step)
    std::memcpy(dst, static_cast<const std::byte*>(src) + i * sizeof(*dst), sizeof(*dst));
}

int32_t PlaceBytes(const IntLevel& level, const void* src, uint8_t flip, int64_t k, int64_t row,
                   int64_t m, void* a) {
  if (level.place_row)
    return level.place_row(src, flip, k, static_cast<uint32_t*>(a) + row * QuadsOf(k));
  const Place place = PlaceOf(row, m, QuadsOf(k));
  const uint32_t flips = flip * 0x01010101u;
  uint64_t even = 0, odd = 0;  // of bytes 0 and 2, 1 and 3, in halves of 32 bits
  SignedQuad* dst = static_cast<SignedQuad*>(a) + place.first;
  for (int64_t i = 0; i < k; i += 4, dst += place.step) {
    const int64_t count = std::min<int64_t>(4, k - i);
    uint32_t bytes = flips;  // what is missing becomes 0
    if (count == 4)
      std::memcpy(&bytes, static_cast<const std::byte*>(src) + i, 4);
    else
      std::memcpy(&bytes, static_cast<const std::byte*>(src) + i, count);
    *dst = SignsOf(bytes ^ flips);
    const uint64_t negative = dst->magnitudes & dst->signs;
    even += (negative & 0xFF) | (negative & 0xFF0000) << 16;
    odd += (negative >> 8 & 0xFF) | (negative >> 8 & 0xFF0000) << 16;
  }
  const uint64_t sum = even + odd;
  return static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(sum >> 32));
}

void PackIntB(IntForm form, const void* b, DType dtype, int64_t row, int64_t column, int64_t k,
              int64_t n, const ZeroPoints& zero_points, int64_t first, int64_t last, void* packed) {
  const auto pack = [&](const auto* values) {
    if (form == IntForm::kPairs)
      Pack(values, row, column, k, n, zero_points, first, last, static_cast<int16_t*>(packed));
    else
      Pack(values, row, column, k, n, zero_points, first, last, static_cast<int8_t*>(packed));
  };
  if (dtype == DType::u8)
    pack(static_cast<const uint8_t*>(b));
  else
    pack(static_cast<const int8_t*>(b));
}

void ParallelIntGemm(const IntLevel& level, IntForm form, const IntGemmArgs& args,
                     const ThreadBudget& threads) {
  const auto multiply = form == IntForm::kPairs ? level.multiply_pairs : level.multiply_bytes;
  const size_t a_word = WordBytesOfA(level, form);
  const double work = static_cast<double>(args.m) * args.n * std::max<int64_t>(args.depth, 1);
  const int64_t panels = PanelsOf(args.n), tiles = (args.m + kIntRows - 1) / kIntRows;
  const bool by_columns = panels >= tiles;
  const int64_t units = by_columns ? panels : tiles;
  const auto most = static_cast<int64_t>(work / level.words_per_thread) + 1;
  const int pieces = static_cast<int>(std::min({most, units, int64_t{threads.threads}}));
  if (pieces <= 1) return multiply(args);
  threads.ParallelFor(pieces, [&](int i) {
    const int64_t first = units * i / pieces, last = units * (i + 1) / pieces;
    IntGemmArgs part = args;
    if (by_columns) {
      const int64_t column = first * kPanel;
      part.n = std::min(last * kPanel, args.n) - column;
      part.packed = static_cast<const int32_t*>(args.packed) + column * args.depth;
      if (args.column_start) part.column_start += column;
      part.c += column;
    } else {
      const int64_t row = first * kIntRows;
      part.m = std::min(last * kIntRows, args.m) - row;
      part.a = static_cast<const std::byte*>(args.a) + row * args.depth * a_word;
      if (args.row_start) part.row_start += row;
      part.c += row * args.c_row;
    }
    multiply(part);
  });
}

void RequantizeChannel(const IntLevel& level, const RequantizeRow& row, int64_t n,
                       const int32_t* sums, DType dtype, void* dst) {
  if (dtype == DType::u8)
    level.requantize_u8(sums, row, n, static_cast<uint8_t*>(dst));
  else
    level.requantize_s8(sums, row, n, static_cast<int8_t*>(dst));
}

}  // namespace minim
