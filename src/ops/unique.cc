// Unique: the distinct slices along an axis, or the distinct elements.
#include <algorithm>
#include <numeric>

#include "ops/movement.h"

namespace minim::ops {
namespace {

Status InferUnique(InferContext& op) {
  const TensorType& x = op.input(0);
  for (int i = 1; i < 4; ++i) MINIM_TRY(op.SetOutput(i, DType::i64, Shape(1)));
  if (!op.attributes().Has("axis")) return op.SetOutput(0, x.dtype, Shape(1));
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  MINIM_TRY(const int axis, op.Axis(op.attributes().Int("axis", 0), x.rank()));
  Shape shape = *x.shape;
  shape[axis] = Dim();
  return op.SetOutput(0, x.dtype, std::move(shape));
}

// The slices of x[outer, count, inner], compared element by element. NaNs are one value, the last.
template <typename T>
struct Slices {
  std::span<const T> x;
  int64_t outer, count, inner;

  T At(int64_t slice, int64_t i) const {
    return x[(i / inner * count + slice) * inner + i % inner];
  }
  int Compare(int64_t a, int64_t b) const {
    for (int64_t i = 0; i < outer * inner; ++i) {
      const T left = At(a, i), right = At(b, i);
      if (left == right) continue;
      const bool left_nan = left != left, right_nan = right != right;
      if (left_nan && right_nan) continue;
      return right_nan || (!left_nan && left < right) ? -1 : 1;
    }
    return 0;
  }
};

struct Groups {
  std::vector<int64_t> first, of, sizes;  // a group's first slice, a slice's group, a group's size
};

// Sorted by value, or in order of first appearance.
template <typename T>
Groups GroupsOf(const Slices<T>& slices, bool sorted) {
  std::vector<int64_t> order(slices.count);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return slices.Compare(a, b) < 0; });
  std::vector<std::vector<int64_t>> members;
  for (int64_t slice : order) {
    if (members.empty() || slices.Compare(members.back()[0], slice) != 0) members.emplace_back();
    members.back().push_back(slice);
  }
  if (!sorted)
    std::sort(members.begin(), members.end(),
              [](const auto& a, const auto& b) { return a[0] < b[0]; });
  Groups groups;
  groups.of.resize(slices.count);
  for (const std::vector<int64_t>& group : members) {
    for (int64_t slice : group) groups.of[slice] = static_cast<int64_t>(groups.first.size());
    groups.first.push_back(group[0]);
    groups.sizes.push_back(static_cast<int64_t>(group.size()));
  }
  return groups;
}

Status UniqueReference(RefContext& op) {
  const bool flat = !op.attributes().Has("axis");
  const Dims x = flat ? Dims({op.input(0).size()}) : op.dims(0);
  const int axis = flat ? 0 : Positive(op.attributes().Int("axis", 0), x.rank());
  const bool sorted = op.attributes().Int("sorted", 1) != 0;
  const Groups groups = VisitWide(op.input(0).wide.dtype(), [&]<typename T>() {
    const Slices<T> slices{op.input(0).wide.as<T>(), x.Elements(0, axis), x[axis],
                           x.Elements(axis + 1, x.rank())};
    return GroupsOf(slices, sorted);
  });
  Dims dims = x;
  dims[axis] = static_cast<int64_t>(groups.first.size());
  const Dims strides = RowMajorStrides(x);
  CopyElements(op.input(0), op.Output(0, dims), [&](const Dims& at) {
    return OffsetOf(at, strides) + (groups.first[at[axis]] - at[axis]) * strides[axis];
  });
  const std::vector<int64_t>* lists[] = {&groups.first, &groups.of, &groups.sizes};
  for (int i = 1; i < op.output_count(); ++i) {
    if (!op.has_output(i)) continue;
    const std::vector<int64_t>& list = *lists[i - 1];
    RefTensor& y = op.Output(i, Dims({static_cast<int64_t>(list.size())}));
    std::copy(list.begin(), list.end(), y.i64().begin());
  }
  return {};
}

}  // namespace

OpDef Unique() {
  return {.name = "Unique",
          .onnx_since = {11},  // 28 only adds bf16
          .infer = InferUnique,
          .reference = UniqueReference,
          .traits = OpTrait::kStrings,
          .samples =
              "y, i, n, c = Unique(x: i32[9] = index(4))\n"
              "y, _, n = Unique(x: f32[6] = [2,1,1,3,4,3]) {sorted=0}\n"
              "y, i, n, c = Unique(x: u8[4,3,2] = index(2)) {axis=-2}\n"
              "Unique(x: bool[2,3])\n"};
}

}  // namespace minim::ops
