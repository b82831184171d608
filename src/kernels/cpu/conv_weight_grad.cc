// The weight gradient of convolution with one or two spatial axes: each element is a sum over
// images and pixels, made by one thread in an order that depends on shapes alone.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/image_stage.h"
#include "kernels/cpu/tap_dots.h"

namespace minim {
namespace {

constexpr int64_t kMostRows = 32;      // of dY, and ...
constexpr int64_t kMostColumns = 144;  // ... (channel, tap) whose sums stay in L2
constexpr int64_t kPixels = 1024;      // about so many summed before the sums go back there
constexpr double kMostWaste = 1.5;     // times the pixels

int64_t Whole(int64_t count, int64_t lanes) { return (count + lanes - 1) / lanes * lanes; }

struct Plan {
  Window w;
  const TapDotsLevel* level = nullptr;
  ImageStage stage;
  int64_t groups = 1, m = 1, channels = 1;  // m, channels: per group
  int64_t rows = 1, row_blocks = 1;         // of dY at a time
  int64_t planes = 1, plane_blocks = 1;     // of the image at a time
  int64_t images = 1, lines = 1;            // at a time; lines of all images, or of one
  bool flat = false;                        // lines follow each other as the staged ones do
  bool copied = false;                      // dY, with zeros between its lines
  int64_t line = 0;                         // floats from one line of dY to the next
  int64_t x_plane = 0, dy_plane = 0;        // floats
  std::vector<int64_t> columns;             // of a block of planes: where they stand when staged
  int64_t x_floats = 0, dy_floats = 0, sum_floats = 0;  // scratch

