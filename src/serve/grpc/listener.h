// Listener: accepts TCP connections on a thread of its own and hands their descriptors over. gRPC
// 1.51's own listener never accepts again once the process has run out of descriptors
// (CVE-2023-4785); this one refuses newcomers before that.
// Threads: start, stop and destroy it from one thread; `adopt` runs on the listener's.
// Lifetime: whoever takes a descriptor closes it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/error.h"

namespace minim::serve {

struct ListenerOptions {
  std::string address = "127.0.0.1";
  /// 0 takes any free port.
  uint16_t port = 0;
  /// Descriptors that stay free for files and other sockets: a connection whose number comes nearer
  /// to the process's limit is closed at once.
  int spare_descriptors = 64;
};

class Listener {
 public:
  /// Errors: kInvalidArgument for what is no address, kUnavailable with the system's reason.
  static Result<std::unique_ptr<Listener>> Start(ListenerOptions options,
                                                 std::function<void(int fd)> adopt);
  /// Stops.
  ~Listener();

  uint16_t port() const;
  /// Takes no new connections from now on.
  void Stop();

 private:
  class Impl;
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace minim::serve
