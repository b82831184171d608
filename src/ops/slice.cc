// Slice and Pad.
#include <algorithm>

#include "ops/movement.h"

namespace minim::ops {
namespace {

struct AxisSlice {
  int64_t start = 0;
  int64_t step = 1;
  int64_t size = 0;
};

// ONNX's clamping: a slice past the ends is cut to them.
AxisSlice Clamped(int64_t start, int64_t end, int64_t step, int64_t size) {
  const auto clamp = [&](int64_t v, int64_t low, int64_t high) {
    return std::clamp(v < 0 ? std::max(v, -size - 1) + size : std::min(v, size), low, high);
  };
  if (step > 0) {
    start = clamp(start, 0, size);
    end = clamp(end, 0, size);
    return {start, step, end > start ? (end - start - 1) / step + 1 : 0};
  }
  start = clamp(start, size > 0 ? 0 : -1, size - 1);
  end = clamp(end, -1, size - 1);
  return {start, step, start > end ? (start - end - 1) / -step + 1 : 0};
}

struct SliceLists {
  std::vector<int64_t> starts, ends, axes, steps;
};

void FillDefaults(SliceLists& lists) {
  if (lists.axes.empty())
    for (size_t i = 0; i < lists.starts.size(); ++i) lists.axes.push_back(static_cast<int64_t>(i));
  if (lists.steps.empty()) lists.steps.assign(lists.starts.size(), 1);
}

// One entry an axis of `dims`; the lists were checked by inference.
std::vector<AxisSlice> Plan(const SliceLists& lists, const Dims& dims) {
  std::vector<AxisSlice> plan;
  for (int64_t size : dims) plan.push_back({0, 1, size});
  for (size_t i = 0; i < lists.axes.size(); ++i) {
    const int axis = Positive(lists.axes[i], dims.rank());
    plan[axis] = Clamped(lists.starts[i], lists.ends[i], lists.steps[i], dims[axis]);
  }
  return plan;
}

Status CheckLists(const InferContext& op, const SliceLists& lists) {
  const size_t count = lists.starts.size();
  if (lists.ends.size() != count || lists.axes.size() != count || lists.steps.size() != count)
    return op.Error("starts, ends, axes, steps have {}, {}, {}, {} elements, expected as many",
                    count, lists.ends.size(), lists.axes.size(), lists.steps.size());
  for (int64_t step : lists.steps)
    if (step == 0 || step == INT64_MIN)
      return op.Error("step is {}, expected a non-zero step", step);
  return {};
}

Status InferSlice(InferContext& op) {
  const TensorType& x = op.input(0);
  SliceLists lists;
  std::vector<int64_t>* parts[] = {&lists.starts, &lists.ends, &lists.axes, &lists.steps};
  bool known = true;
  for (int i = 1; i < 5; ++i) {
    if (!op.has_input(i)) continue;
    const auto values = op.IntsInput(i);
    if (values)
      *parts[i - 1] = *values;
    else
      known = false;
  }
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (!known) return op.SetOutput(0, x.dtype, Shape(x.rank()));
  FillDefaults(lists);
  MINIM_TRY(CheckLists(op, lists));
  MINIM_TRY(const std::vector<int> axes, Axes(op, lists.axes, x.rank()));
  Shape shape = *x.shape;
  for (size_t i = 0; i < axes.size(); ++i) {
    const bool whole = lists.starts[i] == 0 && lists.ends[i] == INT64_MAX && lists.steps[i] == 1;
    if (whole) continue;
    shape[axes[i]] = shape[axes[i]].Map([&](int64_t size) {
      return Clamped(lists.starts[i], lists.ends[i], lists.steps[i], size).size;
    });
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

int64_t SliceOffset(const Dims& index, const std::vector<AxisSlice>& plan, const Dims& strides) {
  int64_t offset = 0;
  for (int i = 0; i < index.rank(); ++i)
    offset += (plan[i].start + index[i] * plan[i].step) * strides[i];
  return offset;
}

Status SliceReference(RefContext& op) {
  SliceLists lists{op.Ints(1), op.Ints(2), {}, {}};
  if (op.has_input(3)) lists.axes = op.Ints(3);
  if (op.has_input(4)) lists.steps = op.Ints(4);
  FillDefaults(lists);
  const std::vector<AxisSlice> plan = Plan(lists, op.dims(0));
  const Dims strides = RowMajorStrides(op.dims(0));
  CopyElements(op.input(0), op.Output(0),
               [&](const Dims& index) { return SliceOffset(index, plan, strides); });
  return {};
}

Result<std::vector<int64_t>> ConstantInts(const GradContext& g, int i) {
  if (!g.has_input(i)) return std::vector<int64_t>();
  return g.ConstantInts(i);
}

Status SliceGradient(GradContext& g) {
  SliceLists lists;
  MINIM_TRY(lists.starts, ConstantInts(g, 1));
  MINIM_TRY(lists.ends, ConstantInts(g, 2));
  MINIM_TRY(lists.axes, ConstantInts(g, 3));
  MINIM_TRY(lists.steps, ConstantInts(g, 4));
  FillDefaults(lists);
  const Dims x = g.type(g.input(0)).dims(), y = g.type(g.output(0)).dims();
  const std::vector<AxisSlice> plan = Plan(lists, x);
  std::vector<int64_t> pads(2 * x.rank());
  bool plain = true;
  for (int i = 0; i < x.rank(); ++i) {
    plain = plain && plan[i].step == 1;
    pads[i] = plan[i].start;
    pads[x.rank() + i] = x[i] - plan[i].start - plan[i].size;
  }
  if (plain) {
    g.SetInputGrad(0, g.Emit("Pad", {g.output_grad(0), g.Ints(pads)}));
    return {};
  }
  std::vector<int64_t> offsets;
  const Dims strides = RowMajorStrides(x);
  ForEachIndex(y,
               [&](int64_t, const Dims& at) { offsets.push_back(SliceOffset(at, plan, strides)); });
  g.SetInputGrad(0, GradientOfMap(g, g.output_grad(0), std::move(offsets), x));
  return {};
}

Status SliceUpgrade(UpgradeContext& u) {  // 1: the lists were attributes
  if (u.from_version >= 10) return {};
  u.AttributeToInput("starts", 1);
  u.AttributeToInput("ends", 2);
  u.AttributeToInput("axes", 3);
  return {};
}

// Pads of every axis, begins then ends, from inputs 1 and 3.
std::vector<int64_t> FullPads(const std::vector<int64_t>& pads, std::vector<int64_t> axes,
                              int rank) {
  if (axes.empty())
    for (int i = 0; i < rank; ++i) axes.push_back(i);
  std::vector<int64_t> full(2 * rank);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int axis = Positive(axes[i], rank);
    full[axis] = pads[i];
    full[rank + axis] = pads[axes.size() + i];
  }
  return full;
}

Status InferPad(InferContext& op) {
  const TensorType& x = op.input(0);
  if (op.has_input(2)) MINIM_TRY(op.SameDType(0, 2));
  const auto pads = op.IntsInput(1);
  std::optional<std::vector<int64_t>> axes = std::vector<int64_t>();
  if (op.has_input(3)) axes = op.IntsInput(3);
  if (!x.ranked()) return op.SetUnknown(0, x.dtype);
  if (!pads || !axes) return op.SetOutput(0, x.dtype, Shape(x.rank()));
  MINIM_TRY(Axes(op, *axes, x.rank()).status());
  const size_t expected = 2 * (op.has_input(3) ? axes->size() : x.rank());
  if (pads->size() != expected)
    return op.Error("{} pads for shape {}, expected {}", pads->size(), ToString(*x.shape),
                    expected);
  const std::vector<int64_t> full = FullPads(*pads, *axes, x.rank());
  Shape shape = *x.shape;
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t more = SaturatingPlus(full[i], full[x.rank() + i]);
    if (shape[i].known() && more < -shape[i].value())
      return op.Error("pads crop axis {} of {} by {}", i, ToString(*x.shape), more);
    if (more != 0) shape[i] = shape[i].Plus(more);
  }
  return op.SetOutput(0, x.dtype, std::move(shape));
}

// Where padded place `at` of an axis of `size` reads; -1 for the pad value.
int64_t PadSource(const std::string& mode, int64_t at, int64_t size) {
  if (at >= 0 && at < size) return at;
  if (mode == "constant" || size == 0) return -1;
  if (mode == "edge") return at < 0 ? 0 : size - 1;
  if (mode == "wrap") return (at % size + size) % size;
  if (size == 1) return 0;
  const int64_t period = 2 * (size - 1);
  const int64_t folded = (at % period + period) % period;
  return folded < size ? folded : period - folded;
}

int64_t PadOffset(const std::string& mode, const Dims& index, const std::vector<int64_t>& pads,
                  const Dims& x, const Dims& strides) {
  int64_t offset = 0;
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t at = PadSource(mode, index[i] - pads[i], x[i]);
    if (at < 0) return -1;
    offset += at * strides[i];
  }
  return offset;
}

Status PadReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const std::string mode = op.attributes().String("mode", "constant");
  const Dims& x = op.dims(0);
  const auto pads =
      FullPads(op.Ints(1), op.has_input(3) ? op.Ints(3) : std::vector<int64_t>(), x.rank());
  if (op.has_input(2)) CopyElements(op.input(2), y, [](const Dims&) { return 0; });
  const Dims strides = RowMajorStrides(x);
  CopyElements(op.input(0), y,
               [&](const Dims& index) { return PadOffset(mode, index, pads, x, strides); });
  return {};
}

