// What a socket holds, and since when.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <span>

namespace minim::serve {

/// From then on the system notes when data arrives; where it cannot, reading counts as arrival.
void NoteArrivals(int socket);

struct Received {
  /// As of recv(2): negative with errno EAGAIN when there is nothing yet, 0 at the end.
  ssize_t bytes = 0;
  /// When the last of it came to this machine, which may be long before it is read. Never later
  /// than now. A step of the system's clock moves it for what is waiting at that moment.
  std::chrono::steady_clock::time_point arrival;
};
/// Never waits. `socket` is one that NoteArrivals was called for.
Received ReceiveNow(int socket, std::span<char> buffer);

}  // namespace minim::serve
