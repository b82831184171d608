// A direct convolution with the channels last: the taps of a row with their channels lie side by
// side, and so do the filters of the result. Nothing is packed but the weights, images are copied
// only where they need padding, and sums never leave the registers. Here: how the work is cut into
// runs of pixels by panels of filters, whatever the elements are.
#pragma once

#include "core/function_ref.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/window.h"

namespace minim {

/// Panels of 16 filters that one tile makes at most, and their filters: a group.
inline constexpr int64_t kFilterPanels = 4;
inline constexpr int64_t kFilterGroup = kFilterPanels * kPanel;

/// A run of output pixels by up to kFilterPanels panels of filters:
/// dst[i, j] = f(sum of products of the segments under pixel i with filter j's). What f is, and
/// whether a quad is four bytes, two BF16 or one float, is the kernel's. All steps are in bytes.
struct NhwcRun {
  /// Pixel i's first tap is at offsets[i], or without offsets at i * pixel_step. A segment is
  /// `quads` times four bytes: the taps of a row with their channels, which lie side by side.
  const std::byte* image = nullptr;
  int64_t pixel_step = 0;
  const int32_t* offsets = nullptr;
  int64_t line = 0;                   // of so many pixels the offsets are steps, too
  const int64_t* segments = nullptr;  // where each begins, from the pixel
  int64_t segment_count = 0, quads = 0;
  const std::byte* weights = nullptr;  // per segment and quad, of each of panels * 16 filters 4
  /// Those of the next run, to be brought near by this one; 0 bytes: none.
  const std::byte* next_weights = nullptr;
  int64_t next_bytes = 0;
  std::byte* dst = nullptr;
  int64_t dst_step = 0;
  int64_t filters = 0;  // in (panels - 1) * 16 .. panels * 16
};

/// With more filters there are registers for the addresses of a tile's pixels, and offsets are
/// read; with so many or fewer, steps.
inline constexpr int64_t kSteppedPanels = 2;

/// Lines of the result and groups of filters. The lines are whole images, or part of one.
struct NhwcPiece {
  int64_t first_line = 0, last_line = 0, first_group = 0, last_group = 0;
  const std::byte* image = nullptr;  // all of them
  const std::byte* stage = nullptr;  // of the lines under these, if the cuts are staged
};

struct NhwcCuts {
  Window w;  // spatial axes 1 and 2
  int64_t filters = 1;
  int64_t pixel_bytes = 1;  // of the image
  bool staged = false;
  int64_t flat = 0;               // if lines do not matter: pixels of one, the last may be fewer
  int64_t pixels = 0;             // of all images
  int64_t together = 1;           // images (lines, if flat) that one step makes, or 1 ...
  int64_t cuts = 1;               // ... and in how many steps
  std::vector<int32_t> offsets;   // of a step's pixels (a line's, if flat) from its first one
  std::vector<int64_t> segments;  // from a pixel's first tap, in its lines
  int64_t segment_bytes = 0;
  bool joins_lines = false;     // a run has all of a piece, however few filters it has
  void (*release)() = nullptr;  // what runs hold of their thread, after its pieces

  int64_t quads() const { return (segment_bytes + 3) / 4; }
  /// Bytes of a packed filter, and filters of whole panels.
  int64_t depth() const { return static_cast<int64_t>(segments.size()) * quads() * 4; }
  int64_t filled() const { return PanelsOf(filters) * kPanel; }
  int64_t groups() const { return (filters + kFilterGroup - 1) / kFilterGroup; }
  int64_t line_bytes() const {
    return (w.in[2] + (staged ? w.begin[2] + w.end[2] : 0)) * pixel_bytes;
  }
  int64_t image_bytes() const { return w.in_size() * pixel_bytes; }
  /// The same where tiles read it: with its padding, if staged.
  int64_t read_bytes() const {
    return staged ? LinesUnder(height()) * line_bytes() : image_bytes();
  }
  /// Lines of the image under so many of the result.
  int64_t LinesUnder(int64_t out) const {
    return (out - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1;
  }
  int64_t height() const { return flat ? 1 : w.out[1]; }
  int64_t line_pixels() const { return flat ? flat : w.out[2]; }
  int64_t images() const { return flat ? (pixels + flat - 1) / flat : w.batch; }
  int64_t steps() const { return (images() + together - 1) / together * cuts; }
  /// Scratch of one thread.
  int64_t stage_bytes() const {
    return staged ? together * LinesUnder((height() + cuts - 1) / cuts) * line_bytes() + 4 : 0;
  }

  /// Where the first tap of a line's first pixel lies: the pixels of a piece's lines follow it as
  /// in `offsets`.
  const std::byte* LineAt(const NhwcPiece& piece, int64_t line) const;
  /// piece(piece, thread's number) of all the work, on the threads. `zero` is the byte of padding;
  /// `stages` is AlignUp(stage_bytes()) for each thread.
  void ForEachPiece(const ThreadBudget& threads, const void* image, uint8_t zero, std::byte* stages,
                    FunctionRef<void(const NhwcPiece&, int)> piece) const;
  /// run(run, its pixels, its first filter) of all that is in a piece; `dst` is the whole result,
  /// `element` the bytes of one there.
  void ForEachRun(const NhwcPiece& piece, const std::byte* weights, void* dst, int64_t element,
                  FunctionRef<void(const NhwcRun&, int64_t, int64_t)> run) const;
};

/// Of input 0 and output 0, which have their channels last, and `weights` (M, C, H, W). Errors:
/// kUnsupported for other ranks, groups and no pixels.
Result<Window> NhwcWindowOf(const KernelRequest& request, const Dims& weights);
/// How much one step makes: images of about so many bytes, padded, where each pixel of the result
/// counts as so many more.
struct NhwcStep {
  int64_t bytes = 0, per_pixel = 0;
};
/// What stays in the L2 cache while group after group of filters passes by. A pixel of the result,
/// with what is added to it, takes `result` bytes.
NhwcStep NhwcStepOf(const Window& window, int64_t filters, int64_t element, int64_t result);

/// `element`: bytes of one of the image. Errors: kUnsupported for images of over 2 GiB.
Result<NhwcCuts> NhwcCutsOf(const Window& window, int64_t filters, int64_t element,
                            const NhwcStep& step, int threads);

/// How filters (M, C, H, W) of elements of 1, 2 or 4 bytes lie in filled() * depth() bytes: in
/// groups of up to kFilterGroup, in them segment, quad, filter, value.
class NhwcFilters {
 public:
  NhwcFilters(const NhwcCuts& cuts, int64_t element);
  /// The columns of B as filters of one tap; element strides.
  static NhwcFilters Columns(const NhwcCuts& cuts, int64_t element, int64_t row, int64_t column);

  void Pack(const void* source, std::byte* packed) const;
  void Unpack(const std::byte* packed, void* source) const;

 private:
  // f(byte of an element in the source, and in the pack, its size) of all.
  template <typename F>
  void ForEach(F f) const;
  template <int64_t element, typename F>
  void ForEach(F f) const;

  int64_t filters_, channels_, taps_, segments_, segment_bytes_, element_;
  int64_t filter_step_, channel_step_;
};

}  // namespace minim
