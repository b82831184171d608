#include "serve/grpc/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

namespace minim::serve {
namespace {

constexpr int kBacklog = 4096;
constexpr int kPauseMs = 50;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

struct Endpoint {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&address); }
};

Result<Endpoint> Parse(const std::string& address, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    return InvalidArgument("address '{}': expected an IP address such as 127.0.0.1 or ::", address);
  Endpoint endpoint{.size = found->ai_addrlen};
  std::memcpy(&endpoint.address, found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  return endpoint;
}

// No reuse of the port by two processes, which gRPC's own listener allows.
Result<Fd> Listen(const ListenerOptions& options) {
  MINIM_TRY(Endpoint endpoint, Parse(options.address, options.port));
  Fd fd(::socket(endpoint.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (fd.get() >= 0 && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      ::bind(fd.get(), endpoint.get(), endpoint.size) == 0 && ::listen(fd.get(), kBacklog) == 0)
    return fd;
  return Unavailable("cannot listen on {}:{}: {}; choose another --grpc-port", options.address,
                     options.port, std::strerror(errno));
}

Result<uint16_t> PortOf(const Fd& fd) {
  Endpoint endpoint;
  if (::getsockname(fd.get(), endpoint.get(), &endpoint.size) != 0)
    return Internal("getsockname: {}", std::strerror(errno));
  // The port is at the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in&>(endpoint.address).sin_port);
}

int HighestDescriptor(int spare) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX) return INT32_MAX;
  return static_cast<int>(limit.rlim_cur) - spare;
}

}  // namespace

class Listener::Impl {
 public:
  Impl(const ListenerOptions& options, std::function<void(int)> adopt)
      : options_(options), adopt_(std::move(adopt)) {}
  ~Impl() { Stop(); }

  Status Start() {
    MINIM_TRY(listening_, Listen(options_));
    MINIM_TRY(port_, PortOf(listening_));
    wake_ = Fd(::eventfd(0, EFD_CLOEXEC));
    spare_ = Fd(::dup(wake_.get()));
    if (wake_.get() < 0 || spare_.get() < 0)
      return Unavailable("cannot listen: {}", std::strerror(errno));
    thread_ = std::thread([this] { Run(); });
    return {};
  }

  void Stop() {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    // Fails only if the counter is full, and then the thread is woken anyway.
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
    thread_.join();
    listening_ = Fd();
  }

  uint16_t port() const { return port_; }

 private:
  void Run() {
    for (;;) {
      pollfd waiting[2] = {{listening_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      if (::poll(waiting, 2, -1) < 0 && errno != EINTR) return;
      if (waiting[1].revents != 0) return;
      if (waiting[0].revents != 0) AcceptAll();
    }
  }

  void AcceptAll() {
    for (;;) {
      Fd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (fd.get() >= 0) {
        Adopt(std::move(fd));
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        return Shed();
      } else if (errno != ECONNABORTED && errno != EINTR && errno != EPROTO) {
        return;
      }
    }
  }

  void Adopt(Fd fd) {
    if (fd.get() > HighestDescriptor(options_.spare_descriptors)) return;
    const int on = 1;
    (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    adopt_(fd.Release());
  }

  // No descriptor is left: one that was kept back lets the next client in and out again, so that it
  // learns at once and the loop does not spin.
  void Shed() {
    spare_ = Fd();
    {
      const Fd refused(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
    spare_ = Fd(::dup(wake_.get()));
    pollfd stop{wake_.get(), POLLIN, 0};
    (void)::poll(&stop, 1, kPauseMs);
  }

  const ListenerOptions options_;
  const std::function<void(int)> adopt_;
  Fd listening_, wake_, spare_;
  uint16_t port_ = 0;
  std::thread thread_;
};

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Listener::~Listener() = default;

Result<std::unique_ptr<Listener>> Listener::Start(ListenerOptions options,
                                                  std::function<void(int)> adopt) {
  auto impl = std::make_unique<Impl>(options, std::move(adopt));
  MINIM_TRY(impl->Start());
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

uint16_t Listener::port() const { return impl_->port(); }
void Listener::Stop() { impl_->Stop(); }

}  // namespace minim::serve
