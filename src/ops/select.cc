// Where, Clip, Cast, CastLike, Identity.
#include <cmath>

#include "core/small_float.h"
#include "ops/builder.h"
#include "ops/elementwise.h"
#include "ops/host.h"
#include "ops/infer.h"
#include "ops/number_text.h"

namespace minim::ops {
namespace {

Status InferWhere(InferContext& op) {
  MINIM_TRY(op.SameDType(1, 2));
  return InferBroadcastAs(op, op.dtype(1));
}

Status WhereReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  const Dims condition = BroadcastStrides(op.dims(0), y.dims());
  const Dims a = BroadcastStrides(op.dims(1), y.dims()), b = BroadcastStrides(op.dims(2), y.dims());
  VisitWide(y.wide.dtype(), [&]<typename T>() {
    ForEachIndex(y.dims(), [&](int64_t i, const Dims& index) {
      y.wide.as<T>()[i] = op.input(0).b()[OffsetOf(index, condition)]
                              ? op.input(1).wide.as<T>()[OffsetOf(index, a)]
                              : op.input(2).wide.as<T>()[OffsetOf(index, b)];
    });
  });
  return {};
}

Status WhereGradient(GradContext& g) {
  const ValueId dy = g.output_grad(0), zero = g.ZerosLike(g.output(0));
  g.SetInputGrad(1, g.SumToShapeOf(g.Select(g.input(0), dy, zero), g.input(1)));
  g.SetInputGrad(2, g.SumToShapeOf(g.Select(g.input(0), zero, dy), g.input(2)));
  return {};
}

OpDef Where() {
  return {.name = "Where",
          .onnx_since = {9, 16},
          .min_inputs = 3,
          .max_inputs = 3,
          .dtypes = {DType::bool_},
          .infer = InferWhere,
          .gradient = WhereGradient,
          .reference = WhereReference,
          .traits = OpTrait::kElementwise | OpTrait::kStrings,
          .samples =
              "Where(c: bool[2,3], a: f32[3], b: f32[2,1])\n"
              "Where(c: bool[2,1], a: f32[2,3], b: f32)\n"
              "Where(c: bool, a: i64[5], b: i64[5])\nWhere(c: bool[0], a: u8[1], b: u8[1])\n"
              "Where(c: bool[3], a: bool[3], b: bool[3])\n"
              "Where(c: bool[3], a: f16[3], b: f16[3])\n"};
}

Status InferClip(InferContext& op) {
  for (int i = 1; i < 3; ++i) {
    if (!op.has_input(i)) continue;
    MINIM_TRY(op.SameDType(0, i));
    if (op.input(i).ranked() && op.input(i).rank() != 0)
      return op.Error("bound {} has shape {}, expected a scalar", i, ToString(*op.input(i).shape));
  }
  return InferSameAsFirst(op);
}

Status ClipReference(RefContext& op) {  // min(max(x, low), high); NaN stays
  RefTensor& y = op.Output(0);
  VisitWideNumber(y.wide.dtype(), [&]<typename T>() {
    const auto x = op.input(0).wide.as<T>();
    for (size_t i = 0; i < x.size(); ++i) {
      T value = x[i];
      if (op.has_input(1) && value < op.input(1).wide.as<T>()[0])
        value = op.input(1).wide.as<T>()[0];
      if (op.has_input(2) && value > op.input(2).wide.as<T>()[0])
        value = op.input(2).wide.as<T>()[0];
      y.wide.as<T>()[i] = value;
    }
  });
  return {};
}

Status ClipGradient(GradContext& g) {  // passes where the value was not moved
  const ValueId inside = g.Emit("Equal", {g.input(0), g.output(0)});
  const ValueId dx = g.Select(inside, g.output_grad(0), 0.0);
  g.SetInputGrad(0, dx);
  ValueId left = g.Select(inside, g.ZerosLike(g.input(0)), g.output_grad(0));
  if (g.has_input(2)) {
    const ValueId at_high = g.Emit("Equal", {g.output(0), g.input(2)});
    g.SetInputGrad(2, g.SumToShapeOf(g.Select(at_high, left, 0.0), g.input(2)));
    left = g.Select(at_high, g.ZerosLike(g.input(0)), left);
  }
  if (g.has_input(1)) g.SetInputGrad(1, g.SumToShapeOf(left, g.input(1)));
  return {};
}

Status ClipUpgrade(UpgradeContext& u) {  // 6: the bounds were attributes
  if (u.from_version >= 11) return {};
  const DType dtype = u.graph.type(u.node.input(0)).dtype;
  const char* names[] = {"min", "max"};
  for (int i = 0; i < 2; ++i) {
    if (!u.node.attributes.Has(names[i])) continue;
    const Tensor bound = Tensor::Scalar<float>(u.node.attributes.Float(names[i], 0));
    u.SetInput(i + 1, Converted(bound.view(), dtype));
    u.node.attributes.Erase(names[i]);
  }
  return {};
}

OpDef Clip() {
  return {.name = "Clip",
          .onnx_since = {1, 6, 11, 12, 13},
          .max_inputs = 3,
          .dtypes = kNumericTypes,
          .infer = InferClip,
          .gradient = ClipGradient,
          .reference = ClipReference,
          .upgrade = ClipUpgrade,
          .traits = OpTrait::kElementwise,
          .samples =
              "Clip(x: f32[9], low: f32 = [-0.5], high: f32 = [0.5])\n"
              "Clip(x: f32[9], _, high: f32 = [0.3])\nClip(x: f32[9], low: f32 = [0.1])\n"
              "Clip(x: f32[2,0])\nClip(x: i8[9], low: i8 = [-3], high: i8 = [4])\n"
              "Clip(x: u64[9], low: u64 = [3])\nClip(x: f16[3], low: f16 = [0])\n"
              "Clip(x: bf16[3], low: bf16 = [0])\n"};
}

const std::pair<std::string_view, PowerRounding> kPowerRoundings[] = {
    {"up", PowerRounding::kUp},
    {"down", PowerRounding::kDown},
    {"nearest", PowerRounding::kNearest},
};

Result<SmallCast> SmallCastOf(const Attributes& a) {
  SmallCast cast{.saturate = a.Int("saturate", 1) != 0};
  const std::string mode = a.String("round_mode", "up");
  for (const auto& [name, rounding] : kPowerRoundings) {
    cast.power = rounding;
    if (name == mode) return cast;
  }
  return InvalidArgument("round_mode '{}' is unknown, expected up, down or nearest", mode);
}

Status InferCast(InferContext& op) {
  MINIM_TRY(SmallCastOf(op.attributes()));
  const int64_t id = op.attributes().Int("to", 0);
  const auto to = DTypeFromOnnx(static_cast<int>(id));
  if (!to)
    return Unsupported("Cast '{}': to type {}, which minim does not have", op.node().name, id);
  if (!op.input(0).ranked()) return op.SetUnknown(0, *to);
  return op.SetOutput(0, *to, *op.input(0).shape);
}

// In one step from the wide value, so that nothing is rounded twice.
Status CastReference(RefContext& op) {
  RefTensor& y = op.Output(0);
  Tensor from = op.input(0).wide;
  if (IsSmallFloat(y.dtype)) {
    MINIM_TRY(const SmallCast how, SmallCastOf(op.attributes()));
    from = Converted(from.view(), DType::f64);
    for (double& value : from.as<double>()) value = CastToSmall(value, y.dtype, how);
  }
  const Tensor cast = Converted(from.view(), y.dtype);
  ConvertElements(cast.view(), y.wide.view());
  return {};
}

// Strings to numbers and back; floats as the shortest text that reads back the same.
Status HostCast(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const DType to = op.output_type(0).dtype;
  if (x.dtype() == to) {
    op.SetOutput(0, x);
    return {};
  }
  if (to == DType::string) {
    op.SetOutput(0, Texts(x));
    return {};
  }
  Tensor wide(IsFloat(to) ? DType::f64 : DType::i64, x.dims());
  for (int64_t i = 0; i < x.size(); ++i) {
    const std::string& text = x.as<std::string>()[i];
    const bool read = IsFloat(to) ? ParseNumber(text, wide.as<double>()[i])
                                  : ParseNumber(text, wide.as<int64_t>()[i]);
    if (!read) return op.Error("element {} is '{}', which is no {}", i, text, Name(to));
  }
  op.SetOutput(0, Converted(wide.view(), to));
  return {};
}

Status CastGradient(GradContext& g) {
  const DType from = g.dtype(g.input(0));
  if (IsFloat(from)) g.SetInputGrad(0, g.Cast(g.output_grad(0), from));
  return {};
}

Status CastUpgrade(UpgradeContext& u) {  // 1: the type was a name
  const std::string name = u.node.attributes.String("to", "");
  if (u.from_version >= 6 || name.empty()) return {};
  constexpr std::pair<std::string_view, DType> kNames[] = {
      {"FLOAT", DType::f32},  {"UINT8", DType::u8},   {"INT8", DType::i8},
      {"UINT16", DType::u16}, {"INT16", DType::i16},  {"INT32", DType::i32},
      {"INT64", DType::i64},  {"BOOL", DType::bool_}, {"FLOAT16", DType::f16},
      {"DOUBLE", DType::f64}, {"UINT32", DType::u32}, {"UINT64", DType::u64}};
  for (const auto& [known, dtype] : kNames) {
    if (known != name) continue;
    u.node.attributes.Set("to", int64_t{OnnxId(dtype)});
    return {};
  }
  return Unsupported("to type '{}', which minim does not have", name);
}

std::string CastSamples() {
  std::string text = "Cast(x: f32[0]) {to=f64}\nCast(x: f32[2,3]) {to=f64}\n";
  for (std::string_view to : {"f32", "f16", "bf16", "i64", "i8", "u8", "u64", "bool"})
    for (std::string_view from : {"f32", "f16", "i32", "u8", "bool"})
      text += fmt::format("Cast(x: {}[5] = uniform(0,9)) {{to={}}}\n", from, to);
  for (DType small : kSmallTypes) {
    for (std::string_view other : {"f32", "f16", "i32", "u64", "bool", "i4"}) {
      text += fmt::format("Cast(x: {}[5] = uniform(-9,9)) {{to={}}}\n", other, Name(small));
      text += fmt::format("Cast(x: {}[5] = uniform(-9,9)) {{to={}}}\n", Name(small), other);
    }
    text += fmt::format("Cast(x: f32[5] = uniform(-1e6,1e6)) {{to={}, saturate=0}}\n", Name(small));
  }
  for (const auto& [mode, rounding] : kPowerRoundings)
    text += fmt::format("Cast(x: f32[9] = uniform(0,9)) {{to=f8e8m0, round_mode=\"{}\"}}\n", mode);
  return text;
}

OpDef Cast() {
  return {.name = "Cast",
          .onnx_since = {1, 6, 9, 13, 19, 21, 23},
          .dtypes = Joined(kAllTypes, kSmallTypes),
          .infer = InferCast,
          .gradient = CastGradient,
          .reference = CastReference,
          .host = HostCast,
          .upgrade = CastUpgrade,
          .traits = OpTrait::kElementwise,
          .samples = CastSamples()};
}

Status InferCastLike(InferContext& op) {
  if (!op.input(0).ranked()) return op.SetUnknown(0, op.dtype(1));
  return op.SetOutput(0, op.dtype(1), *op.input(0).shape);
}

OpDef CastLike() {
  return {.name = "CastLike",
          .onnx_since = {15, 19, 21, 23},
          .min_inputs = 2,
          .max_inputs = 2,
          .dtypes = Joined(kAllTypes, kSmallTypes),
          .infer = InferCastLike,
          .expand = [](ExpandContext& e) -> Status {
            Attributes attributes = e.node().attributes;
            attributes.Set("to", int64_t{OnnxId(e.dtype(e.input(1)))});
            e.SetOutput(0, e.Emit("Cast", {e.input(0)}, std::move(attributes)));
            return {};
          },
          .traits = OpTrait::kStrings,
          .samples =
              "CastLike(x: f32[3], like: f16[1])\nCastLike(x: i32[2,3], like: f32)\n"
              "CastLike(x: f32[3], like: f32[0])\nCastLike(x: f32[3], like: f8e5m2) {saturate=0}\n"
              "CastLike(x: u4[3], like: i4)\n"
              "CastLike(x: f32[3], like: f8e8m0) {round_mode=\"down\"}\n"};
}

OpDef Identity() {
  return {.name = "Identity",
          .onnx_since = {1, 13, 14, 16, 19, 21, 23},
          .infer = InferSameAsFirst,
          .gradient = [](GradContext& g) -> Status {
            g.SetInputGrad(0, g.output_grad(0));
            return {};
          },
          .reference = CopyReference,
          .host = [](HostContext& op) -> Status {
            op.SetOutput(0, op.input(0));
            return {};
          },
          .traits = OpTrait::kElementwise | OpTrait::kAlias,
          .samples =
              "Identity(x: f32[2,3])\nIdentity(x: bool[0])\nIdentity(x: u64)\n"
              "Identity(x: f16[3])\nIdentity(x: i8[3])\n"};
}

}  // namespace

std::vector<OpDef> SelectOps() { return {Where(), Clip(), Cast(), CastLike(), Identity()}; }

}  // namespace minim::ops
