#include <gtest/gtest.h>

#include "kernels/kernel.h"

namespace minim {
namespace {

TEST(PackStoreTest, PacksOncePerContentAndKey) {
  auto store = MakePackStore();
  const Tensor a = Tensor::From<float>({2}, {1, 2}), b = a.Clone();
  int packed = 0;
  const auto pack = [&](std::byte* bytes) { bytes[0] = std::byte(++packed); };
  const auto first = store->GetOrPack(a.view(), "k", 8, pack);
  const auto second = store->GetOrPack(b.view(), "k", 8, pack);
  EXPECT_EQ(first, second);
  EXPECT_EQ(packed, 1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first.get()) % kAlignment, 0u);
  EXPECT_NE(store->GetOrPack(a.view(), "other", 8, pack), first);
  const Tensor c = Tensor::From<float>({2}, {1, 3});
  EXPECT_NE(store->GetOrPack(c.view(), "k", 8, pack), first);
}

TEST(PackStoreTest, DropsWithTheLastHolder) {
  auto store = MakePackStore();
  const Tensor a = Tensor::From<float>({1}, {1});
  int packed = 0;
  const auto pack = [&](std::byte*) { ++packed; };
  store->GetOrPack(a.view(), "k", 8, pack);
  store->GetOrPack(a.view(), "k", 8, pack);
  EXPECT_EQ(packed, 2);
}

TEST(PackStoreTest, FindsTheLivingBlobThatGivesItsSourceBack) {
  auto store = MakePackStore();
  const Tensor a = Tensor::From<float>({9}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  Tensor b = a.Clone();
  b.as<float>()[8] = 0;
  const std::string digest = store->DigestOf(a.view());
  EXPECT_EQ(store->DigestOf(a.Clone().view()), digest);
  EXPECT_NE(store->DigestOf(b.view()), digest);
  EXPECT_NE(store->DigestOf(a.Reshaped({3, 3}).view()), digest);
  const auto copy = [&](std::byte* blob) { std::memcpy(blob, a.data(), a.bytes()); };
  const auto lossy = store->GetOrPack(a.view(), "a", a.bytes(), copy);
  EXPECT_EQ(store->FindOrigin(digest).blob, nullptr);
  auto exact = store->GetOrPack(
      a.view(), "b", a.bytes(), copy,
      [n = a.bytes()](const std::byte* blob, void* source) { std::memcpy(source, blob, n); });
  PackStore::Origin origin = store->FindOrigin(digest);
  EXPECT_EQ(origin.blob, exact);
  origin.unpack(exact.get(), b.data());
  EXPECT_EQ(std::memcmp(b.data(), a.data(), a.bytes()), 0);
  origin.blob.reset();
  exact.reset();
  EXPECT_EQ(store->FindOrigin(digest).blob, nullptr);
}

}  // namespace
}  // namespace minim