Status PadGradient(GradContext& g) {
  const Dims x = g.type(g.input(0)).dims(), y = g.type(g.output(0)).dims();
  MINIM_TRY(const std::vector<int64_t> given, ConstantInts(g, 1));
  MINIM_TRY(const std::vector<int64_t> axes, ConstantInts(g, 3));
  const std::vector<int64_t> pads = FullPads(given, axes, x.rank());
  const std::string mode = g.attributes().String("mode", "constant");
  if (mode == "constant") {  // padding by the opposite crops
    std::vector<int64_t> opposite = pads;
    for (int64_t& pad : opposite) pad = -pad;
    const ValueId dx = g.Emit("Pad", {g.output_grad(0), g.Ints(opposite)});
    g.SetInputGrad(0, dx);
    if (!g.has_input(2)) return {};
    const ValueId all = g.ReduceSum(g.output_grad(0), {}, false);
    g.SetInputGrad(2, g.SumToShapeOf(g.Sub(all, g.ReduceSum(dx, {}, false)), g.input(2)));
    return {};
  }
  std::vector<int64_t> offsets;
  const Dims strides = RowMajorStrides(x);
  ForEachIndex(y, [&](int64_t, const Dims& at) {
    offsets.push_back(PadOffset(mode, at, pads, x, strides));
  });
  g.SetInputGrad(0, GradientOfMap(g, g.output_grad(0), std::move(offsets), x));
  return {};
}

