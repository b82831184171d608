#include "train/safetensors.h"

#include <nlohmann/json.hpp>

namespace minim {
namespace {

using nlohmann::json;

constexpr size_t kMaxHeader = 100'000'000;  // the bound of the reference implementation

struct TypeName {
  DType dtype;
  std::string_view name;
};
constexpr TypeName kNames[] = {
    {DType::f64, "F64"},        {DType::f32, "F32"},
    {DType::f16, "F16"},        {DType::bf16, "BF16"},
    {DType::i64, "I64"},        {DType::i32, "I32"},
    {DType::i16, "I16"},        {DType::i8, "I8"},
    {DType::u64, "U64"},        {DType::u32, "U32"},
    {DType::u16, "U16"},        {DType::u8, "U8"},
    {DType::bool_, "BOOL"},     {DType::f8e4m3fn, "F8_E4M3"},
    {DType::f8e5m2, "F8_E5M2"}, {DType::f8e8m0, "F8_E8M0"},
};

Result<Tensor> ParseEntry(const std::string& name, const json& entry, std::string_view data) {
  const auto bad = [&](std::string_view what) {
    return DataLoss("safetensors: entry '{}' has {}", name, what);
  };
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2)
    return bad("no dtype, shape or data_offsets");
  for (const json& number : entry["shape"])
    if (!number.is_number_unsigned()) return bad("a malformed shape");
  for (const json& number : entry["data_offsets"])
    if (!number.is_number_unsigned()) return bad("malformed offsets");
  if (entry["shape"].size() > static_cast<size_t>(kMaxRank)) return bad("too high a rank");
  Dims dims;
  uint64_t elements = 1;
  for (const json& number : entry["shape"]) {
    const uint64_t size = number.get<uint64_t>();
    if (size > 0 && elements > (uint64_t{1} << 40) / size) return bad("an overflowing shape");
    elements *= size;
    dims.push_back(static_cast<int64_t>(size));
  }
  const uint64_t begin = entry["data_offsets"][0].get<uint64_t>();
  const uint64_t end = entry["data_offsets"][1].get<uint64_t>();
  for (const TypeName& type : kNames) {
    if (type.name != entry["dtype"].get_ref<const std::string&>()) continue;
    if (begin > end || end > data.size() || end - begin != elements * SizeOf(type.dtype))
      return bad("offsets that do not fit its shape");
    return Tensor::Copy({data.data() + begin, type.dtype, dims});
  }
  return bad("an unknown dtype");
}

}  // namespace

std::string SerializeSafeTensors(const SafeTensors& file) {
  json header = json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  size_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    std::string_view type;
    for (const TypeName& row : kNames)
      if (row.dtype == tensor.dtype()) type = row.name;
    MINIM_CHECK(!type.empty());
    header[name] = {{"dtype", type},
                    {"shape", std::vector<int64_t>(tensor.dims().begin(), tensor.dims().end())},
                    {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((8 + text.size() + kAlignment - 1) / kAlignment * kAlignment - 8, ' ');
  std::string bytes;
  bytes.reserve(8 + text.size() + offset);
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(text.size() >> (8 * i) & 255);
  bytes += text;
  for (const auto& [name, tensor] : file.tensors)
    bytes.append(static_cast<const char*>(tensor.data()), tensor.bytes());
  return bytes;
}

Result<SafeTensors> ParseSafeTensors(std::string_view bytes) {
  if (bytes.size() < 8) return DataLoss("safetensors: shorter than its header length");
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i) length |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  if (length > kMaxHeader || length > bytes.size() - 8)
    return DataLoss("safetensors: header of {} bytes in a file of {}", length, bytes.size());
  const json header = json::parse(bytes.substr(8, length), nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return DataLoss("safetensors: the header is no JSON object");
  const std::string_view data = bytes.substr(8 + length);
  SafeTensors file;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : entry.items())
        if (value.is_string()) file.metadata[key] = value.get<std::string>();
      continue;
    }
    MINIM_TRY(Tensor tensor, ParseEntry(name, entry, data));
    file.tensors.emplace(name, std::move(tensor));
  }
  return file;
}

}  // namespace minim
