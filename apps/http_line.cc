#include "apps/http_line.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/write.hpp>
#include <charconv>

#include "serve/http/message.h"

namespace minim {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

uint64_t NumberField(std::string_view head, std::string_view name, uint64_t fallback) {
  for (size_t at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at)) {
    at += 2;
    const std::string_view line = head.substr(at, head.find("\r\n", at) - at);
    if (line.size() <= name.size() || line[name.size()] != ':' ||
        !serve::EqualsIgnoringCase(line.substr(0, name.size()), name))
      continue;
    const std::string_view text = serve::Trim(line.substr(name.size() + 1));
    std::from_chars(text.data(), text.data() + text.size(), fallback);
    return fallback;
  }
  return fallback;
}

}  // namespace

Result<Endpoint> ParseUrl(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return InvalidArgument("url '{}': expected http://HOST:PORT", url);
  std::string_view rest = url.substr(kScheme.size());
  rest = rest.substr(0, rest.find('/'));
  Endpoint endpoint;
  const size_t colon = rest.rfind(':');
  endpoint.host = std::string(rest.substr(0, colon));
  if (colon != std::string_view::npos) endpoint.port = std::string(rest.substr(colon + 1));
  if (endpoint.host.starts_with('[') && endpoint.host.ends_with(']'))
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  if (endpoint.host.empty() || endpoint.port.empty())
    return InvalidArgument("url '{}': expected http://HOST:PORT", url);
  return endpoint;
}

HttpLine::HttpLine(asio::io_context& context, const Where& where)
    : wire_(std::make_shared<Wire>(context)), timer_(context), where_(where) {}

asio::awaitable<bool> HttpLine::Ask(const std::string& request, std::chrono::milliseconds timeout,
                                    Answer& answer, std::string& problem) {
  SetTimeout(timeout);
  error_code error;
  co_await Exchange(request, answer, error);
  wire_->deadline = Clock::time_point::max();
  timer_.cancel();
  if (!error) co_return true;
  problem = error == asio::error::operation_aborted ? "no answer in time" : error.message();
  error_code ignored;
  wire_->socket.close(ignored);
  in_.clear();
  co_return false;
}

void HttpLine::SetTimeout(std::chrono::milliseconds timeout) {
  wire_->deadline = Clock::now() + timeout;
  timer_.expires_at(wire_->deadline);
  timer_.async_wait([wire = wire_](error_code) {
    error_code ignored;
    if (Clock::now() >= wire->deadline) wire->socket.close(ignored);
  });
}

asio::awaitable<void> HttpLine::Exchange(const std::string& request, Answer& answer,
                                         error_code& error) {
  tcp::socket& socket = wire_->socket;
  if (!socket.is_open()) {
    co_await asio::async_connect(socket, where_, WithError(error));
    if (error) co_return;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
  }
  co_await asio::async_write(socket, asio::buffer(request), WithError(error));
  if (!error) co_await Read(answer, error);
}

asio::awaitable<void> HttpLine::More(error_code& error) {
  const size_t before = in_.size();
  in_.resize(before + (16 << 10));
  const size_t count = co_await wire_->socket.async_read_some(
      asio::buffer(in_.data() + before, in_.size() - before), WithError(error));
  in_.resize(before + count);
}

asio::awaitable<void> HttpLine::Read(Answer& answer, error_code& error) {
  size_t head_size = std::string::npos;
  while ((head_size = in_.find("\r\n\r\n")) == std::string::npos) {
    co_await More(error);
    if (error) co_return;
  }
  const std::string head = in_.substr(0, head_size + 2);
  std::from_chars(head.data() + std::min<size_t>(9, head.size()), head.data() + head.size(),
                  answer.status);
  const uint64_t length = NumberField(head, "Content-Length", 0);
  while (in_.size() < head_size + 4 + length) {
    co_await More(error);
    if (error) co_return;
  }
  answer.body.assign(in_, head_size + 4, length);
  answer.json_size =
      std::min<uint64_t>(length, NumberField(head, "Inference-Header-Content-Length", length));
  in_.erase(0, head_size + 4 + length);
}

Result<std::string> Fetch(const std::string& url, const std::string& target) {
  MINIM_TRY(const Endpoint endpoint, ParseUrl(url));
  asio::io_context context{1};
  error_code error;
  tcp::resolver resolver(context);
  const auto where = resolver.resolve(endpoint.host, endpoint.port, error);
  if (error) return Unavailable("{}: {}", url, error.message());
  HttpLine line(context, where);
  const std::string request =
      fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", target, endpoint.host);
  Answer answer;
  std::string problem;
  bool answered = false;
  asio::co_spawn(
      context,
      [&]() -> asio::awaitable<void> {
        answered = co_await line.Ask(request, std::chrono::seconds(10), answer, problem);
      },
      asio::detached);
  context.run();
  if (!answered) return Unavailable("{}: {}; is 'minim serve' running there?", url, problem);
  if (answer.status != 200)
    return NotFound("{}{}: HTTP {}: {}", url, target, answer.status, answer.body.substr(0, 300));
  return std::move(answer.body);
}

}  // namespace minim
