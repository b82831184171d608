// Ops on regions of images: RoiAlign, MaxRoiPool.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

// ---- RoiAlign

Status InferRegions(InferContext& op, int64_t columns, int64_t height, int64_t width) {
  MINIM_TRY(op.HasRank(0, 4));
  MINIM_TRY(op.HasRank(1, 2));
  MINIM_TRY(op.SameDType(0, 1));
  if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX)
    return op.Error("the output is {} x {}, expected 1 or more", height, width);
  if (op.input(1).ranked() && !(*op.input(1).shape)[1].Compatible(Dim(columns)))
    return op.Error("rois have shape {}, expected {} columns", ToString(*op.input(1).shape),
                    columns);
  const Dim rois = op.input(1).ranked() ? (*op.input(1).shape)[0] : Dim();
  const Dim channels = op.input(0).ranked() ? (*op.input(0).shape)[1] : Dim();
  return op.SetOutput(0, op.dtype(0), Shape{rois, channels, height, width});
}

Status InferRoiAlign(InferContext& op) {
  const Attributes& a = op.attributes();
  MINIM_TRY(op.HasRank(2, 1));
  const std::string mode = a.String("mode", "avg");
  if (mode != "avg" && mode != "max") return op.Error("mode '{}' is unknown", mode);
  if (const int64_t ratio = a.Int("sampling_ratio", 0); ratio < 0 || ratio > 10000)
    return op.Error("sampling_ratio is {}, expected 0 to 10000", ratio);
  return InferRegions(op, 4, a.Int("output_height", 1), a.Int("output_width", 1));
}

// The four neighbours of a place and their shares; all zero outside the image.
struct Corners {
  std::array<int64_t, 4> places{};
  std::array<double, 4> weights{};
};

Corners CornersAt(double y, double x, int64_t height, int64_t width) {
  const auto rows = static_cast<double>(height), columns = static_cast<double>(width);
  if (!(y >= -1 && y <= rows && x >= -1 && x <= columns)) return {};
  y = std::clamp(y, 0.0, rows - 1);
  x = std::clamp(x, 0.0, columns - 1);
  const auto top = static_cast<int64_t>(y), left = static_cast<int64_t>(x);
  const int64_t bottom = std::min(top + 1, height - 1), right = std::min(left + 1, width - 1);
  const double dy = y - static_cast<double>(top), dx = x - static_cast<double>(left);
  return {{top * width + left, top * width + right, bottom * width + left, bottom * width + right},
          {(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx}};
}

// A region cut into a grid of bins, each sampled at a grid of places.
struct AlignedRegion {
  double top, left, bin_height, bin_width;
  int64_t rows, columns;  // samples of a bin

  AlignedRegion(const Attributes& a, std::span<const double> roi, int64_t height, int64_t width) {
    const bool half = a.String("coordinate_transformation_mode", "half_pixel") == "half_pixel";
    const double scale = a.Float("spatial_scale", 1.0f), shift = half ? 0.5 : 0.0;
    left = roi[0] * scale - shift;
    top = roi[1] * scale - shift;
    double region_width = roi[2] * scale - shift - left,
           region_height = roi[3] * scale - shift - top;
    if (!half) {  // malformed regions become 1 x 1
      region_width = std::max(region_width, 1.0);
      region_height = std::max(region_height, 1.0);
    }
    bin_height = region_height / static_cast<double>(height);
    bin_width = region_width / static_cast<double>(width);
    const int64_t ratio = a.Int("sampling_ratio", 0);
    rows = ratio > 0 ? ratio : SamplesOf(bin_height);
    columns = ratio > 0 ? ratio : SamplesOf(bin_width);
  }

  static int64_t SamplesOf(double size) {
    return size > 0 ? static_cast<int64_t>(std::min(std::ceil(size), 1e4)) : 0;  // 0 for a NaN
  }

  std::vector<Corners> Bin(int64_t row, int64_t column, const Dims& x) const {
    std::vector<Corners> samples;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < columns; ++k)
        samples.push_back(CornersAt(Place(top, bin_height, row, i, rows),
                                    Place(left, bin_width, column, k, columns), x[2], x[3]));
    return samples;
  }

  static double Place(double start, double size, int64_t bin, int64_t i, int64_t count) {
    return start + (static_cast<double>(bin) +
                    (static_cast<double>(i) + 0.5) / static_cast<double>(count)) *
                       size;
  }
};

// The mean of the samples, or the largest share of a neighbour.
double PoolSamples(const std::vector<Corners>& samples, const double* plane, bool max) {
  double sum = 0, largest = samples.empty() ? 0 : -INFINITY;
  for (const Corners& corners : samples) {
    for (int i = 0; i < 4; ++i) {
      const double share = corners.weights[i] * plane[corners.places[i]];
      sum += share;
      largest = std::max(largest, share);
    }
  }
  return max ? largest : sum / static_cast<double>(std::max<size_t>(1, samples.size()));
}

