// Service: every endpoint of the protocol, as a function from request to answer. Knows no sockets.
// Threads: Handle may be called concurrently.
// Lifetime: answers may still come after the service is gone.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "serve/http/message.h"
#include "serve/protocol/inference.h"
#include "serve/protocol/routes.h"
#include "serve/repository/repository.h"

namespace minim::serve {

struct ServiceOptions {
  AnsweringOptions answering;
  SlowLog slow_log;
  std::string server_version;
  /// Live readings for /metrics.
  std::function<double()> connections;
};

/// A load over any wire that carries more than the model's name: files, addresses, settings.
Status RefuseLoadParameter(std::string_view key);

class Service {
 public:
  Service(ServiceOptions options, std::shared_ptr<Repository> repository,
          std::shared_ptr<ModelKeeper> keeper, std::shared_ptr<Metrics> metrics);
  ~Service();

  void Handle(HttpRequest request, ResponseCallback done);
  /// Readiness, as the load balancer sees it. Requests are answered either way.
  void SetReady(bool ready);
  bool ready() const;
  /// What other wires ask too.
  const std::shared_ptr<Inference>& inference() const;
  /// Requests that have a handler but no answer yet.
  int64_t in_flight() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace minim::serve
