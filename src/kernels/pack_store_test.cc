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

}  // namespace
}  // namespace minim