Status PadUpgrade(UpgradeContext& u) {  // 1 and 2: pads and value were attributes
  if (u.from_version >= 11) return {};
  u.AttributeToInput("paddings", 1);
  u.AttributeToInput("pads", 1);
  if (!u.node.attributes.Has("value")) return {};
  const Tensor value = Tensor::Scalar<float>(u.node.attributes.Float("value", 0));
  u.SetInput(2, Converted(value.view(), u.graph.type(u.node.input(0)).dtype));
  u.node.attributes.Erase("value");
  return {};
}

}  // namespace

std::vector<OpDef> SliceOps() {
  return {
      {.name = "Slice",
       .onnx_since = {1, 10, 11, 13},
       .min_inputs = 3,
       .max_inputs = 5,
       .infer = InferSlice,
       .gradient = SliceGradient,
       .reference = SliceReference,
       .upgrade = SliceUpgrade,
       .traits = OpTrait::kStrings,
       .samples = "Slice(x: f32[5,4], s: i64[2] = [1,0], e: i64[2] = [4,-1])\n"
                  "Slice(x: f32[5,4], s: i64[1] = [-1], e: i64[1] = [-100], a: i64[1] = [0], "
                  "t: i64[1] = [-2])\n"
                  "Slice(x: f32[5,4], s: i32[1] = [1], e: i32[1] = [99], a: i32[1] = [-1])\n"
                  "Slice(x: bool[3], s: i64[1] = [2], e: i64[1] = [1])\n"
                  "Slice(x: i8[0,2], s: i64[1] = [0], e: i64[1] = [5])\n"},
      {.name = "Pad",
       .onnx_since = {1, 2, 11, 13, 18, 19, 21, 23},
       .min_inputs = 2,
       .max_inputs = 4,
       .infer = InferPad,
       .gradient = PadGradient,
       .reference = PadReference,
       .upgrade = PadUpgrade,
       .samples = "Pad(x: f32[2,3], p: i64[4] = [1,0,2,1], v: f32 = [1.5])\n"
                  "Pad(x: f32[4,3], p: i64[4] = [-1,0,2,-1])\n"
                  "Pad(x: f32[3,4], p: i64[2] = [2,5], _, a: i64[1] = [-1]) {mode=\"reflect\"}\n"
                  "Pad(x: f32[3,4], p: i64[4] = [1,1,2,2]) {mode=\"edge\"}\n"
                  "Pad(x: f32[3,4], p: i64[4] = [1,5,2,2]) {mode=\"wrap\"}\n"
                  "Pad(x: u8[0,3], p: i64[4] = [1,0,0,0], v: u8 = [7])\n"
                  "Pad(x: bool[2], p: i64[2] = [1,1], v: bool = [1])\n"},
  };
}

}  // namespace minim::ops
