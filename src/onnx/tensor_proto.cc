#include "onnx/tensor_proto.h"

#include <charconv>
#include <fstream>

#include "core/dtype.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

using minim_onnx::TensorProto;

constexpr int kExternal = 1;
constexpr int64_t kMaxElements = int64_t{1} << 40;

Result<Dims> DimsOf(const TensorProto& proto) {
  if (proto.dims_size() > kMaxRank)
    return Unsupported("tensor '{}': rank {} exceeds the limit of {}", proto.name(),
                       proto.dims_size(), kMaxRank);
  Dims dims;
  int64_t elements = 1;
  for (int64_t size : proto.dims()) {
    if (size < 0) return DataLoss("tensor '{}': negative dim {}", proto.name(), size);
    dims.push_back(size);
    elements = SaturatingTimes(elements, std::max<int64_t>(size, 1));
    if (elements > kMaxElements) return DataLoss("tensor '{}': its dims overflow", proto.name());
  }
  return dims;
}

// What a tensor takes in a file, where elements below a byte share one, low bits first.
size_t FileBytes(DType dtype, const Dims& dims) {
  return (static_cast<size_t>(dims.Elements()) * static_cast<size_t>(FileBits(dtype)) + 7) / 8;
}

// The file's bytes lie at the front of the tensor. From the back, so that none is overwritten
// early.
void Unpack(Tensor& tensor) {
  const int bits = FileBits(tensor.dtype());
  if (bits >= 8) return;
  const int64_t per_byte = 8 / bits;
  auto* bytes = static_cast<uint8_t*>(tensor.data());
  VisitSmall(tensor.dtype(), [&]<typename T>() {
    for (int64_t i = tensor.size() - 1; i >= 0; --i) {
      const int low = bytes[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1);
      if constexpr (kIsSmallInt<T>)
        bytes[i] = static_cast<uint8_t>(T(low).value);
      else
        bytes[i] = static_cast<uint8_t>(low);
    }
  });
}

std::string Packed(const Tensor& tensor) {
  const auto* bytes = static_cast<const char*>(tensor.data());
  const int bits = FileBits(tensor.dtype());
  if (bits >= 8 * static_cast<int>(SizeOf(tensor.dtype()))) return {bytes, tensor.bytes()};
  std::string packed(FileBytes(tensor.dtype(), tensor.dims()), '\0');
  const int64_t per_byte = 8 / bits;
  for (int64_t i = 0; i < tensor.size(); ++i)
    packed[i / per_byte] |=
        static_cast<char>((bytes[i] & ((1 << bits) - 1)) << (i % per_byte * bits));
  return packed;
}

Result<Tensor> FromBytes(const TensorProto& proto, DType dtype, const Dims& dims,
                         std::string_view bytes) {
  const size_t expected = FileBytes(dtype, dims);
  if (bytes.size() != expected)
    return DataLoss("tensor '{}': {}{} needs {} bytes, found {}", proto.name(), Name(dtype),
                    dims.ToString(), expected, bytes.size());
  Tensor tensor(dtype, dims);
  if (expected > 0) std::memcpy(tensor.data(), bytes.data(), expected);
  Unpack(tensor);
  return tensor;
}

template <typename T, typename Field>
Result<Tensor> FromField(const TensorProto& proto, const Dims& dims, const Field& field) {
  if (field.size() != dims.Elements())
    return DataLoss("tensor '{}': {}{} needs {} elements, found {}", proto.name(),
                    Name(kDTypeOf<T>), dims.ToString(), dims.Elements(), field.size());
  Tensor tensor(kDTypeOf<T>, dims);
  int64_t i = 0;
  for (const auto element : field) {
    if constexpr (kIsStoredFloat<T>) {
      tensor.as<T>()[i++].bits = static_cast<uint16_t>(element);
    } else {
      tensor.as<T>()[i++] = static_cast<T>(element);
    }
  }
  return tensor;
}

Result<Tensor> FromStrings(const TensorProto& proto, const Dims& dims) {
  if (proto.string_data_size() != dims.Elements())
    return DataLoss("tensor '{}': string{} needs {} elements, found {}", proto.name(),
                    dims.ToString(), dims.Elements(), proto.string_data_size());
  const std::vector<std::string> strings(proto.string_data().begin(), proto.string_data().end());
  return Tensor::From<std::string>(dims, strings);
}

