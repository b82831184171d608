#include "kernels/cpu/strided_copy.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/square.h"

namespace minim {
namespace {

constexpr int64_t kBlock = 16;  // rows and columns: both sides of a transposition stay in cache

std::vector<CopyAxis> Collapse(const std::vector<CopyAxis>& axes) {
  std::vector<CopyAxis> result;
  for (const CopyAxis& axis : axes) {
    if (axis.size == 1) continue;
    if (!result.empty() && result.back().src == axis.src * axis.size &&
        result.back().dst == axis.dst * axis.size) {
      result.back() = {result.back().size * axis.size, axis.src, axis.dst};
    } else {
      result.push_back(axis);
    }
  }
  return result;
}

// Vectors of as many elements as make a square that TurnSquare turns.
template <typename T>
using Turned =
    std::conditional_t<sizeof(T) == 1, Sixteen, std::conditional_t<sizeof(T) == 2, Eight, Four>>;

// Rows [i0, i1) and columns [j0, j1) of a plain transposition, by squares; the rest one by one.
template <typename T>
void TurnBlock(const CopyAxis& rows, const CopyAxis& columns, const T* s, T* d, int64_t i0,
               int64_t i1, int64_t j0, int64_t j1) {
  using Row = Turned<T>;
  constexpr int64_t kSide = sizeof(Row) / sizeof(T);
  const int64_t whole_i = i0 + (i1 - i0) / kSide * kSide, whole_j = j0 + (j1 - j0) / kSide * kSide;
  for (int64_t i = i0; i < whole_i; i += kSide) {
    for (int64_t j = j0; j < whole_j; j += kSide) {
      Row x[kSide], y[kSide];
      for (int64_t k = 0; k < kSide; ++k)
        std::memcpy(&x[k], s + (j + k) * columns.src + i, sizeof(Row));
      TurnSquare(x, y);
      for (int64_t k = 0; k < kSide; ++k)
        std::memcpy(d + (i + k) * rows.dst + j, &y[k], sizeof(Row));
    }
  }
  for (int64_t j = j0; j < j1; ++j) {
    for (int64_t i = j < whole_j ? whole_i : i0; i < i1; ++i)
      d[i * rows.dst + j] = s[j * columns.src + i];
  }
}

// The same of few columns into rows without gaps.
template <int columns, typename T>
void Interleave(int64_t rows, int64_t stride, const T* s, T* d) {
  for (int64_t i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) d[i * columns + j] = s[j * stride + i];
}

template <typename T>
void CopyBlock(const CopyAxis& rows, const CopyAxis& columns, const std::byte* src,
               std::byte* dst) {
  const T* s = reinterpret_cast<const T*>(src);
  T* d = reinterpret_cast<T*>(dst);
  if (rows.src == 1 && columns.dst == 1 && rows.dst == columns.size) {
    if (columns.size == 2) return Interleave<2>(rows.size, columns.src, s, d);
    if (columns.size == 3) return Interleave<3>(rows.size, columns.src, s, d);
    if (columns.size == 4) return Interleave<4>(rows.size, columns.src, s, d);
  }
  for (int64_t i0 = 0; i0 < rows.size; i0 += kBlock) {
    const int64_t i1 = std::min(rows.size, i0 + kBlock);
    for (int64_t j0 = 0; j0 < columns.size; j0 += kBlock) {
      const int64_t j1 = std::min(columns.size, j0 + kBlock);
      if constexpr (sizeof(T) <= 4) {
        if (rows.src == 1 && columns.dst == 1) {
          TurnBlock(rows, columns, s, d, i0, i1, j0, j1);
          continue;
        }
      }
      for (int64_t i = i0; i < i1; ++i) {
        for (int64_t j = j0; j < j1; ++j)
          d[i * rows.dst + j * columns.dst] = s[i * rows.src + j * columns.src];
      }
    }
  }
}

}  // namespace

StridedCopy::StridedCopy(std::vector<CopyAxis> axes, size_t element_bytes, int64_t src_offset,
                         int64_t dst_offset)
    : bytes_(element_bytes), src_offset_(src_offset), dst_offset_(dst_offset) {
  outer_ = Collapse(axes);
  for (const CopyAxis& axis : axes) {
    if (axis.size == 0) outer_count_ = 0;
  }
  columns_ = {1, 1, 1};
  rows_ = {1, 0, 0};
  if (!outer_.empty()) {
    columns_ = outer_.back();
    outer_.pop_back();
  }
  const bool run = columns_.src == 1 && columns_.dst == 1;
  // A transposition: pair the innermost axis with the one contiguous in the source.
  const auto unit = std::find_if(outer_.begin(), outer_.end(),
                                 [](const CopyAxis& axis) { return axis.src == 1; });
  if (!run && unit != outer_.end()) {
    rows_ = *unit;
    outer_.erase(unit);
  } else if (!outer_.empty()) {
    rows_ = outer_.back();
    outer_.pop_back();
  }
  for (const CopyAxis& axis : outer_) outer_count_ *= axis.size;
}

void StridedCopy::RunInner(const CopyAxis& rows, const std::byte* src, std::byte* dst) const {
  if (columns_.src == 1 && columns_.dst == 1) {
    for (int64_t i = 0; i < rows.size; ++i)
      std::memcpy(dst + i * rows.dst * static_cast<int64_t>(bytes_),
                  src + i * rows.src * static_cast<int64_t>(bytes_), columns_.size * bytes_);
    return;
  }
  switch (bytes_) {
    case 1: return CopyBlock<uint8_t>(rows, columns_, src, dst);
    case 2: return CopyBlock<uint16_t>(rows, columns_, src, dst);
    case 4: return CopyBlock<uint32_t>(rows, columns_, src, dst);
    default: return CopyBlock<uint64_t>(rows, columns_, src, dst);
  }
}

// Blocks of rows, those of one place of the outer axes after the other.
void StridedCopy::RunBlocks(const std::byte* src, std::byte* dst, int64_t first,
                            int64_t last) const {
  const auto bytes = static_cast<int64_t>(bytes_);
  const int64_t blocks = (rows_.size + kBlock - 1) / kBlock;
  for (int64_t i = first, count; i < last; i += count) {
    const int64_t row = i % blocks * kBlock;
    count = std::min(blocks - i % blocks, last - i);
    int64_t rest = i / blocks, s = src_offset_ + row * rows_.src, d = dst_offset_ + row * rows_.dst;
    for (size_t axis = outer_.size(); axis-- > 0;) {
      const int64_t at = rest % outer_[axis].size;
      rest /= outer_[axis].size;
      s += at * outer_[axis].src;
      d += at * outer_[axis].dst;
    }
    RunInner({std::min(count * kBlock, rows_.size - row), rows_.src, rows_.dst}, src + s * bytes,
             dst + d * bytes);
  }
}

void StridedCopy::Run(const void* src, void* dst, const ThreadBudget& threads) const {
  const int64_t blocks = (rows_.size + kBlock - 1) / kBlock;
  const int64_t block = std::max<int64_t>(1, std::min(kBlock, rows_.size) * columns_.size);
  threads.ParallelRange(outer_count_ * blocks, 65536 / block + 1, [&](int64_t first, int64_t last) {
    RunBlocks(static_cast<const std::byte*>(src), static_cast<std::byte*>(dst), first, last);
  });
}

}  // namespace minim
