// One keep-alive HTTP connection of a client, and what it is connected to.
#pragma once

// Boost 1.74 uses std::exchange without including it.
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "core/error.h"

namespace minim {

struct Endpoint {
  std::string host;
  std::string port = "80";
};

/// Of "http://HOST:PORT/...".
Result<Endpoint> ParseUrl(std::string_view url);

struct Answer {
  int status = 0;
  size_t json_size = 0;  // the whole body without binary tensors
  std::string body;
};

/// A completion token that puts the error into `error`.
inline auto WithError(boost::system::error_code& error) {
  return boost::asio::redirect_error(boost::asio::use_awaitable, error);
}

/// Arguments of its coroutines are the caller's named variables: g++ 12 destroys some temporaries
/// of a co_await expression twice.
class HttpLine {
 public:
  using Where = boost::asio::ip::tcp::resolver::results_type;

  HttpLine(boost::asio::io_context& context, const Where& where);

  /// Sends `request`, connecting first where needed. False: no answer; `problem` says why, and the
  /// next call connects again.
  boost::asio::awaitable<bool> Ask(const std::string& request, std::chrono::milliseconds timeout,
                                   Answer& answer, std::string& problem);

 private:
  using Clock = std::chrono::steady_clock;
  // Shared with the timer's handler, which may run after the line has gone.
  struct Wire {
    explicit Wire(boost::asio::io_context& context) : socket(context) {}
    boost::asio::ip::tcp::socket socket;
    Clock::time_point deadline = Clock::time_point::max();
  };

  void SetTimeout(std::chrono::milliseconds timeout);
  boost::asio::awaitable<void> Exchange(const std::string& request, Answer& answer,
                                        boost::system::error_code& error);
  boost::asio::awaitable<void> More(boost::system::error_code& error);
  boost::asio::awaitable<void> Read(Answer& answer, boost::system::error_code& error);

  const std::shared_ptr<Wire> wire_;
  boost::asio::steady_timer timer_;
  const Where& where_;
  std::string in_;
};

/// GET: the body of a 200. Errors: kUnavailable when nothing answers, kNotFound with what was
/// answered instead.
Result<std::string> Fetch(const std::string& url, const std::string& target);

}  // namespace minim
