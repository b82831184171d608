// BitCast: the same bits under another dtype of their size.
#include "core/dtype.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

Status Infer(InferContext& op) {
  const int64_t id = op.attributes().Int("to", 0);
  const auto to = DTypeFromOnnx(static_cast<int>(id));
  if (!to)
    return Unsupported("BitCast '{}': to type {}, which minim does not have", op.node().name, id);
  if (SizeOf(*to) != SizeOf(op.dtype(0)))
    return op.Error("from {} to {}, expected dtypes of one size", Name(op.dtype(0)), Name(*to));
  return op.SetOutput(0, {*to, op.input(0).shape});
}

Status Reference(RefContext& op) {
  const DType to = op.output_dtype(0);
  const Tensor x = FromReference(op.input(0));
  if (to == DType::bool_) {  // only 0 and 1 are values of a bool
    op.Output(0).wide = Converted(x.view(), to);
    return {};
  }
  Tensor y(to, x.dims());
  std::memcpy(y.data(), x.data(), x.bytes());
  op.Output(0) = ToReference(y);
  return {};
}

}  // namespace

OpDef BitCast() {
  return {.name = "BitCast",
          .onnx_since = {26},
          .infer = Infer,
          .reference = Reference,
          .samples =
              "BitCast(x: f32[2,3]) {to=6}\nBitCast(x: i64[4] = index(9)) {to=11}\n"
              "BitCast(x: u16[2] = [16256,49152]) {to=16}\nBitCast(x: f16) {to=5}\n"
              "BitCast(x: bool[3]) {to=2}\nBitCast(x: u8[3] = [0,1,1]) {to=9}\n"
              "BitCast(x: i8[0]) {to=2}\n"};
}

}  // namespace minim::ops
