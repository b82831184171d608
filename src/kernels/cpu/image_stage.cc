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

}  // namespace

ImageStage::ImageStage(const Window& w, int64_t slack) : window_(w), slack_(slack) {
  const int64_t stride = w.stride[2];
  for (int64_t k = 0; k < w.kernel[2]; ++k) phases_.push_back(k * w.dilation[2] % stride);
  std::sort(phases_.begin(), phases_.end());
  phases_.erase(std::unique(phases_.begin(), phases_.end()), phases_.end());
  width_ = w.out[2] + (w.kernel[2] - 1) * w.dilation[2] / stride;
  row_ = width_ * static_cast<int64_t>(phases_.size());
  reach_ = (w.kernel[1] - 1) * w.dilation[1] + 1;
  for (int64_t h = 0; h < w.kernel[1]; ++h) {
    for (int64_t k = 0; k < w.kernel[2]; ++k) {
      const int64_t column = k * w.dilation[2];
      const auto slot = std::find(phases_.begin(), phases_.end(), column % stride);
      taps_.push_back(h * w.dilation[1] * row_ + (slot - phases_.begin()) * width_ +
                      column / stride);
    }
  }
}

void ImageStage::Fill(const float* image, int64_t first, int64_t last, float padding,
                      float* stage) const {
  const Window& w = window_;
  const int64_t stride = w.stride[2], top = first * w.stride[1] - w.begin[1];
  for (int64_t r = 0; r < RowsFor(last - first); ++r) {
    const int64_t y = top + r;
    const float* src = image + y * w.in[2];
    for (int64_t phase : phases_) {
      const int64_t column = phase - w.begin[2];
      const TapRange valid =
          y < 0 || y >= w.in[1] ? TapRange{0, 0} : ValidRange(column, stride, w.in[2], width_);
      std::fill(stage, stage + valid.first, padding);
      CopyStrided(src + column + valid.first * stride, stride, valid.last - valid.first,
                  stage + valid.first);
      std::fill(stage + valid.last, stage + width_, padding);
      stage += width_;
    }
  }
}

}  // namespace minim
