#include "kernels/cpu/image_stage.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/square.h"

namespace minim {
namespace {

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
// `i`: the first; returns the first that is left.
int64_t CopyFourPhases(const float* src, int64_t i, int64_t end, float* dst, int64_t phase) {
  for (; i + 4 <= end; i += 4) {
    Four x[4], y[4];
    std::memcpy(x, src + 4 * i, sizeof(x));
    TurnSquare(x, y);
    for (int p = 0; p < 4; ++p) std::memcpy(dst + p * phase + i, &y[p], sizeof(Four));
  }
  return i;
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

// All four phases of a row whose column 0 is src[0]: what lies outside is padding.
void ImageStage::FillFourPhases(const float* src, float padding, float* stage) const {
  const int64_t begin = window_.begin[2], columns = window_.in[2];
  const auto one_by_one = [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      for (int64_t p = 0; p < 4; ++p) {
        const int64_t x = 4 * i + p - begin;
        stage[p * width_ + i] = x >= 0 && x < columns ? src[x] : padding;
      }
    }
  };
  // Those that lie inside in every phase.
  const int64_t first = std::min(phases_[0].valid.first, width_);
  const int64_t last = std::max(first, phases_[3].valid.last);
  one_by_one(0, first);
  one_by_one(CopyFourPhases(src - begin, first, last, stage, width_), width_);
}

void ImageStage::FillPhases(const float* src, float padding, float* stage) const {
  const int64_t stride = window_.stride[2];
  for (const auto& [column, valid] : phases_) {
    std::fill(stage, stage + valid.first, padding);
    CopyStrided(src - window_.begin[2] + column + valid.first * stride, stride,
                valid.last - valid.first, stage + valid.first);
    std::fill(stage + valid.last, stage + width_, padding);
    stage += width_;
  }
}

void ImageStage::Fill(const float* image, int64_t first, int64_t last, float padding,
                      float* stage) const {
  const Window& w = window_;
  const bool four = w.stride[2] == 4 && phases_.size() == 4;
  const int64_t top = first * w.stride[1] - w.begin[1];
  for (int64_t r = 0; r < RowsFor(last - first); ++r, stage += row_) {
    const int64_t y = top + r;
    const float* src = image + y * w.in[2];
    if (y < 0 || y >= w.in[1])
      std::fill(stage, stage + row_, padding);
    else
      four ? FillFourPhases(src, padding, stage) : FillPhases(src, padding, stage);
  }
}

}  // namespace minim
