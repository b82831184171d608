#include "kernels/cpu/image_stage.h"

#include <algorithm>
#include <cstring>

namespace minim {
namespace {

using Four = float __attribute__((vector_size(16)));

// Every `stride`th element.
void CopyStrided(const float* src, int64_t stride, int64_t count, float* dst) {
  int64_t i = 0;
  // Rows are short: a call of memcpy would cost more than the copy.
  for (; stride == 1 && i + 4 <= count; i += 4) std::memcpy(dst + i, src + i, sizeof(Four));
  for (; stride == 2 && i + 4 < count; i += 4) {
    Four low, high;
    std::memcpy(&low, src + 2 * i, sizeof(low));
    std::memcpy(&high, src + 2 * i + 4, sizeof(high));
    const Four even = __builtin_shufflevector(low, high, 0, 2, 4, 6);
    std::memcpy(dst + i, &even, sizeof(even));
  }
  for (; i < count; ++i) dst[i] = src[i * stride];
}

// Four phases of stride 4 at once: element i of phase p, at dst + p * phase, is src[4 * i + p].
void CopyFourPhases(const float* src, int64_t count, float* dst, int64_t phase) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    Four x[4];
    std::memcpy(x, src + 4 * i, sizeof(x));
    const Four a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5),
               b = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5),
               c = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7),
               d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
    const Four y[4] = {
        __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
        __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
    for (int p = 0; p < 4; ++p) std::memcpy(dst + p * phase + i, &y[p], sizeof(Four));
  }
  for (; i < count; ++i) {
    for (int p = 0; p < 4; ++p) dst[p * phase + i] = src[4 * i + p];
  }
}

}  // namespace

ImageStage::ImageStage(const Window& w, int64_t slack) : window_(w), slack_(slack) {
  const int64_t stride = w.stride[2];
  width_ = w.out[2] + (w.kernel[2] - 1) * w.dilation[2] / stride;
  std::vector<int64_t> columns;
  for (int64_t k = 0; k < w.kernel[2]; ++k) columns.push_back(k * w.dilation[2] % stride);
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
  for (int64_t column : columns)
    phases_.push_back({column, ValidRange(column - w.begin[2], stride, w.in[2], width_)});
  common_ = {0, stride == 4 && columns.size() == 4 ? width_ : 0};
  for (const Phase& phase : phases_) {
    common_.first = std::max(common_.first, phase.valid.first);
    common_.last = std::min(common_.last, phase.valid.last);
  }
  common_.last = std::max(common_.first, common_.last);
  row_ = width_ * static_cast<int64_t>(phases_.size());
  reach_ = (w.kernel[1] - 1) * w.dilation[1] + 1;
  for (int64_t h = 0; h < w.kernel[1]; ++h) {
    for (int64_t k = 0; k < w.kernel[2]; ++k) {
      const int64_t column = k * w.dilation[2];
      const auto slot = std::find(columns.begin(), columns.end(), column % stride);
      taps_.push_back(h * w.dilation[1] * row_ + (slot - columns.begin()) * width_ +
                      column / stride);
    }
  }
}

void ImageStage::Fill(const float* image, int64_t first, int64_t last, float padding,
                      float* stage) const {
  const Window& w = window_;
  const int64_t stride = w.stride[2], top = first * w.stride[1] - w.begin[1];
  for (int64_t r = 0; r < RowsFor(last - first); ++r, stage += row_) {
    const int64_t y = top + r;
    if (y < 0 || y >= w.in[1]) {
      std::fill(stage, stage + row_, padding);
      continue;
    }
    const float* src = image + y * w.in[2] - w.begin[2];
    if (common_.last > common_.first)
      CopyFourPhases(src + common_.first * stride, common_.last - common_.first,
                     stage + common_.first, width_);
    float* dst = stage;
    for (const auto& [column, valid] : phases_) {
      std::fill(dst, dst + valid.first, padding);
      const auto copy = [&](int64_t from, int64_t to) {
        CopyStrided(src + column + from * stride, stride, to - from, dst + from);
      };
      if (common_.last > common_.first) {
        copy(valid.first, common_.first);
        copy(common_.last, valid.last);
      } else {
        copy(valid.first, valid.last);
      }
      std::fill(dst + valid.last, dst + width_, padding);
      dst += width_;
    }
  }
}

}  // namespace minim
