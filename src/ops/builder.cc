#include "ops/builder.h"

#include "core/dtype.h"
#include "ops/infer.h"

namespace minim {

std::vector<ValueId> Builder::EmitMany(std::string_view op, std::vector<ValueId> inputs,
                                       int outputs, Attributes attributes,
                                       std::string_view domain) {
  graph_.AddNode(op, std::move(inputs), outputs, std::move(attributes), domain);
  const Node node = graph_.nodes.back();
  if (Status status = InferNode(graph_, node); !status.ok() && status_.ok())
    status_ = std::move(status);
  return node.outputs;
}

ValueId Builder::Scalar(double value, DType dtype) {
  Tensor tensor(dtype, Dims());
  const Tensor wide = Tensor::Scalar(value);
  ConvertElements(wide.view(), tensor.view());
  return Constant(std::move(tensor));
}

ValueId Builder::Ints(std::vector<int64_t> values) {
  return Constant(Tensor::From<int64_t>({static_cast<int64_t>(values.size())}, values));
}

ValueId Builder::Cast(ValueId a, DType to) {
  if (dtype(a) == to) return a;
  return Emit("Cast", {a}, {{"to", int64_t{OnnxId(to)}}});
}

ValueId Builder::Reshape(ValueId a, const Dims& dims) {
  return Emit("Reshape", {a, Ints({dims.begin(), dims.end()})}, {{"allowzero", int64_t{1}}});
}

ValueId Builder::Transpose(ValueId a, std::vector<int64_t> perm) {
  return Emit("Transpose", {a}, {{"perm", std::move(perm)}});
}

ValueId Builder::ReduceSum(ValueId a, std::vector<int64_t> axes, bool keepdims) {
  return Emit("ReduceSum", {a, Ints(std::move(axes))}, {{"keepdims", int64_t{keepdims}}});
}

ValueId Builder::Slice(ValueId a, std::vector<int64_t> starts, std::vector<int64_t> ends,
                       std::vector<int64_t> axes) {
  return Emit("Slice", {a, Ints(std::move(starts)), Ints(std::move(ends)), Ints(std::move(axes))});
}

ValueId Builder::ZerosLike(ValueId like) {
  const TensorType& t = type(like);
  if (!t.Static()) {  // an earlier error, or a gradient asked for before shapes are known
    if (status_.ok())
      status_ = Unsupported("value '{}' has type {}, expected a static shape",
                            graph_.value(like).name, t.ToString());
    return Scalar(0, t.dtype);
  }
  return Filled(0, t.dtype, t.dims());
}

ValueId Builder::SumToShapeOf(ValueId value, ValueId like) {
  if (!type(value).Static() || !type(like).Static()) return ZerosLike(like);  // keeps the error
  const Dims from = type(value).dims(), to = type(like).dims();
  if (from == to) return value;
  const int shift = from.rank() - to.rank();
  std::vector<int64_t> axes;
  for (int i = 0; i < from.rank(); ++i)
    if (i < shift || (to[i - shift] == 1 && from[i] != 1)) axes.push_back(i);
  return Reshape(axes.empty() ? value : ReduceSum(value, axes, true), to);
}

ValueId GradContext::output_grad(int i) {
  if (output_grads_[i] == kNoValue) output_grads_[i] = ZerosLike(node_.outputs[i]);
  return output_grads_[i];
}

Result<std::vector<int64_t>> GradContext::ConstantInts(int i) const {
  const Tensor* tensor = graph_.constant(node_.input(i));
  if (tensor == nullptr)
    return Unsupported("{} '{}': its gradient needs input {} to be constant", node_.op, node_.name,
                       i);
  const Tensor wide = Converted(tensor->view(), DType::i64);
  const auto span = wide.as<int64_t>();
  return std::vector<int64_t>(span.begin(), span.end());
}

Status ExpandContext::Check() const {
  MINIM_TRY(status());
  for (size_t i = 0; i < replacements_.size(); ++i) {
    if (node_.outputs[i] == kNoValue || replacements_[i] == kNoValue) continue;
    const TensorType &declared = type(node_.outputs[i]), &made = type(replacements_[i]);
    if (!declared.Static() || !made.Static() || declared.dims() == made.dims()) continue;
    return InvalidArgument(
        "{} '{}': its inputs' shapes do not belong together: output {} is {}, "
        "expected {}",
        node_.op, node_.name, i, made.ToString(), declared.ToString());
  }
  return {};
}

}  // namespace minim
