// Work that must not slow down what is served beside it.
#pragma once

#include <sys/resource.h>

#include <future>

namespace minim::serve {

/// Runs `f` on a thread of low priority and returns, or throws, what it did. `f` must start no
/// thread: that would inherit the priority, and keep it.
template <typename F>
auto InBackground(F f) {
  constexpr int kNicer = 10;
  return std::async(std::launch::async,
                    [&] {
                      // 0 is the calling thread; what is above the lowest priority becomes it.
                      (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + kNicer);
                      return f();
                    })
      .get();
}

}  // namespace minim::serve
