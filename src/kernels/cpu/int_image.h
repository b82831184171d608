// Images of bytes in 32-bit words of neighbouring channels, which the FP32 code moves as pixels.
#pragma once

#include "kernels/cpu/int_gemm.h"

namespace minim {

struct WordImages {
  DType dtype = DType::u8;
  IntForm form = IntForm::kPairs;
  int64_t groups = 1, channels = 1;  // channels: per group
  int64_t plane = 0;                 // pixels

  int64_t words() const { return WordsOf(form, channels); }  // per group and pixel
  int64_t words_of_one() const { return groups * words() * plane; }
  int64_t size_of_one() const { return groups * channels * plane; }
  /// How many of `batch` images are put into words at a time, so that a cache holds them.
  int64_t Together(int64_t batch) const;
  /// Pairs: 16-bit values less the zero point. Bytes: signed, as they are or less 128, then flipped
  /// as the level's B. A channel that is missing in the last word of a group is anything; its
  /// weights are zero.
  void Fill(const IntLevel& level, const uint8_t* src, int64_t images, int32_t zero,
            const ThreadBudget& threads, float* dst) const;

 private:
  void FillPlane(const IntLevel& level, const uint8_t* src, int64_t left, int32_t zero,
                 float* dst) const;
};

}  // namespace minim
