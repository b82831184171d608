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

int64_t MostPanels(const WinogradTiling& t) {
  const int64_t bytes = kTileFloats * 4 * (t.planes + std::min(t.m, kRows));
  const bool heavy = kWinogradTaps * t.m * t.planes * 4 > kFilterBytes;
  return std::clamp<int64_t>(kTileBytes / bytes, heavy ? 4 : 2, kMostPanels);
}

// Each lot of tiles reads all filters, so small images share one.
void GroupImages(WinogradTiling& t) {
  const int64_t tiles = std::max<int64_t>(1, t.w.out_size());
  t.together =
      std::clamp<int64_t>(MostPanels(t) * kPanel / tiles, 1, std::max<int64_t>(1, t.w.batch));
  t.panels = PanelsOf(t.w.out_size() * t.together);
}

bool Pays(const WinogradTiling& t, int64_t channels, const WinogradCosts& costs) {
  const double filters = double(t.m) * channels, images = double(t.w.batch);
  const int64_t lot = t.w.out_size() * t.together, rest = lot % kPanel;
  const double lots = images / double(t.together);
  const double tiles = lots * double(lot - rest + (rest > 4 ? kPanel : 2 * rest));
  const double pixels = images * double(t.plane_size());
  const double ours = kWinogradTaps * filters * (costs.product * tiles + costs.weight * lots) +
                      (costs.in * channels + costs.out * t.m) * tiles + costs.filter * filters;
  const double direct =
      9 * filters * (pixels + costs.weight * images) + costs.pixel * channels * pixels;
  return ours < 0.85 * direct;
}

void CutWork(WinogradTiling& t, int threads) {
  const int64_t most = MostPanels(t), lots = t.lots(t.w.batch) * t.groups;
  int64_t blocks = (t.panels + most - 1) / most;
  if (lots % threads != 0 && lots < 4 * threads) {
    if (t.panels >= 4 * threads)
      blocks = (blocks + threads - 1) / threads * threads;
    else if (t.m >= kLeastPart * threads)
      t.parts = threads;
  }
  if (t.together > 1) blocks = 1;
  t.unit_panels = (t.panels + blocks - 1) / blocks;
  const int64_t rows =
      std::min(t.w.out[1], (t.unit_panels * kPanel + t.w.out[2] - 2) / t.w.out[2] + 1);
  t.stage_floats =
      t.together > 1 ? t.stage.FloatsFor(t.together, t.w.out[1]) : t.stage.FloatsFor(1, rows);
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
  GroupImages(t);
  if (!request.at_any_cost && !Pays(t, weights[1], costs))
    return Unsupported("the direct product costs less");
  t.stage = ImageStage(t.w, kPanel);
  CutWork(t, std::max(1, request.threads));
  return t;
}

WinogradUnit WinogradRun::UnitAt(int64_t index, int64_t images) const {
  const int64_t blocks = t_.blocks();
  WinogradUnit u;
  u.image = index / (blocks * t_.parts * t_.groups) * t_.together;
  u.images = std::min(t_.together, images - u.image);
  u.group = index / (blocks * t_.parts) % t_.groups;
  u.first = index % blocks * t_.unit_panels;
  const int64_t tiles = u.images * t_.w.out_size();
  u.last = std::min(PanelsOf(tiles), u.first + t_.unit_panels);
  u.row = FilterPart(t_.m, t_.parts, index / blocks % t_.parts);
  u.rows = FilterPart(t_.m, t_.parts, index / blocks % t_.parts + 1) - u.row;
  u.tiles = std::min(u.last * kPanel, tiles) - u.first * kPanel;
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
  TapRange rows{0, t_.w.out[1]};
  if (t_.together == 1)
    rows = {u.first * kPanel / width,
            (std::min(u.last * kPanel, t_.w.out_size()) + width - 1) / width};
  const float* image = words + (u.image * t_.groups + u.group) * t_.planes * plane;
  StagedPanel panels[kMostPanels];
  for (int64_t i = u.first; i < u.last; ++i) {
    panels[i - u.first] = CutPanel(t_.w, t_.stage, i, rows.first, u.images);
    panels[i - u.first].stage = to.stage;
    panels[i - u.first].channels = 1;
  }
  const int64_t staged = t_.stage.FloatsOf(rows.last - rows.first);
  for (int64_t c = 0; c < t_.planes; ++c, image += plane) {
    for (int64_t i = 0; i < u.images; ++i)
      t_.stage.Fill(image + i * t_.groups * t_.planes * plane, rows.first, rows.last, 0,
                    to.stage + i * staged);
    for (int64_t i = 0; i < u.last - u.first; ++i) {
      level_.pack(panels[i], to.tiles);
      input_(to.tiles, to.input + (i * t_.planes + c) * kPanel, t_.input_tap());
    }
  }
}

}  // namespace minim
