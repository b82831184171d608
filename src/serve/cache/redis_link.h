// RedisLink: one connection to a Redis server, on a thread of its own. Commands are pipelined; who
// sends one never waits. After anything that goes wrong the connection is made anew, later and
// later while that does not help. Threads: Send may be called concurrently; `done` runs on the
// link's thread. Lifetime: the destructor ends the thread; what is not answered by then has failed.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "serve/cache/circuit_breaker.h"
#include "serve/cache/prediction_cache.h"
#include "serve/cache/redis_protocol.h"

namespace minim::serve {

struct RedisLinkOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 6379;
  int database = 0;
  Duration deadline = std::chrono::milliseconds(5);  // of every reply
  size_t most_value = size_t{1} << 20;               // in a reply
  BreakerOptions breaker = {};
};

class RedisLink {
 public:
  /// The replies in order; none if the server did not give them all in time.
  using Done = std::function<void(std::span<const RedisReply>)>;

  /// Begins to connect.
  RedisLink(RedisLinkOptions options, NowFunction now);
  ~RedisLink();
  RedisLink(const RedisLink&) = delete;
  RedisLink& operator=(const RedisLink&) = delete;

  /// `commands` as RedisCommand makes them, and how many there are. False, and `done` is not
  /// called, while the server is not there or has too much to do.
  bool Send(std::string commands, size_t count, Done done);
  bool is_up() const;
  /// Connections that could not be made or were given up.
  uint64_t failures() const;

 private:
  class Loop;
  const std::shared_ptr<Loop> loop_;
  std::thread thread_;
};

}  // namespace minim::serve
