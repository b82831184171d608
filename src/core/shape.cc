#include "core/shape.h"

namespace minim {

std::string Dim::ToString() const {
  if (known()) return std::to_string(value_);
  return symbol_.empty() ? "?" : symbol_;
}

Shape ToShape(const Dims& dims) { return Shape(dims.begin(), dims.end()); }

std::optional<Dims> ToDims(const Shape& shape) {
  if (shape.size() > static_cast<size_t>(kMaxRank)) return std::nullopt;
  Dims dims;
  for (const Dim& dim : shape) {
    if (!dim.known()) return std::nullopt;
    dims.push_back(dim.value());
  }
  return dims;
}

std::string ToString(const Shape& shape) {
  std::string text = "[";
  for (const Dim& dim : shape) text += (text.size() > 1 ? "," : "") + dim.ToString();
  return text + "]";
}

std::optional<int64_t> ElementsOf(const Shape& shape) {
  int64_t product = 1;
  for (const Dim& dim : shape) {
    if (!dim.known() || __builtin_mul_overflow(product, dim.value(), &product)) return std::nullopt;
  }
  return product;
}

TensorType TensorType::SequenceOf(TensorType element) {
  return {.kind = ValueKind::kSequence,
          .element = std::make_shared<const TensorType>(std::move(element))};
}

TensorType TensorType::OptionalOf(TensorType element) {
  return {.kind = ValueKind::kOptional,
          .element = std::make_shared<const TensorType>(std::move(element))};
}

TensorType TensorType::MapOf(DType key, TensorType value) {
  return {.dtype = key,
          .kind = ValueKind::kMap,
          .element = std::make_shared<const TensorType>(std::move(value))};
}

std::string TensorType::ToString() const {
  const std::string name(Name(dtype));
  switch (kind) {
    case ValueKind::kTensor: break;
    case ValueKind::kSequence: return fmt::format("seq({})", element->ToString());
    case ValueKind::kOptional: return fmt::format("optional({})", element->ToString());
    case ValueKind::kMap: return fmt::format("map({},{})", name, element->ToString());
  }
  if (!shape) return name + "[*]";
  return shape->empty() ? name : name + minim::ToString(*shape);
}

namespace {

Result<Dim> BroadcastDim(const Dim& a, const Dim& b) {
  if (a.known() && a.value() == 1) return b;
  if (b.known() && b.value() == 1) return a;
  if (a.known() && b.known() && a.value() != b.value())
    return InvalidArgument("cannot broadcast {} with {}: dims must be equal or 1", a.value(),
                           b.value());
  if (a.known()) return a;
  if (b.known()) return b;
  return a.Same(b) ? a : Dim();
}

}  // namespace

Result<Shape> BroadcastShapes(const Shape& a, const Shape& b) {
  const size_t rank = std::max(a.size(), b.size());
  Shape result(rank);
  for (size_t i = 0; i < rank; ++i) {
    const Dim left = i < rank - a.size() ? Dim(1) : a[i - (rank - a.size())];
    const Dim right = i < rank - b.size() ? Dim(1) : b[i - (rank - b.size())];
    auto dim = BroadcastDim(left, right);
    if (!dim.ok())
      return Annotate(dim.status(), fmt::format("shapes {} and {}", ToString(a), ToString(b)));
    result[i] = *dim;
  }
  return result;
}

Result<Dims> BroadcastDims(const Dims& a, const Dims& b) {
  MINIM_TRY(const Shape shape, BroadcastShapes(ToShape(a), ToShape(b)));
  return *ToDims(shape);
}

Dims RowMajorStrides(const Dims& dims) {
  Dims strides = Dims::Filled(dims.rank(), 1);
  for (int i = dims.rank() - 2; i >= 0; --i) strides[i] = strides[i + 1] * dims[i + 1];
  return strides;
}

Dims BroadcastStrides(const Dims& dims, const Dims& target) {
  const Dims own = RowMajorStrides(dims);
  Dims strides = Dims::Filled(target.rank(), 0);
  const int shift = target.rank() - dims.rank();
  MINIM_CHECK(shift >= 0);
  for (int i = 0; i < dims.rank(); ++i) {
    if (dims[i] != 1) strides[i + shift] = own[i];
  }
  return strides;
}

}  // namespace minim
