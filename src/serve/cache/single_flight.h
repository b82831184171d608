// SingleFlight: identical requests in flight run once; the others wait for the first one's answer.
// Threads: every method may be called concurrently; callbacks run on the thread that calls Land.
#pragma once

#include <functional>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "serve/cache/siphash.h"

namespace minim::serve {

template <typename Answer>
class SingleFlight {
 public:
  using Waiter = std::function<void(const Answer&)>;

  /// True if the caller leads: it must compute the answer and call Land, whatever happens; its
  /// waiter is dropped. False if someone else already computes it: the waiter is called then.
  bool Join(const Digest128& key, Waiter waiter) {
    std::lock_guard lock(mutex_);
    const auto [it, is_new] = flights_.try_emplace(key);
    if (!is_new) it->second.push_back(std::move(waiter));
    return is_new;
  }

  /// Ends the flight and tells everyone who joined since.
  void Land(const Digest128& key, const Answer& answer) {
    std::vector<Waiter> waiters;
    {
      std::lock_guard lock(mutex_);
      const auto it = flights_.find(key);
      if (it == flights_.end()) return;
      waiters = std::move(it->second);
      flights_.erase(it);
    }
    for (const Waiter& waiter : waiters) waiter(answer);
  }

 private:
  struct KeyHash {
    size_t operator()(const Digest128& key) const { return key.low; }
  };
  std::mutex mutex_;
  std::unordered_map<Digest128, std::vector<Waiter>, KeyHash> flights_;  // guarded by mutex_
};

}  // namespace minim::serve
