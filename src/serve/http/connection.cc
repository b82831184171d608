#include "serve/http/connection.h"

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <fmt/compile.h>

#include "serve/http/encoding.h"
#include "serve/http/receive.h"

namespace minim::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr size_t kReadAtOnce = 64 << 10;
constexpr size_t kUsualHead = 256;
// After a refusal the client may still be sending: closing at once would make its system drop the
// answer unread.
constexpr std::chrono::milliseconds kLingerTime{2000};
constexpr size_t kLingerBytes = size_t{256} << 20;
// simdjson reads past the end of what it parses.
constexpr size_t kBodyPadding = 64;

constexpr std::string_view kTooManyBytes = "too many bytes of requests in progress; try again";

auto WithError(error_code& error) { return asio::redirect_error(asio::use_awaitable, error); }

void CopyHead(const http::request_parser<http::empty_body>& parser, HttpHead& head) {
  const auto& message = parser.get();
  head.method = std::string(message.method_string());
  head.target = std::string(message.target());
  head.version = static_cast<int>(message.version());
  for (const auto& field : message)
    head.headers.Add(std::string(field.name_string()), std::string(field.value()));
}

std::string WriteHead(const HttpResponse& response, bool keep_alive) {
  std::string head;
  head.reserve(kUsualHead);
  fmt::format_to(std::back_inserter(head),
                 FMT_COMPILE("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n"),
                 response.status, ReasonPhrase(response.status), response.content_type,
                 response.body.size());
  for (const auto& [name, value] : response.headers.fields())
    fmt::format_to(std::back_inserter(head), FMT_COMPILE("{}: {}\r\n"), name, value);
  head += keep_alive ? "\r\n" : "Connection: close\r\n\r\n";
  return head;
}

// Runs on the thread that computed the answer, not on the one that serves sockets.
void Compress(std::string_view coding, size_t min_bytes, HttpResponse& response) {
  if (coding.empty() || response.body.size() < min_bytes) return;
  std::string packed = EncodeContent(coding, response.body);
  if (packed.empty()) return;
  response.body = std::move(packed);
  response.headers.Add("Content-Encoding", std::string(coding));
  response.headers.Add("Vary", "Accept-Encoding");
}

}  // namespace

struct Connection::Reply {
  std::shared_ptr<Mailbox> mailbox;
  std::shared_ptr<Exchange> exchange;
  std::string_view coding;
  size_t min_compressed_bytes;

  void operator()(HttpResponse response) const {
    Compress(coding, min_compressed_bytes, response);
    mailbox->Deliver(exchange, std::move(response));
  }
};

Connection::Connection(std::shared_ptr<HttpShared> shared, const std::shared_ptr<Mailbox>& mailbox,
                       asio::ip::tcp::socket socket)
    : shared_(std::move(shared)),
      mailbox_(mailbox),
      socket_(std::move(socket)),
      timer_(mailbox->context()) {
  ++shared_->connections;
}

Connection::~Connection() {
  ReleaseBody();
  --shared_->connections;
}

asio::awaitable<void> Connection::ServeAll() {
  for (;;) {
    const bool more = co_await ServeOne();
    in_request_ = false;
    ReleaseBody();
    if (!more) break;
  }
}

asio::awaitable<void> Connection::Serve(std::shared_ptr<Connection> self) {
  error_code ignored;
  self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  self->socket_.non_blocking(true, ignored);
  NoteArrivals(self->socket_.native_handle());
  self->SetDeadline(self->shared_->options.idle_timeout);
  self->ArmTimer();
  try {
    co_await self->ServeAll();
  } catch (const std::exception&) {
    // Out of memory, most likely: this connection ends, the others go on.
  }
  self->closed_ = true;
  self->timer_.cancel();
  self->socket_.close(ignored);
}

void Connection::Drain() {
  if (in_request_ || closed_) return;
  error_code ignored;
  socket_.cancel(ignored);
}

// One timer per connection that looks again when it was too early: moving it for every read would
// cost more than the read.
void Connection::SetDeadline(Milliseconds timeout) {
  deadline_ = std::chrono::steady_clock::now() + timeout;
  if (deadline_ < timer_.expiry()) timer_.cancel();
}

void Connection::ArmTimer() {
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](error_code) {
    if (self->closed_) return;
    if (std::chrono::steady_clock::now() >= self->deadline_) {
      self->timed_out_ = true;
      error_code ignored;
      self->socket_.cancel(ignored);
      // If that cancelled nothing, the next deadline decides.
      self->deadline_ = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    }
    self->ArmTimer();
  });
}

bool Connection::AccountBody(size_t bytes) {
  body_bytes_ += bytes;
  return shared_->bodies_bytes.fetch_add(bytes) + bytes <= shared_->options.max_bodies_bytes;
}

