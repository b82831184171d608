#include "serve/cache/codec.h"

#include <libdeflate.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace minim::serve {
namespace {

constexpr size_t kSmallestToCompress = 1024;
constexpr int kLevel = 6;
// Unpacking costs time on every hit: a smaller gain is not worth it.
constexpr double kWorthwhileRatio = 0.8;
constexpr uint32_t kMaxPatience = 256;
constexpr size_t kMaxDecodedBytes = size_t{1} << 32;
constexpr char kPlain = 0;
constexpr char kZlib = 1;

struct FreeCompressor {
  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
};
struct FreeDecompressor {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};

template <typename T>
void Append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
bool Take(std::string_view& bytes, T& value) {
  if (bytes.size() < sizeof(value)) return false;
  std::memcpy(&value, bytes.data(), sizeof(value));
  bytes.remove_prefix(sizeof(value));
  return true;
}

std::string Flatten(const CachedAnswer& answer) {
  const std::vector<Tensor>& tensors = answer.tensors;
  size_t size = 12;
  for (const Tensor& tensor : tensors) size += 2 + 8 * kMaxRank + tensor.bytes();
  std::string bytes;
  bytes.reserve(size);
  bytes += kPlain;
  Append(bytes, static_cast<uint32_t>(std::clamp<int64_t>(answer.compute.count(), 0, 3600000000)));
  Append(bytes, static_cast<uint32_t>(tensors.size()));
  for (const Tensor& tensor : tensors) {
    Append(bytes, static_cast<uint8_t>(tensor.dtype()));
    Append(bytes, static_cast<uint8_t>(tensor.dims().rank()));
    for (const int64_t size : tensor.dims()) Append(bytes, size);
    bytes.append(static_cast<const char*>(tensor.data()), tensor.bytes());
  }
  return bytes;
}

Status Corrupt() { return DataLoss("cached answer: corrupt bytes; it will be computed again"); }

Result<Tensor> TakeTensor(std::string_view& bytes) {
  uint8_t dtype = 0, rank = 0;
  if (!Take(bytes, dtype) || !Take(bytes, rank) || rank > kMaxRank ||
      dtype > static_cast<uint8_t>(DType::bool_))
    return Corrupt();
  Dims dims;
  uint64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    int64_t size = 0;
    if (!Take(bytes, size) || size < 0 ||
        __builtin_mul_overflow(elements, static_cast<uint64_t>(size), &elements))
      return Corrupt();
    dims.push_back(size);
  }
  const size_t element_bytes = SizeOf(static_cast<DType>(dtype));
  if (elements > bytes.size() / element_bytes) return Corrupt();
  const Tensor tensor = Tensor::Copy({bytes.data(), static_cast<DType>(dtype), dims});
  bytes.remove_prefix(elements * element_bytes);
  return tensor;
}

Result<CachedAnswer> Unflatten(std::string_view bytes) {
  uint32_t compute = 0, count = 0;
  if (!Take(bytes, compute) || !Take(bytes, count)) return Corrupt();
  CachedAnswer answer{.compute = std::chrono::microseconds(compute)};
  for (uint32_t i = 0; i < count; ++i) {
    MINIM_TRY(Tensor tensor, TakeTensor(bytes));
    answer.tensors.push_back(std::move(tensor));
  }
  if (!bytes.empty()) return Corrupt();
  return answer;
}

// The value packed, or empty if that is not worth it.
std::string Pack(std::string_view plain) {
  const std::unique_ptr<libdeflate_compressor, FreeCompressor> compressor(
      libdeflate_alloc_compressor(kLevel));
  if (!compressor) return {};
  std::string packed(1, kZlib);
  Append(packed, static_cast<uint64_t>(plain.size()));
  const size_t head = packed.size();
  packed.resize(head + static_cast<size_t>(static_cast<double>(plain.size()) * kWorthwhileRatio));
  const size_t size = libdeflate_zlib_compress(compressor.get(), plain.data(), plain.size(),
                                               packed.data() + head, packed.size() - head);
  if (size == 0) return {};
  packed.resize(head + size);
  return packed;
}

}  // namespace

// Float answers rarely shrink: after each attempt in vain, twice as many values go untried.
bool AnswerCodec::WorthTrying(size_t size) {
  if (size < kSmallestToCompress) return false;
  const uint32_t skip = skip_.load();
  if (skip == 0) return true;
  skip_.store(skip - 1);  // a lost update only costs or saves one attempt
  return false;
}

std::string AnswerCodec::Encode(const CachedAnswer& answer) {
  std::string plain = Flatten(answer);
  raw_bytes_ += plain.size();
  std::string packed;
  if (WorthTrying(plain.size())) {
    packed = Pack(std::string_view(plain).substr(1));
    patience_ = packed.empty() ? std::min(patience_ * 2 + 1, kMaxPatience) : 0;
    skip_ = patience_.load();
  }
  if (packed.empty()) packed = std::move(plain);
  stored_bytes_ += packed.size();
  return packed;
}

Result<CachedAnswer> AnswerCodec::Decode(std::string_view bytes) const {
  if (bytes.empty()) return Corrupt();
  const char form = bytes.front();
  bytes.remove_prefix(1);
  if (form == kPlain) return Unflatten(bytes);
  uint64_t size = 0;
  if (form != kZlib || !Take(bytes, size) || size > kMaxDecodedBytes) return Corrupt();
  // zlib cannot expand more than about 1032 times: a lying length must not reserve memory.
  if (size > bytes.size() * 1040) return Corrupt();
  std::string plain(size, '\0');
  const std::unique_ptr<libdeflate_decompressor, FreeDecompressor> decompressor(
      libdeflate_alloc_decompressor());
  if (!decompressor ||
      libdeflate_zlib_decompress(decompressor.get(), bytes.data(), bytes.size(), plain.data(),
                                 plain.size(), nullptr) != LIBDEFLATE_SUCCESS)
    return Corrupt();
  return Unflatten(plain);
}

}  // namespace minim::serve
