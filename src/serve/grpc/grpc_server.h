// GrpcServer: the Open Inference Protocol and the health check over gRPC, on a port of its own.
// Threads: calls are served on gRPC's threads; start, drain and destroy it from one thread.
// Lifetime: the destructor cancels what is in progress and waits until it has ended.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "core/error.h"

namespace minim::serve {

class Inference;
class Repository;

struct GrpcServerOptions {
  std::string address = "127.0.0.1";
  /// 0 takes any free port; see port().
  uint16_t port = 0;
  size_t max_message_bytes = size_t{64} << 20;
  /// Bytes of requests in progress, over all connections.
  size_t max_messages_bytes = size_t{1} << 30;
  /// Calls at a time, per connection.
  int max_calls = 1024;
  /// Requests of one stream that are worked on at a time; more wait in the socket.
  size_t max_stream_requests = 64;
  /// A client that does not answer a ping within `keepalive_timeout` is gone.
  std::chrono::milliseconds keepalive{60000};
  std::chrono::milliseconds keepalive_timeout{20000};
  /// Descriptors that are left for other uses; see listener.h.
  int spare_descriptors = 64;
  std::string server_version;
  /// Readiness, as the load balancer sees it.
  std::function<bool()> ready;
};

class GrpcServer {
 public:
  /// Listens and starts to serve. Errors: those of Listener::Start.
  static Result<std::unique_ptr<GrpcServer>> Start(GrpcServerOptions options,
                                                   std::shared_ptr<Inference> inference,
                                                   std::shared_ptr<Repository> repository);
  ~GrpcServer();

  uint16_t port() const;

  /// Takes no new connections and no new calls; idle streams end with UNAVAILABLE, the others when
  /// what they have sent is answered. True if nothing is left within `limit`; what is left then is
  /// cancelled.
  bool Drain(std::chrono::milliseconds limit);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace minim::serve
