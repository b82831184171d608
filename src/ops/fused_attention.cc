// minim's FusedAttention: scaled dot-product attention of operands in any order of axes.
#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

// perm_q, perm_k, perm_v bring the operands to [..., T, D], [..., D, S] and [..., S, E]; perm_y is
// what the result [..., T, E] is transposed by. Empty: as they are.
std::vector<int64_t> PermOf(const Attributes& attributes, const char* side) {
  return attributes.Ints(fmt::format("perm_{}", side));
}

Result<TensorType> Permuted(const InferContext& op, const TensorType& type, const char* side) {
  const std::vector<int64_t> perm = PermOf(op.attributes(), side);
  if (perm.empty() || !type.ranked()) return type;
  return TypeOf("Transpose", {type}, {{"perm", perm}});
}

Status Infer(InferContext& op) {
  MINIM_TRY(const TensorType q, Permuted(op, op.input(0), "q"));
  MINIM_TRY(const TensorType k, Permuted(op, op.input(1), "k"));
  MINIM_TRY(const TensorType v, Permuted(op, op.input(2), "v"));
  for (const TensorType* side : {&q, &k, &v}) {
    if (!side->ranked()) return op.SetUnknown(0, op.dtype(0));
    if (side->rank() < 2) return op.Error("rank {}, expected at least 2", side->rank());
  }
  MINIM_TRY(const TensorType scores, TypeOf("MatMul", {q, k}));
  MINIM_TRY(const TensorType rows, TypeOf("MatMul", {scores, v}));
  MINIM_TRY(TensorType y, Permuted(op, rows, "y"));
  return op.SetOutput(0, std::move(y));
}

// softmax(scale Q K + mask) V (Vaswani et al., "Attention is all you need", 2017).
Status Expand(ExpandContext& e) {
  const auto turned = [&](ValueId id, const char* side) {
    const std::vector<int64_t> perm = PermOf(e.attributes(), side);
    return perm.empty() ? id : e.Transpose(id, perm);
  };
  ValueId y = e.Emit("MatMul", {turned(e.input(0), "q"), turned(e.input(1), "k")});
  const float scale = e.attributes().Float("scale", 1);
  if (scale != 1) y = e.Mul(y, scale);
  if (e.has_input(3)) y = e.Add(y, e.input(3));
  y = e.Emit("Softmax", {y}, {{"axis", int64_t{-1}}});
  e.SetOutput(0, turned(e.Emit("MatMul", {y, turned(e.input(2), "v")}), "y"));
  return {};
}

int64_t Flops(const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
              const Attributes& attributes) {
  // T D S and T S E of each matrix, from Q of T D, K of D S and the result of T E elements.
  const Dims k = inputs[1].dims();
  const std::vector<int64_t> perm = PermOf(attributes, "k");
  const int last = k.rank() - 1;
  const int64_t s = k[perm.empty() ? last : static_cast<int>(perm[last])];
  return 2 * s * (inputs[0].dims().Elements() + outputs[0].dims().Elements());
}

}  // namespace

OpDef FusedAttention() {
  return {.name = "FusedAttention",
          .domain = std::string(kMinimDomain),
          .min_inputs = 3,
          .max_inputs = 4,
          .dtypes = kFloatTypes,
          .infer = Infer,
          .expand = Expand,
          .flops = Flops,
          .samples =
              "FusedAttention(q: f32[2,3,5], k: f32[2,5,4], v: f32[2,4,6]) {scale=0.5}\n"
              "FusedAttention(q: f32[2,3,2,5], k: f32[2,4,2,5], v: f32[2,4,2,6], m: f32[3,4]) "
              "{perm_q=[0,2,1,3], perm_k=[0,2,3,1], perm_v=[0,2,1,3], perm_y=[0,2,1,3]}\n"};
}

}  // namespace minim::ops