Status RoiAlignReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Dims &x = op.dims(0), &out = y.dims();
  const bool max = op.attributes().String("mode", "avg") == "max";
  const int64_t plane = x[2] * x[3];
  for (int64_t r = 0; r < out[0]; ++r) {
    const int64_t batch = r < op.input(2).size() ? op.input(2).IntAt(r) : -1;
    if (batch < 0 || batch >= x[0] || plane == 0)
      return op.Error("region {} is of image {}, the input has shape {}", r, batch, x.ToString());
    const AlignedRegion region(op.attributes(), op.input(1).f64().subspan(r * 4, 4), out[2],
                               out[3]);
    for (int64_t bin = 0; bin < out[2] * out[3]; ++bin) {
      const std::vector<Corners> samples = region.Bin(bin / out[3], bin % out[3], x);
      for (int64_t c = 0; c < x[1]; ++c)
        y.f64()[(r * x[1] + c) * out[2] * out[3] + bin] =
            PoolSamples(samples, op.input(0).f64().data() + (batch * x[1] + c) * plane, max);
    }
  }
  return {};
}

// Adds one bin's share of dy to the neighbours of its samples.
void SpreadBin(const std::vector<Corners>& samples, const double* x, bool max, double dy,
               double* dx) {
  double largest = -INFINITY;
  int64_t place = -1;
  double weight = 0;
  for (const Corners& corners : samples) {
    for (int i = 0; i < 4; ++i) {
      const double share = corners.weights[i] * x[corners.places[i]];
      if (!max)
        dx[corners.places[i]] += dy * corners.weights[i] / static_cast<double>(samples.size());
      if (share <= largest) continue;
      largest = share;
      place = corners.places[i];
      weight = corners.weights[i];
    }
  }
  if (max && place >= 0) dx[place] += dy * weight;
}

// dy, x, rois, batch indices to dx.
Status RoiAlignGradReference(RefContext& op) {
  RefTensor& dx = op.Output(0);
  const Dims &x = dx.dims(), &out = op.dims(0);
  const bool max = op.attributes().String("mode", "avg") == "max";
  const int64_t plane = x[2] * x[3], bins = out[2] * out[3];
  for (int64_t r = 0; r < out[0]; ++r) {
    const int64_t batch = op.input(3).IntAt(r);
    if (batch < 0 || batch >= x[0]) return op.Error("region {} is of image {}", r, batch);
    const AlignedRegion region(op.attributes(), op.input(2).f64().subspan(r * 4, 4), out[2],
                               out[3]);
    for (int64_t bin = 0; bin < bins; ++bin) {
      const std::vector<Corners> samples = region.Bin(bin / out[3], bin % out[3], x);
      for (int64_t c = 0; c < x[1]; ++c) {
        const int64_t start = (batch * x[1] + c) * plane;
        SpreadBin(samples, op.input(1).f64().data() + start, max,
                  op.input(0).f64()[(r * x[1] + c) * bins + bin], dx.f64().data() + start);
      }
    }
  }
  return {};
}

// The regions are taken as given: no gradient flows to them.
Status RoiAlignGradient(GradContext& g) {
  g.SetInputGrad(0, g.Emit("RoiAlignGrad", {g.output_grad(0), g.input(0), g.input(1), g.input(2)},
                           g.attributes(), kMinimDomain));
  return {};
}

Status RoiAlignUpgrade(UpgradeContext& u) {  // 10 had only this mode
  if (u.from_version < 16)
    u.node.attributes.Set("coordinate_transformation_mode", std::string("output_half_pixel"));
  return {};
}

// ---- MaxRoiPool

Status InferMaxRoiPool(InferContext& op) {
  const std::vector<int64_t> pooled = op.attributes().Ints("pooled_shape");
  if (pooled.size() != 2) return op.Error("pooled_shape has {} values, expected 2", pooled.size());
  return InferRegions(op, 5, pooled[0], pooled[1]);
}

// The places of bin `i` of `bins` between the rounded borders, cut to the image.
std::pair<int64_t, int64_t> BinRange(double first, double last, int64_t i, int64_t bins,
                                     int64_t size) {
  const double start = std::round(first);
  const double step = std::max(std::round(last) - start + 1, 1.0) / static_cast<double>(bins);
  const auto place = [&](double at) {  // 0 for a NaN
    return at + start > 0 ? static_cast<int64_t>(std::min(at + start, static_cast<double>(size)))
                          : 0;
  };
  return {place(std::floor(static_cast<double>(i) * step)),
          place(std::ceil(static_cast<double>(i + 1) * step))};
}

