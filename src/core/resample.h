// The geometry of Resize: which input places make up each output place of an axis.
#pragma once

#include "core/attributes.h"
#include "minim/tensor.h"

namespace minim::resample {

struct Tap {
  int64_t place;
  double weight;
};

/// How one axis is resized: the taps of every output place; none where the value is extrapolated.
struct AxisPlan {
  int axis = 0;
  int64_t in = 0, out = 0;
  std::vector<std::vector<Tap>> taps;
};

/// What an axis is resized to.
struct Target {
  int axis;
  double scale;
  int64_t size;  // of the output
};

/// The axes that scales, sizes and roi speak of.
std::vector<int> ResizedAxes(const Attributes& attributes, int rank);
/// The size of an axis of `size` under `scale`.
int64_t ScaledSize(int64_t size, double scale);
std::vector<Target> TargetsFromScales(const Attributes& attributes, const Dims& x,
                                      const std::vector<double>& scales);
std::vector<Target> TargetsFromSizes(const Attributes& attributes, const Dims& x,
                                     const std::vector<int64_t>& sizes);
/// The axes that change. `roi` is empty unless the mode reads it.
std::vector<AxisPlan> ResizePlans(const Attributes& attributes, const Dims& x,
                                  const std::vector<Target>& targets,
                                  const std::vector<double>& roi);

}  // namespace minim::resample
