// A blocking client over a plain socket, for tests that must control every byte.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>

namespace minim::serve {

class RawClient {
 public:
  explicit RawClient(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~RawClient() { ::close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return connected_; }
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// Closes so that the peer sees a reset.
  void Reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    ::close(fd_);
    fd_ = -1;
  }

  /// Everything until the peer closes or `seconds` pass.
  std::string ReadAll(double seconds = 5) {
    while (Receive(seconds)) {
    }
    return std::move(in_);
  }

  /// One answer: head and a body of Content-Length bytes. Empty if the peer closed.
  std::string ReadResponse(double seconds = 5) {
    size_t end = 0;
    while ((end = in_.find("\r\n\r\n")) == std::string::npos)
      if (!Receive(seconds)) return std::move(in_);
    const size_t field = in_.find("Content-Length: ");
    const size_t length = field < end ? std::strtoull(in_.c_str() + field + 16, nullptr, 10) : 0;
    while (in_.size() < end + 4 + length)
      if (!Receive(seconds)) return std::move(in_);
    std::string response = in_.substr(0, end + 4 + length);
    in_.erase(0, response.size());
    return response;
  }

 private:
  bool Receive(double seconds) {
    pollfd waiting{fd_, POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(seconds * 1000)) <= 0) return false;
    char buffer[65536];
    const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    in_.append(buffer, static_cast<size_t>(got));
    return true;
  }

  int fd_;
  bool connected_ = false;
  std::string in_;
};

/// 200 of "HTTP/1.1 200 OK..."; 0 if there is no answer.
inline int StatusOf(std::string_view response) {
  return response.starts_with("HTTP/1.1 ") ? std::atoi(std::string(response.substr(9, 3)).c_str())
                                           : 0;
}

inline std::string BodyOf(const std::string& response) {
  const size_t end = response.find("\r\n\r\n");
  return end == std::string::npos ? "" : response.substr(end + 4);
}

}  // namespace minim::serve
