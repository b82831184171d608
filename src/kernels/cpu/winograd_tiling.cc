#include "kernels/cpu/winograd_tiling.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

constexpr int64_t kMostPanels = 8;         // of tiles, transformed together ...
constexpr int64_t kTileBytes = 1 << 20;    // ... or so many bytes of them and of their sums ...
constexpr int64_t kFilterBytes = 4 << 20;  // ... but more where so many are read for each lot
constexpr int64_t kRows = 96;              // of filters whose sums are held together
constexpr int64_t kTileFloats = kWinogradTaps * kPanel;

bool Pays(const WinogradTiling& t, int64_t channels, const WinogradCosts& costs) {
  const double filters = double(t.m) * channels, images = double(t.w.batch);
  const int64_t rest = t.w.out_size() % kPanel;
  const double tiles = images * double(t.w.out_size() - rest + (rest > 4 ? kPanel : 2 * rest));
  const double pixels = images * double(t.plane_size());
  const double ours = kWinogradTaps * filters * (costs.product * tiles + costs.weight) +
                      (costs.in * channels + costs.out * t.m) * tiles + costs.filter * filters;
  const double direct = 9 * filters * (pixels + costs.weight) + costs.pixel * channels * pixels;
  return ours < 0.85 * direct;
}

void CutWork(WinogradTiling& t, int threads) {
  t.panels = PanelsOf(t.w.out_size());
  const int64_t bytes = kTileFloats * 4 * (t.planes + std::min(t.m, kRows));
  const bool heavy = kWinogradTaps * t.m * t.planes * 4 > kFilterBytes;
  const int64_t most = std::clamp<int64_t>(kTileBytes / bytes, heavy ? 4 : 2, kMostPanels);
  const int64_t images = t.w.batch * t.groups;
  int64_t blocks = (t.panels + most - 1) / most;
  if (images % threads != 0 && images < 4 * threads) {
    if (t.panels >= 4 * threads)
      blocks = (blocks + threads - 1) / threads * threads;
    else if (t.m >= kLeastPart * threads)
      t.parts = threads;
  }
  t.unit_panels = (t.panels + blocks - 1) / blocks;
  const int64_t rows =
      std::min(t.w.out[1], (t.unit_panels * kPanel + t.w.out[2] - 2) / t.w.out[2] + 1);
  t.stage_floats = t.stage.FloatsFor(1, rows);
}

// From the window of the convolution to that of its tiles.
void TileWindow(WinogradTiling& t) {
  t.height = t.w.out[1];
  t.width = t.w.out[2];
  for (int i = 1; i < 3; ++i) {
    t.w.out[i] = (t.w.out[i] + kWinogradOut - 1) / kWinogradOut;
    t.w.kernel[i] = kWinogradIn;
    t.w.stride[i] = kWinogradOut;
  }
}

}  // namespace

int64_t WinogradTiling::sum_tap() const {
  return std::min(m, kRows + kLeastPart) * sum_row() + kPanel;
}

size_t WinogradTiling::piece_bytes() const {
  const int64_t floats =
      stage_floats + kTileFloats + kPanel + kWinogradTaps * (input_tap() + sum_tap());
  return AlignUp(floats * sizeof(float));
}

Result<WinogradTiling> TilingOf(const KernelRequest& request, const Dims& weights,
                                int64_t channels_per_word, const WinogradCosts& costs) {
  const Attributes& attributes = AttributesOf(request);
  const Dims& x = request.inputs[0].dims;
  if (x.rank() != 4 || weights[2] != 3 || weights[3] != 3) return Unsupported("not a 3x3 kernel");
  WinogradTiling t;
  MINIM_TRY(t.w, WindowOf(attributes, x, request.outputs[0].dims, weights.span().subspan(2)));
  if (t.w.stride[1] * t.w.stride[2] * t.w.dilation[1] * t.w.dilation[2] != 1)
    return Unsupported("strides or dilations");
  MINIM_TRY(t.groups, GroupsOf(attributes, x, weights));
  t.m = weights[0] / t.groups;
  t.planes = (weights[1] + channels_per_word - 1) / channels_per_word;
  TileWindow(t);
  if (!Pays(t, weights[1], costs)) return Unsupported("the direct product costs less");
  t.stage = ImageStage(t.w, kPanel);
  CutWork(t, std::max(1, request.threads));
  return t;
}

WinogradUnit WinogradRun::UnitAt(int64_t index) const {
  const int64_t blocks = t_.blocks();
  WinogradUnit u;
  u.image = index / (blocks * t_.parts * t_.groups);
  u.group = index / (blocks * t_.parts) % t_.groups;
  u.first = index % blocks * t_.unit_panels;
  u.last = std::min(t_.panels, u.first + t_.unit_panels);
  u.row = FilterPart(t_.m, t_.parts, index / blocks % t_.parts);
  u.rows = FilterPart(t_.m, t_.parts, index / blocks % t_.parts + 1) - u.row;
  u.tiles = std::min(u.last * kPanel, t_.w.out_size()) - u.first * kPanel;
  return u;
}

// Whole tiles of filters, as they are packed: the last of them are cut evenly.
WinogradUnit WinogradRun::FirstRows(WinogradUnit whole) {
  if (whole.rows >= kRows + kLeastPart) whole.rows = kRows;
  return whole;
}

WinogradUnit WinogradRun::NextRows(const WinogradUnit& whole, const WinogradUnit& done) {
  WinogradUnit rest = whole;
  rest.row = done.row + done.rows;
  rest.rows = whole.row + whole.rows - rest.row;
  return FirstRows(rest);
}

WinogradScratch WinogradRun::ScratchAt(std::byte* piece) const {
  auto* tiles = reinterpret_cast<float*>(piece);
  float* stage = tiles + kTileFloats + kPanel;
  float* input = stage + t_.stage_floats;
  return {tiles, stage, input, input + kWinogradTaps * t_.input_tap()};
}

void WinogradRun::Transform(const float* words, const WinogradUnit& u,
                            const WinogradScratch& to) const {
  const int64_t width = t_.w.out[2], plane = t_.w.in_size();
  const int64_t first_row = u.first * kPanel / width,
                last_row = (std::min(u.last * kPanel, t_.w.out_size()) + width - 1) / width;
  const float* image = words + (u.image * t_.groups + u.group) * t_.planes * plane;
  StagedPanel panels[kMostPanels];
  for (int64_t i = u.first; i < u.last; ++i) {
    panels[i - u.first] = CutPanel(t_.w, t_.stage, i, first_row);
    panels[i - u.first].stage = to.stage;
    panels[i - u.first].channels = 1;
  }
  for (int64_t c = 0; c < t_.planes; ++c) {
    t_.stage.Fill(image + c * plane, first_row, last_row, 0, to.stage);
    for (int64_t i = 0; i < u.last - u.first; ++i) {
      level_.pack(panels[i], to.tiles);
      input_(to.tiles, to.input + (i * t_.planes + c) * kPanel, t_.input_tap());
    }
  }
}

}  // namespace minim