  int64_t units() const { return groups * row_blocks * plane_blocks; }
  int64_t tile_floats() const { return level->rows * kDotTaps * level->lanes; }
  size_t piece_bytes() const { return AlignUp((x_floats + dy_floats + sum_floats) * 4); }
};

struct Unit {
  int64_t row, rows;      // of all of dY's channels
  int64_t plane, planes;  // of all of the image's
  int64_t output;         // where its first sum goes
};

Unit UnitAt(const Plan& p, int64_t index) {
  const int64_t group = index / (p.row_blocks * p.plane_blocks);
  const int64_t row = index / p.plane_blocks % p.row_blocks * p.rows;
  const int64_t plane = index % p.plane_blocks * p.planes;
  return {.row = group * p.m + row,
          .rows = std::min(p.rows, p.m - row),
          .plane = group * p.channels + plane,
          .planes = std::min(p.planes, p.channels - plane),
          .output = ((group * p.m + row) * p.channels + plane) * p.w.taps()};
}

// Some images, or some lines of one.
struct Lot {
  int64_t image, images, line, lines;
};

void StagePlanes(const Plan& p, const float* x, const Unit& u, const Lot& lot, float* staged) {
  const int64_t lanes = p.level->lanes;
  for (int64_t i = 0; i < lot.images; ++i) {
    for (int64_t c = 0; c < u.planes; ++c) {
      const int64_t plane = (lot.image + i) * p.w.channels + u.plane + c;
      float* to = staged + (i * p.planes + c) * p.x_plane;
      p.stage.Fill(x + plane * p.w.in_size(), lot.line, lot.line + lot.lines, 0, to);
      std::fill_n(to + p.stage.RowsFor(lot.lines) * p.stage.row(), lanes, 0.0f);
    }
  }
}

void CopyGradient(const Plan& p, const float* dy, const Unit& u, const Lot& lot, float* copy) {
  const int64_t width = p.w.out[2], rows = p.groups * p.m;
  for (int64_t i = 0; i < lot.images; ++i) {
    for (int64_t r = 0; r < u.rows; ++r) {
      const float* src =
          dy + ((lot.image + i) * rows + u.row + r) * p.w.out_size() + lot.line * width;
      float* dst = copy + (i * p.rows + r) * p.dy_plane;
      float* end = dst + p.dy_plane;
      for (int64_t y = 0; y < lot.lines; ++y, src += width, dst += p.line) {
        std::copy_n(src, width, dst);
        std::fill(dst + width, y + 1 < lot.lines ? dst + p.line : end, 0.0f);
      }
    }
  }
}

// The lot's part of all sums of the unit.
void AddLot(const Plan& p, const KernelArgs& args, const Unit& u, const Lot& lot, float* scratch) {
  float *staged = scratch + p.sum_floats, *copy = staged + p.x_floats;
  StagePlanes(p, In<float>(args, 1), u, lot, staged);
  const int64_t width = p.w.out[2], lanes = p.level->lanes, rows = p.groups * p.m;
  TapDots dots{.dy_plane = p.w.out_size(),
               .dy_image = rows * p.w.out_size(),
               .dy_line = p.line,
               .x_image = p.planes * p.x_plane,
               .x_line = p.stage.output_row(),
               .images = lot.images,
               .lines = p.flat ? 1 : lot.lines};
  const int64_t length = p.flat ? (lot.lines - 1) * p.line + width : width;
  dots.length = Whole(length, lanes);
  const float* dy =
      In<float>(args, 0) + (lot.image * rows + u.row) * p.w.out_size() + lot.line * width;
  if (p.copied) {
    CopyGradient(p, In<float>(args, 0), u, lot, copy);
    dy = copy;
    dots.dy_plane = p.dy_plane;
    dots.dy_image = p.rows * p.dy_plane;
  }
  dots.x = staged;
  dots.sums = scratch;
  const int64_t columns = u.planes * p.w.taps();
  for (int64_t row = 0; row < u.rows; row += p.level->rows) {
    dots.dy = dy + row * dots.dy_plane;
    dots.rows = std::min(p.level->rows, u.rows - row);
    for (int64_t column = 0; column < columns; column += kDotTaps) {
      for (int64_t t = 0; t < kDotTaps; ++t)
        dots.taps[t] = p.columns[std::min(column + t, columns - 1)];
      p.level->add(dots);
      dots.sums += p.tile_floats();
    }
  }
}

void PutSums(const Plan& p, const Unit& u, const float* sums, float* dw) {
  const int64_t columns = u.planes * p.w.taps(), k = p.channels * p.w.taps();
  for (int64_t row = 0; row < u.rows; row += p.level->rows) {
    for (int64_t column = 0; column < columns; column += kDotTaps, sums += p.tile_floats()) {
      for (int64_t r = 0; r < std::min(p.level->rows, u.rows - row); ++r) {
        for (int64_t t = 0; t < std::min(kDotTaps, columns - column); ++t)
          dw[u.output + (row + r) * k + column + t] =
              p.level->total(sums + (r * kDotTaps + t) * p.level->lanes);
      }
    }
  }
}

void RunUnit(const Plan& p, const KernelArgs& args, const Unit& u, float* scratch) {
  std::fill_n(scratch, p.sum_floats, 0.0f);
  for (int64_t image = 0; image < p.w.batch; image += p.images) {
    const int64_t images = std::min(p.images, p.w.batch - image);
    for (int64_t line = 0; line < p.w.out[1]; line += p.lines)
      AddLot(p, args, u, {image, images, line, std::min(p.lines, p.w.out[1] - line)}, scratch);
  }
  PutSums(p, u, scratch, Out<float>(args, 0));
}

// Lines one after another cost the gaps between them, or line by line the rest of a vector.
Status ChooseLines(Plan& p) {
  const int64_t width = p.w.out[2], lanes = p.level->lanes, pitch = p.stage.output_row();
  const int64_t apart = Whole(width, lanes);
  p.flat = pitch <= apart;
  const int64_t summed = std::min(pitch, apart);
  if (static_cast<double>(summed) > kMostWaste * static_cast<double>(width))
    return Unsupported("lines of {} pixels fill no vectors", width);
  p.copied = pitch != width || width % lanes != 0;
  if (!p.flat) p.copied = width % lanes != 0;
  p.lines = std::clamp<int64_t>(kPixels / summed, 1, p.w.out[1]);
  if (p.lines == p.w.out[1])
    p.images = std::clamp<int64_t>(kPixels / (summed * p.lines), 1, p.w.batch);
  p.line = p.flat ? pitch : (p.copied ? apart : width);
  p.dy_plane = Whole(p.lines * p.line, lanes);
  p.x_plane = p.stage.RowsFor(p.lines) * p.stage.row() + lanes;
  return {};
}

void CutWork(Plan& p, int threads) {
  const int64_t taps = p.w.taps();
  p.planes = std::clamp<int64_t>(kMostColumns / taps, 1, p.channels);
  p.plane_blocks = (p.channels + p.planes - 1) / p.planes;
  p.rows = std::min(p.m, kMostRows);
  if (p.groups * p.plane_blocks * ((p.m + p.rows - 1) / p.rows) < threads)
    p.rows = std::min(p.rows, Whole((p.m + threads - 1) / threads, p.level->rows));
  p.row_blocks = (p.m + p.rows - 1) / p.rows;
  for (int64_t c = 0; c < p.planes; ++c)
    for (int64_t tap : p.stage.taps()) p.columns.push_back(c * p.x_plane + tap);
  p.x_floats = Whole(p.images * p.planes * p.x_plane, p.level->lanes);
  p.dy_floats = p.copied ? p.images * p.rows * p.dy_plane : 0;
  p.sum_floats = (p.rows + p.level->rows - 1) / p.level->rows *
                 ((p.planes * taps + kDotTaps - 1) / kDotTaps) * p.tile_floats();
}

BindResult Bind(const KernelRequest& request, const TapDotsLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const Dims &weights = request.outputs[0].dims, &x = request.inputs[1].dims;
  const Attributes& attributes = AttributesOf(request);
  Plan p{.level = &level};
  MINIM_TRY(p.w, WindowOf(attributes, x, request.inputs[0].dims, weights.span().subspan(2)));
  if (x.rank() > 4) return Unsupported("three spatial axes");
  if (p.w.batch * p.w.out_size() * weights.Elements() == 0) return Unsupported("nothing to sum");
  MINIM_TRY(p.groups, GroupsOf(attributes, x, weights));
  p.m = weights[0] / p.groups;
  p.channels = weights[1];
  p.stage = ImageStage(p.w, 0);
  MINIM_TRY(ChooseLines(p));
  CutWork(p, std::max(1, request.threads));
  const size_t scratch = p.piece_bytes() * std::max(1, request.threads);
  return MakeKernel(
      fmt::format("conv weight gradient by taps {}", level.name),
      [p = std::move(p)](const KernelArgs& args) {
        RunUnits(args.threads, args.scratch, p.units(), p.piece_bytes(),
                 [&](int64_t unit, float* piece) { RunUnit(p, args, UnitAt(p, unit), piece); });
      },
      scratch);
}

}  // namespace

BindResult ConvWeightGradByTapsAvx512(const KernelRequest& request) {
  return Bind(request, TapDotsAvx512());
}
BindResult ConvWeightGradByTapsAvx2(const KernelRequest& request) {
  return Bind(request, TapDotsAvx2());
}
BindResult ConvWeightGradByTapsPortable(const KernelRequest& request) {
  return Bind(request, TapDotsPortable());
}

}  // namespace minim
