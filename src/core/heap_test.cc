#include "core/heap.h"

#include <gtest/gtest.h>

#include <barrier>
#include <memory>
#include <thread>
#include <vector>

namespace minim {
namespace {

// First, while no allocator but a sanitizer's has been at work.
TEST(HeapTest, TheFirstCallsMayBeAtOnce) {
  constexpr int kThreads = 8;
  std::barrier start(kThreads);
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      ReturnFreedPages();
    });
  }
}

TEST(HeapTest, FreedPagesGoBackThoughLaterOnesStay) {
#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "another allocator keeps what is freed";
#endif
  constexpr size_t kPiece = 16 << 10, kPieces = 4096;  // below the size that is mapped by itself
  std::vector<std::unique_ptr<char[]>> pieces;
  for (size_t i = 0; i < kPieces; ++i) pieces.push_back(std::make_unique<char[]>(kPiece));
  const auto last = std::make_unique<char[]>(kPiece);
  const size_t before = AnonymousMemory();
  ASSERT_GT(before, kPiece * kPieces / 2);
  pieces.clear();
  ReturnFreedPages();
  EXPECT_LT(AnonymousMemory(), before - kPiece * kPieces / 2);
}

}  // namespace
}  // namespace minim
