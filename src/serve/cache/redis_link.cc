#include "serve/cache/redis_link.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

namespace minim::serve {
namespace {

constexpr size_t kMostQueuedBytes = size_t{16} << 20;
constexpr size_t kMostWaiting = 10000;
// To connect and to greet. No request waits for it.
constexpr Duration kGreetingTime = std::chrono::milliseconds(500);

// A socket that begins to connect; -1: it cannot.
int BeginConnect(const std::string& host, uint16_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return -1;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd =
        ::socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) continue;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (::connect(fd, at->ai_addr, at->ai_addrlen) == 0 || errno == EINPROGRESS) return fd;
    ::close(fd);
  }
  return -1;
}

}  // namespace

class RedisLink::Loop {
 public:
  Loop(RedisLinkOptions options, NowFunction now)
      : options_(std::move(options)),
        now_(std::move(now)),
        breaker_(options_.breaker),
        wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    MINIM_CHECK(wake_ >= 0);
  }
  ~Loop() {
    if (socket_ >= 0) ::close(socket_);
    ::close(wake_);
  }

  bool Send(std::string commands, size_t count, Done done) {
    std::lock_guard lock(mutex_);
    const bool full = queued_bytes_ + unsent_.load() > kMostQueuedBytes ||
                      queue_.size() + waiting_.load() > kMostWaiting;
    if (!up_.load() || full) return false;
    queued_bytes_ += commands.size();
    const TimePoint due = now_() + options_.deadline;
    queue_.push_back({std::move(commands), {count, {}, std::move(done), due}});
    if (queue_.size() == 1) Wake();
    return true;
  }

  void Stop() {
    stopped_ = true;
    Wake();
  }
  bool is_up() const { return up_.load(); }
  uint64_t failures() const { return failures_.load(); }

  void Run() {
    while (!stopped_.load()) {
      if (state_ == State::kDown && breaker_.MayTry(now_())) Connect();
      TakeQueue();
      Flush();
      Wait();
      Receive();
      if (now_() >= Due()) Fail();
    }
    Disconnect();
  }

 private:
  enum class State { kDown, kConnecting, kGreeting, kUp };
  struct Waiting {
    size_t count = 1;
    std::vector<RedisReply> replies;
    Done done;
    TimePoint due;
  };
  struct Queued {
    std::string bytes;
    Waiting waiting;
  };

  void Wake() {
    const uint64_t one = 1;
    // A full counter wakes as well.
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof(one));
  }

  void Connect() {
    socket_ = BeginConnect(options_.host, options_.port);
    if (socket_ < 0) return Fail();
    state_ = State::kConnecting;
    greeted_by_ = now_() + kGreetingTime;
  }

  // The database is chosen, and the server shows that it answers, before any request relies on it.
  void Greet() {
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
      return Fail();
    state_ = State::kGreeting;
    out_ = RedisCommand({"SELECT", std::to_string(options_.database)}) + RedisCommand({"PING"});
    waiting_on_.push_back({2, {}, [this](auto replies) { Greeted(replies); }, greeted_by_});
  }

  void Greeted(std::span<const RedisReply> replies) {
    for (const RedisReply& reply : replies)
      if (reply.kind == RedisReply::Kind::kError) broken_ = true;
    if (replies.empty() || broken_) return;
    state_ = State::kUp;
    up_ = true;
  }

  // When to give up, if nothing happens until then.
  TimePoint Due() const {
    if (state_ == State::kConnecting) return greeted_by_;
    return waiting_on_.empty() ? TimePoint::max() : waiting_on_.front().due;
  }

  void TakeQueue() {
    std::vector<Queued> taken;
    {
      std::lock_guard lock(mutex_);
      taken.swap(queue_);
      queued_bytes_ = 0;
      waiting_ += taken.size();
      for (const Queued& queued : taken) unsent_ += queued.bytes.size();
    }
    for (Queued& queued : taken) {
      out_ += queued.bytes;
      waiting_on_.push_back(std::move(queued.waiting));
    }
  }

  void Flush() {
    while (state_ >= State::kGreeting && sent_ < out_.size()) {
      const ssize_t sent =
          ::send(socket_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno != EAGAIN) return Fail();
      if (sent < 0) break;
      sent_ += static_cast<size_t>(sent);
    }
    if (sent_ == out_.size()) out_.clear(), sent_ = 0;
    unsent_ = out_.size() - sent_;
  }

  int WaitMilliseconds() const {
    const TimePoint until = state_ == State::kDown ? breaker_.retry_at() : Due();
    if (until == TimePoint::max()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now_()).count();
    return static_cast<int>(std::clamp<int64_t>(left, 0, 60000));
  }

  void Wait() {
    pollfd polled[2] = {{wake_, POLLIN, 0}, {socket_, POLLIN, 0}};
    if (state_ == State::kConnecting) polled[1].events = POLLOUT;
    if (sent_ < out_.size()) polled[1].events |= POLLOUT;
    ::poll(polled, state_ == State::kDown ? 1 : 2, WaitMilliseconds());
    uint64_t count = 0;
    if (polled[0].revents != 0) {
      [[maybe_unused]] const ssize_t read = ::read(wake_, &count, sizeof(count));
    }
    if (state_ == State::kConnecting && polled[1].revents != 0) Greet();
  }

  void Receive() {
    if (state_ < State::kGreeting) return;
    char buffer[1 << 16];
    while (true) {
      const ssize_t size = ::recv(socket_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) return;
      if (size <= 0) return Fail();
      reader_->Feed({buffer, static_cast<size_t>(size)});
      if (!TakeReplies()) return Fail();
      if (static_cast<size_t>(size) < sizeof(buffer)) return;
    }
  }

  // False if the connection cannot go on.
  bool TakeReplies() {
    while (true) {
      auto reply = reader_->Next();
      if (!reply.ok()) return false;
      if (!reply->has_value()) return true;
      if (waiting_on_.empty()) return false;
      Waiting& front = waiting_on_.front();
      front.replies.push_back(std::move(**reply));
      if (front.replies.size() < front.count) continue;
      if (state_ == State::kUp) breaker_.Succeeded();
      const Waiting done = std::move(front);
      Forget();
      done.done(done.replies);
      if (broken_ || stopped_.load()) return false;
    }
  }

  void Forget() {
    waiting_on_.pop_front();
    waiting_ = waiting_on_.size();
  }

  void Fail() {
    ++failures_;
    breaker_.Failed(now_());
    Disconnect();
  }

  // All that was not answered has failed.
  void Disconnect() {
    {
      std::lock_guard lock(mutex_);
      up_ = false;
    }
    TakeQueue();
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
    state_ = State::kDown;
    broken_ = false;
    out_.clear();
    sent_ = 0;
    unsent_ = 0;
    reader_.emplace(options_.most_value);
    std::deque<Waiting> failed;
    failed.swap(waiting_on_);
    waiting_ = 0;
    for (const Waiting& waiting : failed) waiting.done({});
  }

  const RedisLinkOptions options_;
  const NowFunction now_;
  std::atomic<bool> stopped_{false}, up_{false};
  std::atomic<uint64_t> failures_{0};
  std::atomic<size_t> unsent_{0}, waiting_{0};
  std::mutex mutex_;
  std::vector<Queued> queue_;  // guarded by mutex_
  size_t queued_bytes_ = 0;    // guarded by mutex_

  // Of the link's thread:
  CircuitBreaker breaker_;
  const int wake_;
  int socket_ = -1;
  State state_ = State::kDown;
  bool broken_ = false;  // the server refused the greeting
  TimePoint greeted_by_;
  std::string out_;
  size_t sent_ = 0;  // of out_
  std::deque<Waiting> waiting_on_;
  std::optional<RedisReader> reader_{std::in_place, options_.most_value};
};

RedisLink::RedisLink(RedisLinkOptions options, NowFunction now)
    : loop_(std::make_shared<Loop>(std::move(options), std::move(now))),
      thread_([loop = loop_] { loop->Run(); }) {}

RedisLink::~RedisLink() {
  loop_->Stop();
  // A callback may hold the last reference to the cache.
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

bool RedisLink::Send(std::string commands, size_t count, Done done) {
  return loop_->Send(std::move(commands), count, std::move(done));
}
bool RedisLink::is_up() const { return loop_->is_up(); }
uint64_t RedisLink::failures() const { return loop_->failures(); }

}  // namespace minim::serve
