// NonMaxSuppression: the best boxes of each class that do not overlap.
#include <algorithm>
#include <cmath>

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

struct Box {
  double left, top, right, bottom;

  double Area() const { return (right - left) * (bottom - top); }
};

// Corners in any order, or a centre and sizes.
Box BoxAt(std::span<const double> v, bool centred) {
  if (centred) return {v[0] - v[2] / 2, v[1] - v[3] / 2, v[0] + v[2] / 2, v[1] + v[3] / 2};
  return {std::min(v[1], v[3]), std::min(v[0], v[2]), std::max(v[1], v[3]), std::max(v[0], v[2])};
}

bool Overlap(const Box& a, const Box& b, double threshold) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  if (width <= 0 || height <= 0 || a.Area() <= 0 || b.Area() <= 0) return false;
  return width * height / (a.Area() + b.Area() - width * height) > threshold;
}

struct Suppression {
  int64_t most = 0;
  double overlap = 0, score = 0;
  bool has_score = false;
};

// The chosen boxes of one class, best first; of equal scores the earlier box.
std::vector<int64_t> Choose(const Suppression& s, const std::vector<Box>& boxes,
                            std::span<const double> scores) {
  std::vector<int64_t> order, chosen;
  for (size_t i = 0; i < boxes.size(); ++i)
    if (s.has_score ? scores[i] > s.score : !std::isnan(scores[i]))
      order.push_back(static_cast<int64_t>(i));
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  for (int64_t next : order) {
    if (static_cast<int64_t>(chosen.size()) >= s.most) break;
    const auto hides = [&](int64_t i) { return Overlap(boxes[next], boxes[i], s.overlap); };
    if (std::none_of(chosen.begin(), chosen.end(), hides)) chosen.push_back(next);
  }
  return chosen;
}

Status Infer(InferContext& op) {
  MINIM_TRY(op.HasRank(0, 3));
  MINIM_TRY(op.HasRank(1, 3));
  if (op.input(0).ranked() && op.input(1).ranked()) {
    const Shape &boxes = *op.input(0).shape, &scores = *op.input(1).shape;
    if (!boxes[2].Compatible(Dim(4)) || !boxes[0].Compatible(scores[0]) ||
        !boxes[1].Compatible(scores[2]))
      return op.Error("boxes have shape {} and scores {}, expected [N,B,4] and [N,C,B]",
                      ToString(boxes), ToString(scores));
  }
  return op.SetOutput(0, DType::i64, Shape{Dim(), Dim(3)});
}

Status Reference(RefContext& op) {
  const auto given = [&](int i) { return op.has_input(i) && op.input(i).size() > 0; };
  const Suppression s{.most = given(2) ? op.input(2).IntAt(0) : 0,
                      .overlap = given(3) ? op.input(3).At(0) : 0,
                      .score = given(4) ? op.input(4).At(0) : 0,
                      .has_score = given(4)};
  const bool centred = op.attributes().Int("center_point_box", 0) != 0;
  const int64_t classes = op.dims(1)[1], count = op.dims(0)[1];
  std::vector<int64_t> rows;
  for (int64_t n = 0; n < op.dims(0)[0]; ++n) {
    std::vector<Box> boxes;
    for (int64_t i = 0; i < count; ++i)
      boxes.push_back(BoxAt(op.input(0).f64().subspan((n * count + i) * 4, 4), centred));
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t box :
           Choose(s, boxes, op.input(1).f64().subspan((n * classes + c) * count, count)))
        rows.insert(rows.end(), {n, c, box});
  }
  RefTensor& y = op.Output(0, Dims({static_cast<int64_t>(rows.size()) / 3, 3}));
  std::copy(rows.begin(), rows.end(), y.i64().begin());
  return {};
}

}  // namespace

OpDef NonMaxSuppression() {
  return {.name = "NonMaxSuppression",
          .onnx_since = {10, 11},
          .min_inputs = 2,
          .max_inputs = 5,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .reference = Reference,
          .precision = PrecisionClass::kFp32,
          .samples =
              "NonMaxSuppression(b: f32[2,6,4] = uniform(0,1), s: f32[2,3,6], m: i64[1] = [3], "
              "o: f32[1] = const [0.3], t: f32[1] = const [-0.5])\n"
              "NonMaxSuppression(b: f32[1,6,4] = uniform(0.5,1), s: f32[1,1,6], m: i64 = [9]) "
              "{center_point_box=1}\n"
              "NonMaxSuppression(b: f32[1,6,4], s: f32[1,1,6])\n"};
}

}  // namespace minim::ops
