#include "exec/held_constants.h"

#include "core/heap.h"

namespace minim {
namespace {

constexpr size_t kWorthParking = 4096;       // bytes, as are ...
constexpr size_t kWorthReturning = 1 << 20;  // ... these, of freed memory

}  // namespace

std::map<ValueId, Tensor> HeldConstants::All() const {
  std::map<ValueId, Parked> parked;
  std::map<ValueId, Tensor> all;
  {
    std::lock_guard lock(mutex_);
    all = whole_;
    parked = parked_;
  }
  for (const auto& [id, constant] : parked) {
    Tensor tensor(constant.dtype, constant.dims);
    constant.origin.unpack(constant.origin.blob.get(), tensor.data());
    all.emplace(id, std::move(tensor));
  }
  return all;
}

void HeldConstants::LetGo(PackStore& packs) {
  std::lock_guard lock(mutex_);
  std::erase_if(whole_, [&](const auto& constant) {
    const auto& [id, tensor] = constant;
    if (tensor.dtype() == DType::string || tensor.bytes() < kWorthParking || !tensor.unique())
      return false;
    std::string& digest = digests_[id];
    if (digest.empty()) digest = packs.DigestOf(tensor.view());
    PackStore::Origin origin = packs.FindOrigin(digest);
    if (!origin.blob) return false;
    parked_.emplace(id, Parked{tensor.dtype(), tensor.dims(), std::move(origin)});
    return true;
  });
  size_t freed = 0;  // now, or with what All() made
  for (const auto& [id, constant] : parked_)
    freed += static_cast<size_t>(constant.dims.Elements()) * SizeOf(constant.dtype);
  if (freed >= kWorthReturning) ReturnFreedPages();
}

size_t HeldConstants::bytes() const {
  std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& [id, tensor] : whole_) bytes += tensor.bytes();
  return bytes;
}

}  // namespace minim
