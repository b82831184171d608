#include "kernels/cpu/int_gemm.h"

#include <algorithm>

namespace minim {
namespace {

template <typename T>
void Pack(const T* b, int64_t row, int64_t column, int64_t k, int64_t n,
          const ZeroPoints& zero_points, int64_t first, int64_t last, int16_t* packed) {
  for (int64_t p = first; p < last; ++p) {
    for (int64_t i = 0; i < PairsOf(k) * 2; ++i) {
      for (int64_t j = 0; j < kPanel; ++j) {
        const int64_t at = p * kPanel + j;
        int16_t* dst = packed + ((p * PairsOf(k) + i / 2) * kPanel + j) * 2 + i % 2;
        const bool inside = i < k && at < n;
        *dst = inside ? static_cast<int16_t>(b[i * row + at * column] - zero_points.At(at)) : 0;
      }
    }
  }
}

}  // namespace

void PackIntB(const void* b, DType dtype, int64_t row, int64_t column, int64_t k, int64_t n,
              const ZeroPoints& zero_points, int64_t first, int64_t last, int16_t* packed) {
  if (dtype == DType::u8)
    return Pack(static_cast<const uint8_t*>(b), row, column, k, n, zero_points, first, last,
                packed);
  Pack(static_cast<const int8_t*>(b), row, column, k, n, zero_points, first, last, packed);
}

void ParallelIntGemm(const IntLevel& level, const IntGemmArgs& args, const ThreadBudget& threads) {
  const double work = static_cast<double>(args.m) * args.n * std::max<int64_t>(args.pairs, 1);
  const int64_t panels = PanelsOf(args.n), tiles = (args.m + kIntRows - 1) / kIntRows;
  const bool by_columns = panels >= tiles;
  const int64_t units = by_columns ? panels : tiles;
  const auto most = static_cast<int64_t>(work / 100e3) + 1;
  const int pieces = static_cast<int>(std::min({most, units, int64_t{threads.threads}}));
  if (pieces <= 1) return level.multiply(args);
  threads.ParallelFor(pieces, [&](int i) {
    const int64_t first = units * i / pieces, last = units * (i + 1) / pieces;
    IntGemmArgs part = args;
    if (by_columns) {
      part.n = std::min(last * kPanel, args.n) - first * kPanel;
      part.packed += first * kPanel * args.pairs * 2;
      part.c += first * kPanel;
    } else {
      part.m = std::min(last * kIntRows, args.m) - first * kIntRows;
      part.a += first * kIntRows * args.a_row;
      part.c += first * kIntRows * args.c_row;
    }
    level.multiply(part);
  });
}

void RequantizeChannel(const IntLevel& level, int32_t bias, const RequantizeRow& row, int64_t n,
                       int32_t* sums, DType dtype, void* dst) {
  for (int64_t i = 0; bias != 0 && i < n; ++i)
    sums[i] = static_cast<int32_t>(static_cast<uint32_t>(sums[i]) + static_cast<uint32_t>(bias));
  if (dtype == DType::u8)
    level.requantize_u8(sums, row, n, static_cast<uint8_t*>(dst));
  else
    level.requantize_s8(sums, row, n, static_cast<int8_t*>(dst));
}

}  // namespace minim
