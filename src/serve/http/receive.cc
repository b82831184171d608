#include "serve/http/receive.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <ctime>

namespace minim::serve {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

nanoseconds Since1970(const timespec& time) {
  return seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

// How long it lay there.
nanoseconds AgeOf(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_TIMESTAMPNS) continue;
    timespec arrived{}, now{};
    std::memcpy(&arrived, CMSG_DATA(part), sizeof(arrived));
    clock_gettime(CLOCK_REALTIME, &now);  // the clock of SO_TIMESTAMPNS: socket(7)
    return std::max(Since1970(now) - Since1970(arrived), nanoseconds(0));
  }
  return {};
}

}  // namespace

void NoteArrivals(int socket) {
  const int on = 1;
  (void)setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
}

Received ReceiveNow(int socket, std::span<char> buffer) {
  iovec space{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
  msghdr message{};
  message.msg_iov = &space;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t bytes = recvmsg(socket, &message, MSG_DONTWAIT);
  const auto now = steady_clock::now();
  return {bytes, bytes > 0 ? now - AgeOf(message) : now};
}

}  // namespace minim::serve
