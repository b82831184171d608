// HttpServer: sockets and connections. Speaks HTTP/1.1 with keep-alive and pipelining; every limit
// is checked before memory is taken.
// Threads: handlers are called on the server's threads; a ResponseCallback may be called from any
// thread, also after the server stopped.
// Lifetime: the destructor stops everything; answers that come later are dropped.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/error.h"
#include "serve/http/message.h"

namespace minim::serve {

struct HttpServerOptions {
  std::string address = "127.0.0.1";
  /// 0 takes any free port; see port().
  uint16_t port = 0;
  int threads = 1;
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = size_t{64} << 20;
  /// Bytes of bodies being received or answered, over all connections.
  size_t max_bodies_bytes = size_t{1} << 30;
  size_t max_connections = 16000;
  std::chrono::milliseconds header_timeout{10000};
  std::chrono::milliseconds body_timeout{60000};
  std::chrono::milliseconds idle_timeout{75000};
  std::chrono::milliseconds write_timeout{60000};
  /// Answers smaller than this are never compressed.
  size_t min_compressed_bytes = 1024;
};

class HttpServer {
 public:
  /// Listens and starts to serve. Errors: kUnavailable names the address and the system's reason.
  static Result<std::unique_ptr<HttpServer>> Start(HttpServerOptions options, HttpHandler handler);
  ~HttpServer();

  uint16_t port() const;
  size_t connections() const;

  /// Takes no new connections, closes the idle ones, and lets requests in progress end with
  /// "Connection: close". Returns when none is left or after `limit`; true if none is left.
  bool Drain(std::chrono::milliseconds limit);

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace minim::serve
