#include "serve/protocol/tensor_bytes.h"

#include <cstring>

#include "serve/protocol/datatypes.h"

namespace minim::serve {
namespace {

static_assert(std::endian::native == std::endian::little);

using Length = uint32_t;

// An empty string takes four bytes on the wire and 32 here: the only elements that grow.
constexpr uint64_t kMaxStrings = uint64_t{1} << 20;

Status TakeStrings(std::string_view bytes, std::span<std::string> strings) {
  for (size_t i = 0; i < strings.size(); ++i) {
    Length length = 0;
    if (bytes.size() < sizeof(length))
      return InvalidArgument("the data ends before the length of string {} of {}", i,
                             strings.size());
    std::memcpy(&length, bytes.data(), sizeof(length));
    bytes.remove_prefix(sizeof(length));
    if (length > bytes.size())
      return InvalidArgument("string {} is {} bytes long, only {} follow its length", i, length,
                             bytes.size());
    strings[i] = bytes.substr(0, length);
    bytes.remove_prefix(length);
  }
  if (bytes.empty()) return {};
  return InvalidArgument("{} bytes are left after the last of {} strings", bytes.size(),
                         strings.size());
}

}  // namespace

size_t SmallestElement(DType dtype) {
  return dtype == DType::string ? sizeof(Length) : SizeOf(dtype);
}

Result<Tensor> AllocatePaid(DType dtype, std::span<const int64_t> shape, size_t paid_bytes,
                            size_t bytes_per_element) {
  if (shape.size() > static_cast<size_t>(kMaxRank))
    return InvalidArgument("the shape has {} sizes, at most {}", shape.size(), kMaxRank);
  const Dims dims(shape);
  uint64_t elements = 1;
  bool too_many = false;
  for (const int64_t size : shape) {
    if (size < 0)
      return InvalidArgument("shape {}: every size must be a whole number, not negative",
                             dims.ToString());
    too_many |= __builtin_mul_overflow(elements, static_cast<uint64_t>(size), &elements);
  }
  if (too_many || elements > paid_bytes / bytes_per_element + 1)
    return InvalidArgument("shape {} has more elements than the data", dims.ToString());
  if (dtype == DType::string && elements > kMaxStrings)
    return InvalidArgument("shape {}: at most {} strings", dims.ToString(), kMaxStrings);
  return Tensor(dtype, dims);
}

Result<Tensor> TensorFromBytes(DType dtype, std::span<const int64_t> shape,
                               std::string_view bytes) {
  MINIM_TRY(Tensor tensor, AllocatePaid(dtype, shape, bytes.size(), SmallestElement(dtype)));
  if (dtype == DType::string) {
    MINIM_TRY(TakeStrings(bytes, tensor.as<std::string>()));
    return tensor;
  }
  if (tensor.bytes() != bytes.size())
    return InvalidArgument("{} bytes, shape {} of {} needs {}", bytes.size(),
                           tensor.dims().ToString(), DatatypeName(dtype), tensor.bytes());
  if (!bytes.empty()) std::memcpy(tensor.data(), bytes.data(), bytes.size());
  if (dtype == DType::bool_) {
    // A bool of any other value would be undefined in every kernel.
    for (const char byte : bytes)
      if (static_cast<uint8_t>(byte) > 1)
        return InvalidArgument("a BOOL byte is {}, expected 0 or 1", static_cast<uint8_t>(byte));
  }
  return tensor;
}

size_t BinarySize(const Tensor& tensor) {
  if (tensor.dtype() != DType::string) return tensor.bytes();
  size_t size = 0;
  for (const std::string& text : tensor.as<std::string>()) size += sizeof(Length) + text.size();
  return size;
}

void AppendBinary(const Tensor& tensor, std::string& bytes) {
  if (tensor.dtype() != DType::string) {
    bytes.append(static_cast<const char*>(tensor.data()), tensor.bytes());
    return;
  }
  for (const std::string& text : tensor.as<std::string>()) {
    const auto length = static_cast<Length>(text.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
    bytes += text;
  }
}

}  // namespace minim::serve
