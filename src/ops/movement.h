// Pieces shared by ops that only move elements.
#pragma once

#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {

/// y[index] = x[source(index)] for every index of y; where source is negative, y keeps its zero.
template <typename F>
void CopyElements(const RefTensor& x, RefTensor& y, F&& source) {
  VisitWide(y.wide.dtype(), [&]<typename T>() {
    const auto from = x.wide.as<T>();
    const auto to = y.wide.as<T>();
    ForEachIndex(y.dims(), [&](int64_t flat, const Dims& index) {
      const int64_t offset = source(index);
      if (offset >= 0) to[flat] = from[offset];
    });
  });
}

/// The gradient of y = x[offsets], a map of flat places that is known when the gradient is written.
inline ValueId GradientOfMap(GradContext& g, ValueId dy, std::vector<int64_t> offsets,
                             const Dims& x_dims) {
  const auto count = static_cast<int64_t>(offsets.size());
  const ValueId zeros = g.Emit("Expand", {g.Scalar(0, g.dtype(dy)), g.Ints({x_dims.Elements()})});
  const ValueId flat =
      g.Emit("ScatterElements", {zeros, g.Ints(std::move(offsets)), g.Reshape(dy, Dims({count}))},
             {{"reduction", std::string("add")}});
  return g.Reshape(flat, x_dims);
}

/// Non-negative axes, checked and without repeats.
inline Result<std::vector<int>> Axes(const InferContext& op, const std::vector<int64_t>& axes,
                                     int rank) {
  std::vector<int> result;
  for (int64_t axis : axes) {
    MINIM_TRY(const int positive, op.Axis(axis, rank));
    for (int other : result)
      if (other == positive) return op.Error("axis {} is given twice", axis);
    result.push_back(positive);
  }
  return result;
}

/// `axis` in [-rank, rank), already checked by inference, made non-negative.
inline int Positive(int64_t axis, int rank) {
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace minim::ops
