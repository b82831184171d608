// Convolution of bytes with the channels last: what its tiles are given.
#pragma once

#include <cstdint>

namespace minim {

/// Panels of 16 filters that one tile makes at most.
inline constexpr int64_t kFilterPanels = 4;

/// A run of output pixels by up to kFilterPanels panels of filters:
/// dst[i, j] = Requantize(scales[j] * (starts[j] + sum of products of the segments under pixel i
/// with filter j's)).
struct NhwcRun {
  /// Pixel i's first tap is at i * pixel_step, or at offsets[i]; in bytes. A segment is `quads`
  /// times four bytes: the taps of a row with their channels, which lie side by side.
  const uint8_t* image = nullptr;
  int64_t pixel_step = 0;
  const int32_t* offsets = nullptr;
  const int64_t* segments = nullptr;  // where each begins, in bytes from the pixel
  int64_t segment_count = 0, quads = 0;
  const int8_t* weights = nullptr;  // per segment and quad, of each of panels * 16 filters 4 values
  /// Those of the next run, to be brought near by this one; 0 bytes: none.
  const int8_t* next_weights = nullptr;
  int64_t next_bytes = 0;
  const int32_t* starts = nullptr;  // panels * 16
  const float* scales = nullptr;    // panels * 16
  bool is_signed = false;           // the result
  int32_t zero_point = 0;
  void* dst = nullptr;
  int64_t dst_step = 0;
  int64_t filters = 0;  // in (panels - 1) * 16 .. panels * 16
};

/// With so many filters there are registers for the addresses of a tile's pixels, and offsets are
/// read; with fewer, steps.
inline constexpr int64_t kSteppedPanels = 2;
inline bool TakesOffsets(int64_t filters) { return filters > kSteppedPanels * 16; }

/// `pixels` of them.
void RunNhwcPortable(const NhwcRun& run, int64_t pixels);
void RunNhwcVnni(const NhwcRun& run, int64_t pixels);

}  // namespace minim
