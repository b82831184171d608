#include "kernels/cpu/pixel_panels.h"

#include <algorithm>

#include "kernels/cpu/image_pack.h"

namespace minim {
namespace {

constexpr int64_t kStageBytes = 512 << 10;  // of padded rows at a time, unless one row is larger

// A 1x1 convolution without padding does not care where rows end.
Window Flattened(Window w) {
  if (!w.pointwise()) return w;
  w.in[2] = w.out[2] = w.in_size();
  w.in[0] = w.in[1] = w.out[0] = w.out[1] = 1;
  return w;
}

// Rows of 16 pixels from planes that need no padding.
void PackRows(const Window& w, int64_t planes, const float* image, int64_t panel, float* packed) {
  const int64_t plane = w.in_size(), columns = std::min(kPanel, plane - panel * kPanel);
  const float* src = image + panel * kPanel;
  for (int64_t c = 0; c < planes; ++c, src += plane, packed += kPanel) {
    if (columns == kPanel)  // of a size known here, a copy is two moves
      std::memcpy(packed, src, kPanel * sizeof(float));
    else
      std::memcpy(packed, src, columns * sizeof(float));
  }
}

}  // namespace

PixelPanels::PixelPanels(const Window& w, int64_t planes, const FilterLevel& level)
    : window_(Flattened(w)), planes_(planes), level_(&level) {
  const bool flat = w.in[0] == 1 && w.out[0] == 1 && w.kernel[0] == 1;
  way_ = w.pointwise() ? Way::kRows : (flat ? Way::kStaged : Way::kGathered);
  if (way_ == Way::kStaged) stage_ = ImageStage(w, kPanel);
}

std::string_view PixelPanels::name() const {
  return way_ == Way::kRows ? "packed" : (way_ == Way::kStaged ? "staged" : "gathered");
}

TapRange PixelPanels::RowsOf(const Range& range) const {
  const int64_t width = window_.out[2], end = std::min(range.last * kPanel, window_.out_size());
  return {range.first * kPanel / width, (end + width - 1) / width};
}

int64_t PixelPanels::Most() const {
  if (way_ != Way::kStaged) return std::max<int64_t>(1, count());
  int64_t rows = std::max<int64_t>(1, window_.out[1]);
  while (rows > 1 && stage_.FloatsFor(planes_, rows) * 4 > kStageBytes) --rows;
  return std::clamp<int64_t>(rows * window_.out[2] / kPanel, 1, std::max<int64_t>(1, count()));
}

int64_t PixelPanels::StageFloats(int64_t panels) const {
  const int64_t width = window_.out[2];
  if (way_ != Way::kStaged || width == 0) return 0;
  const int64_t rows = std::min(window_.out[1], (panels * kPanel + width - 2) / width + 1);
  return stage_.FloatsFor(planes_, rows);
}

void PixelPanels::Stage(const float* image, const Range& range, float padding, float* stage) const {
  if (way_ != Way::kStaged) return;
  const TapRange rows = RowsOf(range);
  const int64_t plane = stage_.row() * stage_.RowsFor(rows.last - rows.first);
  for (int64_t c = 0; c < planes_; ++c)
    stage_.Fill(image + c * window_.in_size(), rows.first, rows.last, padding, stage + c * plane);
}

void PixelPanels::Pack(const float* image, const float* stage, const Range& staged, int64_t first,
                       int64_t last, float padding, float* packed) const {
  if (way_ == Way::kGathered)
    return PackPixels(window_, image, planes_, first, last, padding, packed);
  const TapRange rows = RowsOf(staged);
  for (int64_t i = first; i < last; ++i, packed += this->rows() * kPanel) {
    if (way_ == Way::kRows) {
      PackRows(window_, planes_, image, i, packed);
      continue;
    }
    StagedPanel panel = CutPanel(window_, stage_, i, rows.first);
    panel.stage = stage;
    panel.plane = stage_.row() * stage_.RowsFor(rows.last - rows.first);
    panel.channels = planes_;
    level_->pack(panel, packed);
  }
}

}  // namespace minim