void Connection::ReleaseBody() {
  shared_->bodies_bytes -= body_bytes_;
  body_bytes_ = 0;
}

// What is there goes through a buffer of the thread: a connection keeps no more than it got.
Connection::Got Connection::ReadNow() {
  thread_local std::vector<char> buffer(kReadAtOnce);
  const Received got = ReceiveNow(socket_.native_handle(), buffer);
  if (got.bytes < 0 && (errno == EAGAIN || errno == EINTR)) return Got::kNothingYet;
  if (got.bytes <= 0) return Got::kEnd;
  in_.append(buffer.data(), static_cast<size_t>(got.bytes));
  arrival_ = got.arrival;
  return Got::kSome;
}

asio::awaitable<bool> Connection::ReadSome() {
  for (;;) {
    if (timed_out_) co_return false;
    const Got got = ReadNow();
    if (got != Got::kNothingYet) co_return got == Got::kSome;
    error_code error;
    co_await socket_.async_wait(asio::ip::tcp::socket::wait_read, WithError(error));
    if (error) co_return false;
  }
}

// True when `head` is complete. Answers what is wrong itself; a client that leaves is no error.
asio::awaitable<bool> Connection::ReadHead(HttpHead& head) {
  SetDeadline(shared_->options.idle_timeout);
  if (in_.empty()) {
    in_.shrink_to_fit();  // an idle connection keeps no buffer
    error_code error;
    co_await socket_.async_wait(asio::ip::tcp::socket::wait_read, WithError(error));
    if (error || timed_out_ || shared_->draining) co_return false;
  }
  in_request_ = true;
  SetDeadline(shared_->options.header_timeout);
  http::request_parser<http::empty_body> parser;
  parser.skip(true);
  parser.body_limit(boost::none);  // our own framing decides, with an answer
  parser.header_limit(static_cast<uint32_t>(shared_->options.max_header_bytes));
  for (;;) {
    error_code error;
    if (!in_.empty()) {
      in_.erase(0, parser.put(asio::buffer(in_), error));
      if (!error && parser.is_done()) break;
    }
    if (error == http::error::header_limit || in_.size() > shared_->options.max_header_bytes) {
      const std::string message =
          fmt::format("the header exceeds {} bytes", shared_->options.max_header_bytes);
      co_await Refuse(431, message);
      co_return false;
    }
    if (error && error != http::error::need_more) {
      const std::string message = fmt::format("not an HTTP request: {}", error.message());
      co_await Refuse(400, message);
      co_return false;
    }
    if (co_await ReadSome()) continue;
    if (timed_out_) co_await Refuse(408, "the header did not arrive in time");
    co_return false;
  }
  CopyHead(parser, head);
  co_return true;
}

asio::awaitable<bool> Connection::ReadLength(uint64_t length, std::string& body) {
  // Room for what the client announces only up to a bound: it has to send it first.
  body.reserve(std::min<uint64_t>(length, 1 << 20) + kBodyPadding);
  for (;;) {
    const size_t take = std::min<uint64_t>(length - body.size(), in_.size());
    if (!AccountBody(take)) {
      co_await Refuse(503, kTooManyBytes);
      co_return false;
    }
    body.append(in_, 0, take);
    in_.erase(0, take);
    if (body.size() == length) co_return true;
    if (co_await ReadSome()) continue;
    if (timed_out_) co_await Refuse(408, "the body did not arrive in time");
    co_return false;
  }
}

asio::awaitable<bool> Connection::ReadChunked(std::string& body) {
  ChunkDecoder decoder(shared_->options.max_body_bytes);
  for (;;) {
    std::string_view input = in_;
    const size_t before = body.size();
    const bool good = decoder.Feed(input, body);
    in_.erase(0, in_.size() - input.size());
    if (!good) {
      co_await Refuse(decoder.error().http_status, decoder.error().message);
      co_return false;
    }
    if (!AccountBody(body.size() - before)) {
      co_await Refuse(503, kTooManyBytes);
      co_return false;
    }
    if (decoder.done()) co_return true;
    if (co_await ReadSome()) continue;
    if (timed_out_) co_await Refuse(408, "the body did not arrive in time");
    co_return false;
  }
}

asio::awaitable<bool> Connection::ReadBody(const Framing& framing, std::string& body) {
  SetDeadline(shared_->options.body_timeout);
  const bool has_body = framing.chunked || framing.length > 0;
  if (has_body && framing.expect_continue && in_.empty()) {
    const std::string_view interim = "HTTP/1.1 100 Continue\r\n\r\n";
    const std::string_view nothing;
    const bool told = co_await Write(interim, nothing);
    if (!told) co_return false;
  }
  if (framing.chunked) co_return co_await ReadChunked(body);
  co_return co_await ReadLength(framing.length, body);
}

