// ValueHistogram: the reference's expression, element by element.
#include <algorithm>

#include "kernels/cpu/bindings.h"

namespace minim {

BindResult ValueHistogramAny(const KernelRequest& request) {
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const int64_t size = request.inputs[0].dims.Elements();
  const int64_t bins = AttributesOf(request).Int("bins", 1);
  return MakeKernel("value histogram", [size, bins](const KernelArgs& args) {
    const float *x = In<float>(args, 0), *range = In<float>(args, 1);
    const double low = range[0], high = range[1], last = static_cast<double>(bins - 1);
    const double per_unit = high > low ? static_cast<double>(bins) / (high - low) : 0;
    int64_t* counts = Out<int64_t>(args, 0);
    std::fill_n(counts, bins, int64_t{0});
    int64_t zeros = 0;
    for (int64_t i = 0; i < size; ++i) {
      zeros += x[i] == 0;
      if (x[i] != x[i]) continue;
      const double place = per_unit > 0 ? (static_cast<double>(x[i]) - low) * per_unit : 0;
      ++counts[static_cast<int64_t>(std::clamp(place, 0.0, last))];
    }
    if (int64_t* out = Out<int64_t>(args, 1)) *out = zeros;
  });
}

}  // namespace minim
