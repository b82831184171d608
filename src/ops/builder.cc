#include "ops/builder.h"

#include "core/dtype.h"
#include "ops/infer.h"

namespace minim {

std::vector<ValueId> Builder::EmitMany(std::string_view op, std::vector<ValueId> inputs,
                                       int outputs, Attributes attributes, std::string_view domain) {
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

ValueId Builder::ZerosLike(ValueId like) {
  const TensorType& t = type(like);
  MINIM_CHECK(t.Static());
  return Emit("Expand", {Scalar(0, t.dtype), Ints({t.dims().begin(), t.dims().end()})});
}

ValueId Builder::SumToShapeOf(ValueId value, ValueId like) {
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

}  // namespace minim
