// A real Redis server as a child process, on a free port of its own.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "serve/cache/redis_protocol.h"

namespace minim::serve {

/// Skips the test where there is no Redis to start.
#define MINIM_NEEDS_REDIS() \
  if (!RedisServer::Installed()) GTEST_SKIP() << "redis-server is not installed"

class RedisServer {
 public:
  static bool Installed() { return ::access(kBinary, X_OK) == 0; }

  /// Waits until it answers. `arguments`: more of redis-server's.
  explicit RedisServer(std::vector<std::string> arguments = {})
      : port_(FreePort()), arguments_(std::move(arguments)) {
    Start();
  }
  ~RedisServer() { Kill(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  uint16_t port() const { return port_; }
  /// Of a deadline that a busy machine does not miss.
  std::string Url(const std::string& query = "deadline=10s") const {
    return "redis://127.0.0.1:" + std::to_string(port_) + "/0?" + query;
  }

  void Start() {
    std::vector<std::string> all = {
        kBinary,        "--port", std::to_string(port_), "--bind",   "127.0.0.1", "--save", "",
        "--appendonly", "no",     "--logfile",           "/dev/null"};
    all.insert(all.end(), arguments_.begin(), arguments_.end());
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::vector<char*> argv;
      for (std::string& argument : all) argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    while (Ask({"PING"}).text != "PONG" && ::waitpid(pid_, nullptr, WNOHANG) == 0)
      ::poll(nullptr, 0, 5);
  }
  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void Freeze() { ::kill(pid_, SIGSTOP); }
  void Thaw() { ::kill(pid_, SIGCONT); }

  /// Over a connection of its own; an error where there is no server.
  RedisReply Ask(std::initializer_list<std::string_view> command) const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    RedisReply reply{.kind = RedisReply::Kind::kError, .text = "no answer"};
    const sockaddr_in address = AddressOf(port_);
    const std::string bytes = RedisCommand(command);
    RedisReader reader(size_t{1} << 24);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
        ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
      char buffer[4096];
      for (ssize_t size; (size = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
        reader.Feed({buffer, static_cast<size_t>(size)});
        const auto next = reader.Next();
        if (!next.ok()) break;
        if (!next->has_value()) continue;
        reply = **next;
        break;
      }
    }
    ::close(fd);
    return reply;
  }

 private:
  static constexpr const char* kBinary = "/usr/bin/redis-server";

  static sockaddr_in AddressOf(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  static uint16_t FreePort() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = AddressOf(0);
    socklen_t size = sizeof(address);
    ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    ::close(fd);
    return ntohs(address.sin_port);
  }

  const uint16_t port_;
  const std::vector<std::string> arguments_;
  pid_t pid_ = -1;
};

}  // namespace minim::serve
