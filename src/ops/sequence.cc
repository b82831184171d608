// Sequences and optionals: values that hold tensors.
#include <algorithm>

#include "core/dtype.h"
#include "ops/movement.h"
#include "ops/stack.h"
#include "ops/subgraph.h"

namespace minim::ops {
namespace {

TensorType AnyShape(TensorType type) {
  if (type.is_tensor()) type.shape = std::nullopt;
  return type;
}

Status NeedSequence(const InferContext& op, int i) {
  if (op.input(i).kind == ValueKind::kSequence) return {};
  return op.Error("input {} is {}, expected a sequence", i, op.input(i).ToString());
}

Status NeedTensor(const InferContext& op, int i) {
  if (op.input(i).is_tensor()) return {};
  return op.Error("input {} is {}, expected a tensor", i, op.input(i).ToString());
}

Status InferConstruct(InferContext& op) {
  TensorType element = op.input(0);
  for (int i = 0; i < op.input_count(); ++i) {
    MINIM_TRY(NeedTensor(op, i));
    MINIM_TRY(op.SameDType(0, i));
    element = Merged(element, op.input(i));
  }
  return op.SetOutput(0, TensorType::SequenceOf(element));
}

Status HostConstruct(HostContext& op) {
  op.SetOutput(0, Sequence(op.InputsFrom(0)));
  return {};
}

Status InferEmpty(InferContext& op) {
  const auto dtype =
      DTypeFromOnnx(static_cast<int>(op.attributes().Int("dtype", OnnxId(DType::f32))));
  if (!dtype) return op.Error("dtype {} is unknown", op.attributes().Int("dtype", 0));
  return op.SetOutput(0, TensorType::SequenceOf({*dtype, std::nullopt}));
}

Status HostEmpty(HostContext& op) {
  op.SetOutput(0, Sequence());
  return {};
}

// A position may count from the end. `count` itself is one past the last.
Result<int64_t> PositionOf(const HostContext& op, int input, int64_t count, bool past_end) {
  MINIM_TRY(const int64_t given, op.IntInput(input));
  const int64_t position = given < 0 ? given + count : given;
  if (position < 0 || position >= count + (past_end ? 1 : 0))
    return op.Error("position {} is outside a sequence of {}", given, count);
  return position;
}

Status InferAt(InferContext& op) {
  MINIM_TRY(NeedSequence(op, 0));
  return op.SetOutput(0, *op.input(0).element);
}

Status HostAt(HostContext& op) {
  MINIM_TRY(const Sequence items, op.SequenceInput(0));
  MINIM_TRY(const int64_t position, PositionOf(op, 1, static_cast<int64_t>(items.size()), false));
  op.SetOutput(0, items[position]);
  return {};
}

Status InferInsert(InferContext& op) {
  MINIM_TRY(NeedSequence(op, 0));
  MINIM_TRY(NeedTensor(op, 1));
  if (op.input(0).element->is_tensor() && op.input(0).element->dtype != op.input(1).dtype)
    return op.Error("a tensor {} into {}", op.input(1).ToString(), op.input(0).ToString());
  return op.SetOutput(0, TensorType::SequenceOf(AnyShape(op.input(1))));
}

Status HostInsert(HostContext& op) {
  MINIM_TRY(Sequence items, op.SequenceInput(0));
  MINIM_TRY(Tensor item, op.TensorInput(1));
  auto position = static_cast<int64_t>(items.size());
  if (op.has_input(2)) {
    MINIM_TRY(position, PositionOf(op, 2, position, true));
  }
  items.insert(items.begin() + position, HostValue(std::move(item)));
  op.SetOutput(0, std::move(items));
  return {};
}

Status InferErase(InferContext& op) {
  MINIM_TRY(NeedSequence(op, 0));
  return op.SetOutput(0, op.input(0));
}

Status HostErase(HostContext& op) {
  MINIM_TRY(Sequence items, op.SequenceInput(0));
  auto position = static_cast<int64_t>(items.size()) - 1;
  if (op.has_input(1)) {
    MINIM_TRY(position, PositionOf(op, 1, position + 1, false));
  }
  if (position < 0) return op.Error("the sequence is empty");
  items.erase(items.begin() + position);
  op.SetOutput(0, std::move(items));
  return {};
}

Status InferLength(InferContext& op) {
  MINIM_TRY(NeedSequence(op, 0));
  return op.SetOutput(0, DType::i64, Shape());
}

Status HostLength(HostContext& op) {
  MINIM_TRY(const Sequence items, op.SequenceInput(0));
  op.SetOutput(0, Tensor::Scalar<int64_t>(static_cast<int64_t>(items.size())));
  return {};
}

Status InferSplitToSequence(InferContext& op) {
  MINIM_TRY(NeedTensor(op, 0));
  return op.SetOutput(0, TensorType::SequenceOf(AnyShape(op.input(0))));
}

// The sizes of the parts: ones, equal chunks with a smaller last one, or as given.
Result<std::vector<int64_t>> PartSizes(const HostContext& op, int64_t size) {
  if (!op.has_input(1)) return std::vector<int64_t>(static_cast<size_t>(size), 1);
  MINIM_TRY(const Tensor split, op.TensorInput(1));
  if (IsFloat(split.dtype()) || split.dtype() == DType::string)
    return op.Error("the split is {}, expected integers", Name(split.dtype()));
  const Tensor wide = Converted(split.view(), DType::i64);
  std::vector<int64_t> sizes(wide.as<int64_t>().begin(), wide.as<int64_t>().end());
  if (split.dims().rank() == 0) {
    const int64_t chunk = sizes[0];
    if (chunk <= 0) return op.Error("a chunk of {}", chunk);
    sizes.assign(static_cast<size_t>(size / chunk), chunk);
    if (size % chunk) sizes.push_back(size % chunk);
  }
  int64_t sum = 0;
  for (int64_t part : sizes) {
    if (part < 0 || part > size - sum) return op.Error("the parts do not add up to {}", size);
    sum += part;
  }
  if (sum != size) return op.Error("the parts add up to {}, expected {}", sum, size);
  return sizes;
}

Status HostSplitToSequence(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const int64_t given = op.attributes().Int("axis", 0);
  const int rank = x.dims().rank();
  if (given < -rank || given >= rank) return op.Error("axis {} for rank {}", given, rank);
  const auto axis = static_cast<int>(given < 0 ? given + rank : given);
  MINIM_TRY(const std::vector<int64_t> sizes, PartSizes(op, x.dims()[axis]));
  const bool keep = op.has_input(1) || op.attributes().Int("keepdims", 1) != 0;
  Sequence items;
  int64_t start = 0;
  for (int64_t size : sizes) {
    MINIM_TRY(Tensor part, SliceRange(op, x, axis, start, start + size));
    start += size;
    if (!keep) {
      Dims dims;
      for (int i = 0; i < rank; ++i)
        if (i != axis) dims.push_back(part.dims()[i]);
      part = part.Reshaped(dims);
    }
    items.emplace_back(std::move(part));
  }
  op.SetOutput(0, std::move(items));
  return {};
}

Status InferConcat(InferContext& op) {
  MINIM_TRY(NeedSequence(op, 0));
  return op.SetOutput(0, AnyShape(*op.input(0).element));
}

Status HostConcat(HostContext& op) {
  MINIM_TRY(const Sequence items, op.SequenceInput(0));
  const auto axis = static_cast<int>(op.attributes().Int("axis", 0));
  const bool fresh = op.attributes().Int("new_axis", 0) != 0;
  Stack stack;
  std::vector<Tensor> tensors;
  for (const HostValue& item : items) {
    if (item.tensor() == nullptr) return op.Error("an item is no tensor");
    tensors.push_back(*item.tensor());
    if (fresh) MINIM_TRY(stack.Push(op, item));
  }
  if (items.empty()) return op.Error("the sequence is empty");
  Tensor joined;
  if (fresh) {
    MINIM_TRY(joined, stack.Join(op, op.output_type(0), axis, false));
  } else {
    MINIM_TRY(joined, Concatenate(op, tensors, axis));
  }
  op.SetOutput(0, std::move(joined));
  return {};
}

// SequenceMap(sequence, others..., captured...): the body sees one item of each sequence; tensors
// and captures as they are.
Status InferSequenceMap(InferContext& op) {
  MINIM_TRY(NeedSequence(op, 0));
  const int given = op.input_count() - CaptureCount(op.attributes());
  std::vector<TensorType> types;
  for (int i = 0; i < op.input_count(); ++i) {
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
    const TensorType& type = op.input(i);
    types.push_back(i < given && type.kind == ValueKind::kSequence ? *type.element : type);
  }
  MINIM_TRY(const auto outputs, InferSubgraph(op, "body", types));
  if (static_cast<int>(outputs.size()) < op.output_count())
    return op.Error("the body gives {} outputs, the node has {}", outputs.size(),
                    op.output_count());
  for (int i = 0; i < op.output_count(); ++i)
    MINIM_TRY(op.SetOutput(i, TensorType::SequenceOf(AnyShape(outputs[i]))));
  return {};
}

Status HostSequenceMap(HostContext& op) {
  MINIM_TRY(const Sequence first, op.SequenceInput(0));
  const int given = op.input_count() - CaptureCount(op.attributes());
  std::vector<Sequence> outputs(static_cast<size_t>(op.output_count()));
  for (size_t at = 0; at < first.size(); ++at) {
    std::vector<HostValue> inputs = op.InputsFrom(0);
    for (int i = 0; i < given; ++i) {
      const Sequence* items = inputs[i].sequence();
      if (items == nullptr) continue;
      if (items->size() != first.size())
        return op.Error("sequences of {} and {} items", first.size(), items->size());
      inputs[i] = HostValue((*items)[at]);
    }
    MINIM_TRY(std::vector<HostValue> results, op.RunSubgraph("body", std::move(inputs)));
    for (size_t o = 0; o < outputs.size(); ++o) outputs[o].push_back(std::move(results[o]));
  }
  for (size_t o = 0; o < outputs.size(); ++o)
    op.SetOutput(static_cast<int>(o), std::move(outputs[o]));
  return {};
}

// Optionals.

Status InferOptional(InferContext& op) {
  if (op.input_count() > 0 && op.has_input(0))
    return op.SetOutput(0, TensorType::OptionalOf(op.input(0)));
  const auto type = op.attributes().items().find("type");
  if (type == op.attributes().items().end() || !std::get_if<TensorType>(&type->second))
    return op.Error("has neither an input nor a type");
  return op.SetOutput(0, TensorType::OptionalOf(std::get<TensorType>(type->second)));
}

Status HostOptional(HostContext& op) {
  op.SetOutput(0, op.has_input(0) ? op.input(0) : HostValue());
  return {};
}

Status InferGetElement(InferContext& op) {
  const TensorType& type = op.input(0);
  return op.SetOutput(0, type.kind == ValueKind::kOptional ? *type.element : type);
}

Status HostGetElement(HostContext& op) {
  if (op.input(0).empty()) return op.Error("the optional holds nothing");
  op.SetOutput(0, op.input(0));
  return {};
}

Status InferHasElement(InferContext& op) { return op.SetOutput(0, DType::bool_, Shape()); }

Status HostHasElement(HostContext& op) {
  op.SetOutput(0, Tensor::Scalar<bool>(op.has_input(0) && !op.input(0).empty()));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, int min_inputs, int max_inputs,
             std::function<Status(InferContext&)> infer, std::function<Status(HostContext&)> host) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .infer = std::move(infer),
          .host = std::move(host)};
}

}  // namespace

std::vector<OpDef> SequenceOps() {
  return {Define("SequenceConstruct", {11}, 1, -1, InferConstruct, HostConstruct),
          Define("SequenceEmpty", {11}, 0, 0, InferEmpty, HostEmpty),
          Define("SequenceAt", {11}, 2, 2, InferAt, HostAt),
          Define("SequenceInsert", {11}, 2, 3, InferInsert, HostInsert),
          Define("SequenceErase", {11}, 1, 2, InferErase, HostErase),
          Define("SequenceLength", {11}, 1, 1, InferLength, HostLength),
          Define("SplitToSequence", {11, 24}, 1, 2, InferSplitToSequence, HostSplitToSequence),
          Define("ConcatFromSequence", {11}, 1, 1, InferConcat, HostConcat),
          Define("SequenceMap", {17}, 1, -1, InferSequenceMap, HostSequenceMap),
          Define("Optional", {15}, 0, 1, InferOptional, HostOptional),
          Define("OptionalGetElement", {15, 18}, 1, 1, InferGetElement, HostGetElement),
          Define("OptionalHasElement", {15, 18}, 0, 1, InferHasElement, HostHasElement)};
}

}  // namespace minim::ops
