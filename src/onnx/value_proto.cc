#include "onnx/value_proto.h"

#include "core/dtype.h"
#include "onnx/onnx.h"
#include "onnx/tensor_proto.h"

namespace minim {
namespace {

using minim_onnx::MapProto;
using minim_onnx::OptionalProto;
using minim_onnx::SequenceProto;
using minim_onnx::SparseTensorProto;
using minim_onnx::TypeProto;

// Small files cannot claim large dense tensors.
constexpr int64_t kMaxDenseElements = int64_t{1} << 24;

Result<TensorType> TensorTypeFromProto(const std::string& name,
                                       const minim_onnx::TensorTypeProto& proto) {
  MINIM_TRY(const DType dtype, DTypeFromProto(proto.elem_type()));
  if (!proto.has_shape()) return TensorType{dtype, std::nullopt};
  TensorType type{dtype, Shape()};
  for (const auto& dim : proto.shape().dim()) {
    if (dim.has_dim_value() && dim.dim_value() >= 0) {
      type.shape->push_back(dim.dim_value());
    } else {
      type.shape->push_back(dim.dim_param().empty() ? Dim() : Dim::Symbol(dim.dim_param()));
    }
  }
  if (type.shape->size() > static_cast<size_t>(kMaxRank))
    return Unsupported("value '{}': rank {} exceeds the limit of {}", name, type.shape->size(),
                       kMaxRank);
  return type;
}

Result<HostValue> FromSequence(const SequenceProto& proto);

Result<HostValue> FromMap(const MapProto& proto) {
  Map map;
  if (proto.string_keys_size() > 0) {
    const std::vector<std::string> keys(proto.string_keys().begin(), proto.string_keys().end());
    map.keys = Tensor::From<std::string>({proto.string_keys_size()}, keys);
  } else {
    const std::vector<int64_t> keys(proto.keys().begin(), proto.keys().end());
    map.keys = Tensor::From<int64_t>({proto.keys_size()}, keys);
  }
  if (proto.values().tensor_values_size() != 1)
    return Unsupported("a map whose values are not one tensor");
  MINIM_TRY(map.values, TensorFromProto(proto.values().tensor_values(0), {}));
  if (map.values.size() != map.keys.size())
    return DataLoss("a map of {} keys and {} values", map.keys.size(), map.values.size());
  return HostValue(std::move(map));
}

Result<HostValue> FromOptional(const OptionalProto& proto) {
  if (proto.has_tensor_value()) {
    MINIM_TRY(Tensor tensor, TensorFromProto(proto.tensor_value(), {}));
    return HostValue(std::move(tensor));
  }
  if (proto.has_sequence_value()) return FromSequence(proto.sequence_value());
  if (proto.has_map_value()) return FromMap(proto.map_value());
  if (proto.has_optional_value()) return FromOptional(proto.optional_value());
  return HostValue();
}

Result<HostValue> FromSequence(const SequenceProto& proto) {
  Sequence items;
  for (const auto& item : proto.tensor_values()) {
    MINIM_TRY(Tensor tensor, TensorFromProto(item, {}));
    items.emplace_back(std::move(tensor));
  }
  for (const auto& item : proto.sequence_values()) {
    MINIM_TRY(HostValue value, FromSequence(item));
    items.push_back(std::move(value));
  }
  for (const auto& item : proto.map_values()) {
    MINIM_TRY(HostValue value, FromMap(item));
    items.push_back(std::move(value));
  }
  for (const auto& item : proto.optional_values()) {
    MINIM_TRY(HostValue value, FromOptional(item));
    items.push_back(std::move(value));
  }
  return HostValue(std::move(items));
}

template <typename Proto>
Result<Proto> Parsed(std::string_view bytes, std::string_view what) {
  Proto proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return DataLoss("not a {}: the protobuf is malformed", what);
  return proto;
}

// The place in the dense tensor of the sparse element `i`; -1 if it lies outside.
int64_t PlaceOf(const Tensor& indices, int64_t i, const Dims& dims) {
  const auto at = indices.as<int64_t>();
  if (indices.dims().rank() == 1) return at[i] < dims.Elements() ? at[i] : -1;
  int64_t place = 0;
  for (int axis = 0; axis < dims.rank(); ++axis) {
    const int64_t index = at[i * dims.rank() + axis];
    if (index < 0 || index >= dims[axis]) return -1;
    place = place * dims[axis] + index;
  }
  return place;
}

}  // namespace

Result<TensorType> TypeFromProto(const std::string& name, const TypeProto& proto) {
  if (proto.has_tensor_type()) return TensorTypeFromProto(name, proto.tensor_type());
  if (proto.has_sequence_type()) {
    MINIM_TRY(TensorType element, TypeFromProto(name, proto.sequence_type().elem_type()));
    return TensorType::SequenceOf(std::move(element));
  }
  if (proto.has_optional_type()) {
    MINIM_TRY(TensorType element, TypeFromProto(name, proto.optional_type().elem_type()));
    return TensorType::OptionalOf(std::move(element));
  }
  if (proto.has_map_type()) {
    MINIM_TRY(const DType key, DTypeFromProto(proto.map_type().key_type()));
    MINIM_TRY(TensorType value, TypeFromProto(name, proto.map_type().value_type()));
    return TensorType::MapOf(key, std::move(value));
  }
  return Unsupported("value '{}' has a sparse or unknown type", name);
}

void TypeToProto(const TensorType& type, TypeProto& proto) {
  if (type.kind == ValueKind::kSequence)
    return TypeToProto(*type.element, *proto.mutable_sequence_type()->mutable_elem_type());
  if (type.kind == ValueKind::kOptional)
    return TypeToProto(*type.element, *proto.mutable_optional_type()->mutable_elem_type());
  if (type.kind == ValueKind::kMap) {
    proto.mutable_map_type()->set_key_type(OnnxId(type.dtype));
    return TypeToProto(*type.element, *proto.mutable_map_type()->mutable_value_type());
  }
  auto& tensor = *proto.mutable_tensor_type();
  tensor.set_elem_type(OnnxId(type.dtype));
  if (!type.shape) return;
  tensor.mutable_shape();
  for (const Dim& dim : *type.shape) {
    auto& written = *tensor.mutable_shape()->add_dim();
    if (dim.known())
      written.set_dim_value(dim.value());
    else if (!dim.symbol().empty())
      written.set_dim_param(dim.symbol());
  }
}

Result<Tensor> TensorFromSparse(const SparseTensorProto& proto, const Path& folder) {
  MINIM_TRY(const Tensor values, TensorFromProto(proto.values(), folder));
  MINIM_TRY(const Tensor indices, TensorFromProto(proto.indices(), folder));
  Dims dims;
  int64_t elements = 1;
  for (int64_t size : proto.dims()) {
    if (size < 0 || (size > 0 && elements > kMaxDenseElements / size) || dims.rank() == kMaxRank)
      return DataLoss("sparse tensor '{}': its dims are negative or too large",
                      proto.values().name());
    dims.push_back(size);
    elements *= size;
  }
  const int64_t count = values.size();
  const int64_t wanted = indices.dims().rank() == 2 ? count * dims.rank() : count;
  if (indices.dtype() != DType::i64 || indices.size() != wanted || values.dtype() == DType::string)
    return DataLoss("sparse tensor '{}': {} values and {} indices", proto.values().name(), count,
                    indices.size());
  Tensor dense(values.dtype(), dims);
  const size_t width = SizeOf(values.dtype());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place = PlaceOf(indices, i, dims);
    if (place < 0)
      return DataLoss("sparse tensor '{}': index {} is outside {}", proto.values().name(), i,
                      dims.ToString());
    std::memcpy(static_cast<std::byte*>(dense.data()) + place * width,
                static_cast<const std::byte*>(values.data()) + i * width, width);
  }
  return dense;
}

Result<HostValue> ParseValueProto(std::string_view bytes, const TensorType& type) {
  switch (type.kind) {
    case ValueKind::kTensor: {
      MINIM_TRY(Tensor tensor, ParseTensorProto(bytes));
      return HostValue(std::move(tensor));
    }
    case ValueKind::kSequence: {
      MINIM_TRY(const SequenceProto proto, Parsed<SequenceProto>(bytes, "SequenceProto"));
      return FromSequence(proto);
    }
    case ValueKind::kOptional: {
      MINIM_TRY(const OptionalProto proto, Parsed<OptionalProto>(bytes, "OptionalProto"));
      return FromOptional(proto);
    }
    case ValueKind::kMap: break;
  }
  MINIM_TRY(const MapProto proto, Parsed<MapProto>(bytes, "MapProto"));
  return FromMap(proto);
}

}  // namespace minim
