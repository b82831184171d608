// Server: repository, batching, cache, metrics and protocol, behind an HTTP port and a gRPC port if
// they are wanted.
// Threads: start, drain and destroy it from one thread.
// Lifetime: the destructor ends what runs and refuses what waits; call Drain first to let requests
// finish.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/grpc/grpc_server.h"
#include "serve/http/http_server.h"
#include "serve/preload/model_keeper.h"
#include "serve/protocol/inference.h"
#include "serve/repository/repository.h"

namespace minim::serve {

struct ServerOptions {
  /// A repository, a model's folder, or an ONNX file.
  Path path;
  /// Unset: no HTTP.
  std::optional<HttpServerOptions> http = HttpServerOptions();
  /// Unset: no gRPC. Its version and readiness are the server's.
  std::optional<GrpcServerOptions> grpc;
  /// Of models whose folder says nothing else.
  ServingConfig serving;
  ModelControl control = ModelControl::kNone;
  /// Models to load at start-up; "*": all. With kNone and kPoll all are.
  std::vector<std::string> load_models;
  /// A budget needs kNone: what is loaded is then the keeper's to say.
  KeeperOptions memory;
  Duration poll_interval = std::chrono::seconds(5);
  /// Requests that took at least so long are logged with their phases.
  Duration slow_log = Duration::max();
  /// Loads, demotions, rollouts: one line each.
  LogFunction log = [](const std::string&) {};
  /// "memory://?bytes=256MiB"; empty: no cache.
  std::string cache = "memory://?bytes=256MiB";
  /// Also offer a tier "bf16": model.onnx with products in BF16, where no such file exists.
  bool offer_bf16 = false;
  /// While draining: how long to go on after readiness has failed, and how long to wait then for
  /// requests in progress.
  std::chrono::milliseconds grace{0};
  std::chrono::milliseconds drain_limit{30000};
};

/// What users get who set nothing: an instance for every core.
ServingConfig DefaultServing();

class Server {
 public:
  /// Loads the models, then listens. Errors: what is wrong with the options, no model could be
  /// loaded, or a port is taken.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, ModelLoader loader);
  ~Server();

  /// 0 without HTTP.
  uint16_t port() const;
  /// 0 without gRPC.
  uint16_t grpc_port() const;
  /// What every wire asks.
  const std::shared_ptr<Inference>& inference() const;
  const std::shared_ptr<Repository>& repository() const;

  /// Readiness fails at once, serving goes on for the grace period, then no new connections and
  /// what is in progress ends. True if everything ended in time.
  bool Drain();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace minim::serve
