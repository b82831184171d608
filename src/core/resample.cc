#include "core/resample.h"

#include <algorithm>
#include <cmath>

namespace minim::resample {
namespace {

// The input coordinate of output place `at`; NaN where tf_crop_and_resize extrapolates.
double Coordinate(const std::string& mode, const Target& t, int64_t in, int64_t at,
                  double roi_start, double roi_end) {
  const double place = static_cast<double>(at), size = static_cast<double>(in);
  const double width = t.scale * size;  // not rounded, as the rule has it
  if (mode == "asymmetric") return place / t.scale;
  if (mode == "align_corners") return width == 1 ? 0 : place * (size - 1) / (width - 1);
  if (mode == "tf_half_pixel_for_nn") return (place + 0.5) / t.scale;
  if (mode == "tf_crop_and_resize") {
    const double span = (roi_end - roi_start) * (size - 1);
    const double x = roi_start * (size - 1) + (width == 1 ? span / 2 : place * span / (width - 1));
    return x < 0 || x > size - 1 ? NAN : x;
  }
  if (mode == "pytorch_half_pixel" && t.size <= 1) return 0;
  const double x = (place + 0.5) / t.scale - 0.5;
  if (mode != "half_pixel_symmetric") return x;
  return x + size / 2 * (1 - static_cast<double>(t.size) / width);
}

// "simple" is minim's name for what Resize-10 did.
double Nearest(const std::string& mode, double scale, double x) {
  if (mode == "simple") return scale < 1 ? std::ceil(x) : std::floor(x);
  if (mode == "floor") return std::floor(x);
  if (mode == "ceil") return std::ceil(x);
  return mode == "round_prefer_ceil" ? std::floor(x + 0.5) : std::ceil(x - 0.5);
}

// The interpolation kernel at distance d >= 0: a triangle, or Keys' cubic.
double Kernel(bool cubic, double a, double d) {
  if (!cubic) return std::max(0.0, 1 - d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

std::vector<Tap> Interpolated(const Attributes& a, double scale, int64_t in, double x) {
  const bool cubic = a.String("mode", "nearest") == "cubic";
  const bool antialias = a.Int("antialias", 0) != 0, inside = a.Int("exclude_outside", 0) != 0;
  const double narrow = antialias ? std::min(scale, 1.0) : 1.0;
  const double reach = (cubic ? 2 : 1) / narrow;
  std::vector<Tap> taps;
  double sum = 0;
  for (double place = std::floor(x - reach) + 1; place < x + reach; ++place) {
    const auto k = static_cast<int64_t>(place);
    if (inside && (k < 0 || k >= in)) continue;
    const double weight =
        Kernel(cubic, a.Float("cubic_coeff_a", -0.75f), std::fabs(place - x) * narrow);
    taps.push_back({std::clamp<int64_t>(k, 0, in - 1), weight});
    sum += weight;
  }
  if ((antialias || inside) && sum != 0)
    for (Tap& tap : taps) tap.weight /= sum;
  return taps;
}

AxisPlan PlanAxis(const Attributes& a, const Target& target, int64_t in, double roi_start,
                  double roi_end) {
  AxisPlan plan{target.axis, in, target.size, {}};
  const bool nearest = a.String("mode", "nearest") == "nearest";
  const std::string coordinates = a.String("coordinate_transformation_mode", "half_pixel");
  const std::string rounding = a.String("nearest_mode", "round_prefer_floor");
  for (int64_t at = 0; at < target.size; ++at) {
    const double x = Coordinate(coordinates, target, in, at, roi_start, roi_end);
    if (std::isnan(x)) {
      plan.taps.emplace_back();
    } else if (nearest) {
      const auto place = static_cast<int64_t>(Nearest(rounding, target.scale, x));
      plan.taps.push_back({{std::clamp<int64_t>(place, 0, in - 1), 1.0}});
    } else {
      plan.taps.push_back(Interpolated(a, target.scale, in, x));
    }
  }
  return plan;
}

}  // namespace

std::vector<int> ResizedAxes(const Attributes& a, int rank) {
  std::vector<int> axes;
  for (int64_t axis : a.Ints("axes"))
    axes.push_back(static_cast<int>(axis < 0 ? axis + rank : axis));
  const bool all = axes.empty();
  for (int i = 0; all && i < rank; ++i) axes.push_back(i);
  return axes;
}

// In f32, as every exporter counts.
int64_t ScaledSize(int64_t size, double scale) {
  return static_cast<int64_t>(std::floor(static_cast<float>(size) * static_cast<float>(scale)));
}

std::vector<Target> TargetsFromScales(const Attributes& a, const Dims& x,
                                      const std::vector<double>& scales) {
  std::vector<Target> targets;
  for (int axis : ResizedAxes(a, x.rank())) {
    const double scale = scales[targets.size()];
    targets.push_back({axis, scale, ScaledSize(x[axis], scale)});
  }
  return targets;
}

std::vector<Target> TargetsFromSizes(const Attributes& a, const Dims& x,
                                     const std::vector<int64_t>& sizes) {
  std::vector<Target> targets;
  for (int axis : ResizedAxes(a, x.rank())) {
    const int64_t size = sizes[targets.size()];
    targets.push_back({axis, static_cast<double>(size) / static_cast<double>(x[axis]), size});
  }
  const std::string policy = a.String("keep_aspect_ratio_policy", "stretch");
  if (policy == "stretch" || targets.empty()) return targets;
  const auto by_scale = [](const Target& l, const Target& r) { return l.scale < r.scale; };
  const auto [least, most] = std::minmax_element(targets.begin(), targets.end(), by_scale);
  const double scale = policy == "not_larger" ? least->scale : most->scale;
  for (Target& target : targets) {
    const double size = scale * static_cast<double>(x[target.axis]);
    target = {target.axis, scale, static_cast<int64_t>(std::floor(size + 0.5))};
  }
  return targets;
}

std::vector<AxisPlan> ResizePlans(const Attributes& a, const Dims& x,
                                  const std::vector<Target>& targets,
                                  const std::vector<double>& roi) {
  std::vector<AxisPlan> plans;
  const bool crops = a.String("coordinate_transformation_mode", "") == "tf_crop_and_resize";
  for (size_t i = 0; i < targets.size(); ++i) {
    const Target& t = targets[i];
    if (!crops && t.scale == 1 && t.size == x[t.axis]) continue;
    const bool given = crops && roi.size() == 2 * targets.size();
    plans.push_back(
        PlanAxis(a, t, x[t.axis], given ? roi[i] : 0, given ? roi[targets.size() + i] : 1));
  }
  return plans;
}

}  // namespace minim::resample
