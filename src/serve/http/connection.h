// One client connection: reads requests, hands them over, writes answers in order. Internal to
// http/, as mailbox.h is: the headers here that see Boost.
#pragma once

#include <utility>  // first: Boost 1.74 uses std::exchange without including it

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>

#include "serve/http/framing.h"
#include "serve/http/http_server.h"
#include "serve/http/mailbox.h"

namespace minim::serve {

/// What all connections share.
struct HttpShared {
  HttpServerOptions options;
  HttpHandler handler;
  std::atomic<size_t> connections{0};
  std::atomic<size_t> bodies_bytes{0};
  std::atomic<bool> draining{false};
};

// Lives on one io_context thread: no locks.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpShared> shared, const std::shared_ptr<Mailbox>& mailbox,
             boost::asio::ip::tcp::socket socket);
  ~Connection();

  /// Serves until the client or a limit ends it. Keeps the connection alive meanwhile.
  static boost::asio::awaitable<void> Serve(std::shared_ptr<Connection> self);
  /// Ends it now if no request is in progress, else after the answer.
  void Drain();

 private:
  using Milliseconds = std::chrono::milliseconds;
  struct Reply;  // what the handler's callback owns

  // Arguments of these are named variables or literals of the caller, never temporaries: g++ 12
  // destroys some temporaries of a co_await expression twice.
  boost::asio::awaitable<bool> ServeOne();
  /// Waits for more; false at the end, of the client or of its time.
  boost::asio::awaitable<bool> ReadSome();
  boost::asio::awaitable<void> ServeAll();
  boost::asio::awaitable<bool> ReadHead(HttpHead& head);
  boost::asio::awaitable<bool> ReadBody(const Framing& framing, std::string& body);
  boost::asio::awaitable<bool> ReadChunked(std::string& body);
  boost::asio::awaitable<bool> ReadLength(uint64_t length, std::string& body);
  boost::asio::awaitable<bool> Write(std::string_view head, std::string_view body);
  boost::asio::awaitable<bool> WriteResponse(const HttpResponse& response, bool keep_alive,
                                             bool no_body);
  boost::asio::awaitable<void> Refuse(int http_status, std::string_view message);
  boost::asio::awaitable<void> Linger();
  boost::asio::awaitable<HttpResponse> CallHandler(HttpRequest& request);
  enum class Got { kSome, kNothingYet, kEnd };
  Got ReadNow();
  void WatchForHangUp(std::shared_ptr<std::atomic<bool>> cancelled);
  bool AccountBody(size_t bytes);
  void ReleaseBody();
  void SetDeadline(Milliseconds timeout);
  void ArmTimer();

  const std::shared_ptr<HttpShared> shared_;
  // Weak: its context owns the coroutine that owns this.
  const std::weak_ptr<Mailbox> mailbox_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  std::chrono::steady_clock::time_point deadline_;
  bool timed_out_ = false;
  bool closed_ = false;
  bool in_request_ = false;
  std::string in_;                                 // received, not yet used
  std::chrono::steady_clock::time_point arrival_;  // of its end
  size_t body_bytes_ = 0;
};

}  // namespace minim::serve
