// ScatterND with f32 values: a copy of the data, then slices written or added at the indices, in
// their order whatever the number of threads.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

// What the last axis of the indices addresses.
struct Places {
  int64_t count = 0, depth = 0;  // indices, and coordinates of each
  int64_t slice = 1;             // elements that one addresses
  Dims dims;                     // of the data

  // The first element of slice i; -1 outside the data.
  int64_t At(const int64_t* indices, int64_t i) const {
    int64_t at = 0;
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t size = dims[static_cast<int>(k)], given = indices[i * depth + k];
      const int64_t index = given < 0 ? given + size : given;
      if (index < 0 || index >= size) return -1;
      at = at * size + index;
    }
    return at * slice;
  }
};

}  // namespace

BindResult ScatterNDF32(const KernelRequest& request) {
  MINIM_TRY(RequireInputs(request, 0, 1, DType::f32));
  MINIM_TRY(RequireInputs(request, 1, 2, DType::i64));
  MINIM_TRY(RequireInputs(request, 2, 3, DType::f32));
  const std::string reduction = AttributesOf(request).String("reduction", "none");
  if (reduction != "none" && reduction != "add") return Unsupported("reduction {}", reduction);
  const Dims &data = request.inputs[0].dims, &indices = request.inputs[1].dims;
  const int64_t depth = indices[indices.rank() - 1];
  const Places places{.count = depth == 0 ? 0 : indices.Elements() / depth,
                      .depth = depth,
                      .slice = data.Elements(static_cast<int>(depth), data.rank()),
                      .dims = data};
  if (depth == 0) return Unsupported("indices without coordinates");
  const int64_t size = data.Elements();
  const auto run = [places, size, add = reduction == "add"](const KernelArgs& args) {
    const auto* from = In<float>(args, 0);
    const auto* at = In<int64_t>(args, 1);
    const auto* updates = In<float>(args, 2);
    auto* out = Out<float>(args, 0);
    if (out != from) {
      args.threads.ParallelRange(size, 65536, [&](int64_t first, int64_t last) {
        std::memcpy(out + first, from + first, static_cast<size_t>(last - first) * sizeof(float));
      });
    }
    // Every thread takes some columns of all slices: equal indices meet in one thread.
    const int64_t grain = 65536 / std::max<int64_t>(1, places.count) + 1;
    args.threads.ParallelRange(places.slice, grain, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < places.count; ++i) {
        const int64_t place = places.At(at, i);
        if (place < 0) continue;
        float* dst = out + place;
        const float* src = updates + i * places.slice;
        if (add) {
          for (int64_t k = first; k < last; ++k) dst[k] += src[k];
        } else {
          for (int64_t k = first; k < last; ++k) dst[k] = src[k];
        }
      }
    });
  };
  return MakeKernel("scatter", run, 0, {0});
}

}  // namespace minim
