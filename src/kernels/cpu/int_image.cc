#include "kernels/cpu/int_image.h"

#include <algorithm>

namespace minim {

int64_t WordImages::Together(int64_t batch) const {
  constexpr int64_t kBytes = 1 << 20;
  const int64_t bytes = words_of_one() * static_cast<int64_t>(sizeof(float));
  return std::clamp<int64_t>(kBytes / std::max<int64_t>(1, bytes), 1, std::max<int64_t>(1, batch));
}

// The words of a channel and those after it; `left` channels are there.
void WordImages::FillPlane(const IntLevel& level, const uint8_t* src, int64_t left, int32_t zero,
                           float* dst) const {
  if (form == IntForm::kBytes) {
    const auto channel = [&](int64_t i) { return src + std::min(i, left - 1) * plane; };
    return level.quad({channel(0), channel(1), channel(2), channel(3)},
                      FlipOf(dtype) ^ level.flip_of_b(), plane, dst);
  }
  const uint8_t* second = left > 1 ? src + plane : nullptr;
  if (dtype == DType::u8) return level.pair_u8(src, second, zero, plane, dst);
  level.pair_s8(reinterpret_cast<const int8_t*>(src), reinterpret_cast<const int8_t*>(second), zero,
                plane, dst);
}

void WordImages::Fill(const IntLevel& level, const uint8_t* src, int64_t images, int32_t zero,
                      const ThreadBudget& threads, float* dst) const {
  const int64_t planes = words();
  threads.ParallelRange(images * groups * planes, 32768 / std::max<int64_t>(1, plane) + 1,
                        [&](int64_t begin, int64_t end) {
                          for (int64_t i = begin; i < end; ++i) {
                            const int64_t c = i % planes * PerWord(form);
                            const int64_t channel = i / planes * channels + c;
                            FillPlane(level, src + channel * plane, channels - c, zero,
                                      dst + i * plane);
                          }
                        });
}

}  // namespace minim