// Visits the bins of x's regions: f(flat, the place of the largest element in it, or -1).
template <typename F>
Status ForEachBin(const RefContext& op, const RefTensor& x, const RefTensor& rois, const Dims& out,
                  F&& f) {
  const double scale = op.attributes().Float("spatial_scale", 1.0f);
  const Dims& in = x.dims();
  Status status;
  ForEachIndex(out, [&](int64_t flat, const Dims& at) {
    const auto roi = rois.f64().subspan(at[0] * 5, 5);
    if (!(roi[0] >= 0 && roi[0] < static_cast<double>(in[0]))) {
      status = op.Error("region {} is of image {}, the input has {}", at[0], roi[0], in[0]);
      return;
    }
    const int64_t plane = (static_cast<int64_t>(roi[0]) * in[1] + at[1]) * in[2] * in[3];
    const auto [top, bottom] = BinRange(roi[2] * scale, roi[4] * scale, at[2], out[2], in[2]);
    const auto [left, right] = BinRange(roi[1] * scale, roi[3] * scale, at[3], out[3], in[3]);
    int64_t best = -1;
    for (int64_t row = top; row < bottom; ++row)
      for (int64_t column = left; column < right; ++column) {
        const int64_t place = plane + row * in[3] + column;
        if (best < 0 || x.f64()[place] > x.f64()[best]) best = place;
      }
    f(flat, best);
  });
  return status;
}

Status MaxRoiPoolReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  return ForEachBin(op, op.input(0), op.input(1), y.dims(), [&](int64_t flat, int64_t best) {
    y.f64()[flat] = best < 0 ? 0 : op.input(0).f64()[best];
  });
}

// dy, x, rois to dx.
Status MaxRoiPoolGradReference(RefContext& op) {
  RefTensor& dx = op.Output(0);
  return ForEachBin(op, op.input(1), op.input(2), op.dims(0), [&](int64_t flat, int64_t best) {
    if (best >= 0) dx.f64()[best] += op.input(0).f64()[flat];
  });
}

Status MaxRoiPoolGradient(GradContext& g) {
  g.SetInputGrad(0, g.Emit("MaxRoiPoolGrad", {g.output_grad(0), g.input(0), g.input(1)},
                           g.attributes(), kMinimDomain));
  return {};
}

OpDef DefineGrad(const std::string& forward, int inputs,
                 std::function<Status(RefContext&)> reference, std::string samples) {
  return {.name = forward + "Grad",
          .domain = std::string(kMinimDomain),
          .min_inputs = inputs,
          .max_inputs = inputs,
          .dtypes = kFloatTypes,
          .infer = [forward](InferContext& op) -> Status {
            std::vector<TensorType> inputs;
            for (int i = 1; i < op.input_count(); ++i) inputs.push_back(op.input(i));
            MINIM_TRY(CheckGradientShape(op, forward, inputs));
            return op.SetOutput(0, op.input(1));
          },
          .reference = std::move(reference),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> RegionOps() {
  OpDef align = {.name = "RoiAlign",
                 .onnx_since = {10, 16, 22},
                 .min_inputs = 3,
                 .max_inputs = 3,
                 .dtypes = kFloatTypes,
                 .infer = InferRoiAlign,
                 .gradient = RoiAlignGradient,
                 .reference = RoiAlignReference,
                 .upgrade = RoiAlignUpgrade,
                 .precision = PrecisionClass::kFp32,
                 .samples =
                     "RoiAlign(x: f32[2,3,6,5], r: f32[4,4] = uniform(0,9), i: i64[4] = [0,1,1,0]) "
                     "{output_height=2, output_width=3, spatial_scale=0.5}\n"
                     "RoiAlign(x: f32[1,2,6,5], r: f32[2,4] = uniform(0,9), i: i64[2] = [0,0]) "
                     "{mode=\"max\", sampling_ratio=2, "
                     "coordinate_transformation_mode=\"output_half_pixel\"}\n"
                     "RoiAlign(x: f16[1,1,4,4], r: f16[1,4] = uniform(0,4), i: i64[1] = [0])\n"};
  OpDef pool = {.name = "MaxRoiPool",
                .onnx_since = {1, 22},
                .min_inputs = 2,
                .max_inputs = 2,
                .dtypes = kFloatTypes,
                .infer = InferMaxRoiPool,
                .gradient = MaxRoiPoolGradient,
                .reference = MaxRoiPoolReference,
                .samples =
                    "MaxRoiPool(x: f32[2,3,6,5], r: f32[2,5] = [0,1,1,3,4, 1,0,2,9,9]) "
                    "{pooled_shape=[2,3], spatial_scale=0.75}\n"
                    "MaxRoiPool(x: f16[1,1,4,4], r: f16[1,5] = [0,0,0,3,3]) "
                    "{pooled_shape=[1,1]}\n"};
  return {std::move(align), std::move(pool),
          DefineGrad("RoiAlign", 4, RoiAlignGradReference,
                     "RoiAlignGrad(dy: f32[2,2,2,3], x: f32[1,2,6,5], r: f32[2,4] = uniform(0,9), "
                     "i: i64[2] = [0,0]) {spatial_scale=0.5, output_height=2, output_width=3}\n"),
          DefineGrad("MaxRoiPool", 3, MaxRoiPoolGradReference,
                     "MaxRoiPoolGrad(dy: f32[1,2,2,2], x: f32[1,2,6,5], "
                     "r: f32[1,5] = [0,1,1,4,4]) {pooled_shape=[2,2]}\n")};
}

}  // namespace minim::ops
