// Work that must not slow down what is served beside it.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <optional>
#include <thread>

namespace minim::serve {

/// Runs `f` on a thread of low priority and returns what it gave. `f` must start no thread: that
/// would inherit the priority, and keep it.
template <typename F>
auto InBackground(F f) {
  constexpr int kNice = 10;
  std::optional<decltype(f())> result;
  std::thread([&] {
    // Not allowed, or no such thing here: then at the usual priority.
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
    result.emplace(f());
  }).join();
  return *std::move(result);
}

}  // namespace minim::serve