asio::awaitable<bool> Connection::Write(std::string_view head, std::string_view body) {
  std::array<asio::const_buffer, 2> buffers = {asio::buffer(head), asio::buffer(body)};
  error_code error;
  const size_t sent = socket_.write_some(buffers, error);
  if (sent == head.size() + body.size()) co_return true;
  if (error && error != asio::error::would_block) co_return false;
  buffers[0] += sent;  // each as far as it goes
  buffers[1] += sent - std::min(sent, head.size());
  co_await asio::async_write(socket_, buffers, WithError(error));
  co_return !error;
}

asio::awaitable<bool> Connection::WriteResponse(const HttpResponse& response, bool keep_alive,
                                                bool no_body) {
  SetDeadline(shared_->options.write_timeout);
  const std::string head = WriteHead(response, keep_alive);
  const std::string_view body = no_body ? std::string_view() : response.body;
  const bool written = co_await Write(head, body);
  co_return written&& keep_alive;
}

// Reads and drops what the client still sends, after telling it that nothing more will come.
asio::awaitable<void> Connection::Linger() {
  error_code error;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  timed_out_ = false;
  SetDeadline(kLingerTime);
  for (size_t dropped = 0; dropped < kLingerBytes; dropped += in_.size()) {
    in_.clear();
    const bool more = co_await ReadSome();
    if (!more) break;
  }
}

asio::awaitable<void> Connection::Refuse(int http_status, std::string_view message) {
  timed_out_ = false;
  const HttpResponse response = ErrorResponse(http_status, message);
  co_await WriteResponse(response, false, false);
  co_await Linger();
}

// A client that hangs up while its request waits frees its place. Data means a pipelined request:
// then the next read finds out.
void Connection::WatchForHangUp(std::shared_ptr<std::atomic<bool>> cancelled) {
  if (!in_.empty()) return;
  socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this(),
                                                        cancelled](error_code error) {
    if (error || self->closed_) return;
    char byte = 0;
    const ssize_t got = ::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) *cancelled = true;
  });
}

asio::awaitable<HttpResponse> Connection::CallHandler(HttpRequest& request) {
  const auto cancelled = request.cancelled;
  const std::string_view coding = ChooseCoding(request.headers.Get("Accept-Encoding"));
  Reply reply{mailbox_.lock(), nullptr, coding, shared_->options.min_compressed_bytes};
  const auto exchange = std::make_shared<Exchange>(reply.mailbox->context());
  reply.exchange = exchange;
  ResponseCallback callback = std::move(reply);
  shared_->handler(std::move(request), std::move(callback));
  if (!exchange->response) {
    deadline_ = std::chrono::steady_clock::time_point::max();  // the request has its own timeout
    WatchForHangUp(cancelled);
    error_code ignored;
    while (!exchange->response) co_await exchange->wake.async_wait(WithError(ignored));
    socket_.cancel(ignored);
  }
  co_return std::move(*exchange->response);
}

// Serves one request; false when the connection must end.
asio::awaitable<bool> Connection::ServeOne() {
  // What came before that waited for the client's own request before it.
  const auto turn = std::chrono::steady_clock::now();
  HttpHead head;
  const bool has_head = co_await ReadHead(head);
  if (!has_head) co_return false;
  FramingError refusal;
  const auto framing = DecideFraming(head, shared_->options.max_body_bytes, refusal);
  if (!framing) {
    co_await Refuse(refusal.http_status, refusal.message);
    co_return false;
  }
  HttpRequest request{.method = std::move(head.method),
                      .target = std::move(head.target),
                      .headers = std::move(head.headers)};
  const bool has_body = co_await ReadBody(*framing, request.body);
  if (!has_body) co_return false;
  auto body = DecodeContent(request.headers.Get("Content-Encoding"), std::move(request.body),
                            shared_->options.max_body_bytes);
  if (!body.ok()) {
    const StatusCode code = body.status().code();
    const int status = code == StatusCode::kUnsupported         ? 415
                       : code == StatusCode::kResourceExhausted ? 413
                                                                : 400;
    const HttpResponse response = ErrorResponse(status, body.status().message());
    co_return co_await WriteResponse(response, framing->keep_alive, false);
  }
  request.body = std::move(*body);
  // Unpacked bytes count too.
  const size_t grown = request.body.size() - std::min(request.body.size(), body_bytes_);
  if (!AccountBody(grown)) {
    co_await Refuse(503, kTooManyBytes);
    co_return false;
  }
  request.received = std::max(arrival_, turn);
  const bool no_body = request.method == "HEAD";
  const HttpResponse response = co_await CallHandler(request);
  const bool keep_alive = framing->keep_alive && !shared_->draining;
  // Before it is written: what comes after waits for other connections' turns.
  if (response.observer) response.observer->Sent(std::chrono::steady_clock::now() - response.ready);
  co_return co_await WriteResponse(response, keep_alive, no_body);
}

}  // namespace minim::serve