Result<Tensor> FromTypedField(const TensorProto& proto, DType dtype, const Dims& dims) {
  if (IsSmall(dtype)) {  // one byte of raw data in each element
    const auto& field = proto.int32_data();
    return FromBytes(proto, dtype, dims, std::string(field.begin(), field.end()));
  }
  return Visit(dtype, [&]<typename T>() -> Result<Tensor> {
    if constexpr (std::is_same_v<T, float>)
      return FromField<T>(proto, dims, proto.float_data());
    else if constexpr (std::is_same_v<T, double>)
      return FromField<T>(proto, dims, proto.double_data());
    else if constexpr (std::is_same_v<T, int64_t>)
      return FromField<T>(proto, dims, proto.int64_data());
    else if constexpr (std::is_same_v<T, uint64_t> || std::is_same_v<T, uint32_t>)
      return FromField<T>(proto, dims, proto.uint64_data());
    else
      return FromField<T>(proto, dims, proto.int32_data());
  });
}

Result<uint64_t> ParseOffset(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return DataLoss("external data: '{}' is no byte count", text);
  return value;
}

// Refuses anything that would leave the model's folder, by name or by symbolic link.
Result<Path> ExternalPath(const Path& folder, const std::string& location) {
  if (folder.empty()) return Unsupported("external data '{}' is not accepted here", location);
  const Path relative(location);
  if (location.empty() || location.find('\0') != std::string::npos || relative.is_absolute())
    return DataLoss("external data location '{}' is not a relative path", location);
  for (const Path& part : relative)
    if (part == "..")
      return DataLoss("external data location '{}' leaves the model's folder", location);
  std::error_code error;
  const Path base = std::filesystem::canonical(folder, error);
  const Path file = std::filesystem::canonical(base / relative, error);
  if (error) return NotFound("external data '{}' is not in the model's folder", location);
  const auto [end, unused] = std::mismatch(base.begin(), base.end(), file.begin(), file.end());
  if (end != base.end())
    return DataLoss("external data location '{}' leaves the model's folder", location);
  return file;
}

Result<Tensor> FromExternal(const TensorProto& proto, DType dtype, const Dims& dims,
                            const Path& folder) {
  std::string location;
  uint64_t offset = 0, length = FileBytes(dtype, dims);
  const uint64_t needed = length;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") {
      MINIM_TRY(offset, ParseOffset(entry.value()));
    }
    if (entry.key() == "length") {
      MINIM_TRY(length, ParseOffset(entry.value()));
    }
  }
  MINIM_TRY(const Path path, ExternalPath(folder, location));
  std::error_code error;
  const uint64_t file_bytes = std::filesystem::file_size(path, error);
  if (error || length != needed || offset > file_bytes || length > file_bytes - offset)
    return DataLoss("tensor '{}': needs {} bytes, has {} at offset {} of '{}' ({} bytes)",
                    proto.name(), needed, length, offset, location, error ? 0 : file_bytes);
  Tensor tensor(dtype, dims);
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(static_cast<char*>(tensor.data()), static_cast<std::streamsize>(length));
  if (!file) return DataLoss("external data '{}' cannot be read", location);
  Unpack(tensor);
  return tensor;
}

}  // namespace

Result<DType> DTypeFromProto(int onnx_type) {
  if (const auto dtype = DTypeFromOnnx(onnx_type)) return *dtype;
  return Unsupported("ONNX element type {} is not supported", onnx_type);
}

Result<Tensor> TensorFromProto(const TensorProto& proto, const Path& folder) {
  MINIM_TRY(const DType dtype, DTypeFromProto(proto.data_type()));
  MINIM_TRY(const Dims dims, DimsOf(proto));
  if (dtype == DType::string) return FromStrings(proto, dims);
  if (proto.data_location() == kExternal) return FromExternal(proto, dtype, dims, folder);
  if (proto.has_raw_data()) return FromBytes(proto, dtype, dims, proto.raw_data());
  return FromTypedField(proto, dtype, dims);
}

void TensorToProto(const Tensor& tensor, std::string_view name, TensorProto& proto) {
  for (int64_t size : tensor.dims()) proto.add_dims(size);
  proto.set_data_type(OnnxId(tensor.dtype()));
  proto.set_name(std::string(name));
  if (tensor.dtype() == DType::string) {
    for (const std::string& text : tensor.as<std::string>()) proto.add_string_data(text);
    return;
  }
  proto.set_raw_data(Packed(tensor));
}

Result<Tensor> ParseTensorProto(std::string_view bytes) {
  TensorProto proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return DataLoss("not a TensorProto: the protobuf is malformed");
  return TensorFromProto(proto, {});
}

std::string SerializeTensorProto(const Tensor& tensor, std::string_view name) {
  TensorProto proto;
  TensorToProto(tensor, name, proto);
  return proto.SerializeAsString();
}

}  // namespace minim
