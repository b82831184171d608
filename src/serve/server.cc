#include "serve/server.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <thread>

#include "serve/cache/prediction_cache.h"
#include "serve/metrics/metrics.h"
#include "serve/protocol/service.h"
#include "serve/repository/ticker.h"

#ifndef MINIM_VERSION
#define MINIM_VERSION "unknown"
#endif

namespace minim::serve {
namespace {

Status CheckOptions(const ServerOptions& options) {
  MINIM_TRY(CheckServingConfig(options.serving));
  MINIM_TRY(CheckKeeperOptions(options.memory));
  if (options.memory.budget > 0 && options.control != ModelControl::kNone)
    return InvalidArgument(
        "a memory budget decides what is loaded: it needs model control 'none', not 'poll' or "
        "'explicit'");
  if (options.http && (options.http->threads < 1 || options.http->threads > 256))
    return InvalidArgument("threads: found {}, expected 1 to 256", options.http->threads);
  return {};
}

}  // namespace

ServingConfig DefaultServing() {
  ServingConfig config;
  config.bounds.min_batch = 1;
  config.instances = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return config;
}

class Server::Impl {
 public:
  explicit Impl(ServerOptions options) : options_(std::move(options)) {}

  // Nothing is loaded any more; the sockets go first, then what answers them. The repository goes
  // on until no run is left that could turn to it.
  ~Impl() {
    poller_.reset();
    if (keeper_) keeper_->Close();
    http_.reset();
    grpc_.reset();
    if (!repository_) return;
    for (const auto& version : repository_->All())
      for (const auto& [name, tier] : version->tiers) tier->batcher->Stop();
    repository_->Close();
  }

  Status Start(ModelLoader loader) {
    MINIM_TRY(CheckOptions(options_));
    const auto metrics = std::make_shared<Metrics>();
    MINIM_TRY(std::shared_ptr<Repository> opened,
              Repository::Open(options_.path,
                               {.control = options_.control,
                                .loader = std::move(loader),
                                .defaults = options_.serving,
                                .offer_bf16 = options_.offer_bf16,
                                .digest_files = IsShared(options_.cache),
                                .on_demand = options_.memory.budget > 0,
                                .log = options_.log},
                               metrics));
    repository_ = std::move(opened);
    MINIM_TRY(LoadModels());
    ServiceOptions service{.slow_log = {options_.slow_log, options_.log},
                           .server_version = MINIM_VERSION};
    if (!options_.cache.empty()) {
      MINIM_TRY(service.answering.cache, OpenCache(options_.cache, Clock::now));
    }
    service.connections = [this] {
      const HttpServer* http = listening_;
      return http != nullptr ? static_cast<double>(http->connections()) : 0;
    };
    service_ = std::make_unique<Service>(std::move(service), repository_, keeper_, metrics);
    MINIM_TRY(StartHttp());
    MINIM_TRY(StartGrpc());
    if (options_.control == ModelControl::kPoll)
      poller_.emplace(options_.poll_interval, [this] { repository_->Poll(); });
    service_->SetReady(true);
    return {};
  }

  uint16_t port() const { return http_ ? http_->port() : 0; }
  uint16_t grpc_port() const { return grpc_ ? grpc_->port() : 0; }
  const std::shared_ptr<Inference>& inference() const { return service_->inference(); }
  const std::shared_ptr<Repository>& repository() const { return repository_; }

  bool Drain() {
    service_->SetReady(false);
    std::this_thread::sleep_for(options_.grace);
    // Side by side: one limit for both.
    auto grpc = std::async(std::launch::async,
                           [this] { return !grpc_ || grpc_->Drain(options_.drain_limit); });
    const bool http = !http_ || http_->Drain(options_.drain_limit);
    const bool ended = grpc.get() && http;
    keeper_->SaveHistory();
    return ended;
  }

 private:
  Status StartHttp() {
    if (!options_.http) return {};
    const auto handle = [this](HttpRequest request, ResponseCallback done) {
      service_->Handle(std::move(request), std::move(done));
    };
    MINIM_TRY(http_, HttpServer::Start(*options_.http, handle));
    listening_ = http_.get();
    return {};
  }

  Status LoadModels() {
    KeeperOptions memory = options_.memory;
    memory.log = options_.log;
    keeper_ = std::make_shared<ModelKeeper>(std::move(memory), repository_);
    if (options_.memory.budget == 0) {
      const bool chosen = options_.control == ModelControl::kExplicit;
      MINIM_TRY(
          repository_->LoadAll(chosen ? options_.load_models : std::vector<std::string>{"*"}));
    }
    return keeper_->Start();
  }

  Status StartGrpc() {
    if (!options_.grpc) return {};
    GrpcServerOptions grpc = *options_.grpc;
    grpc.server_version = MINIM_VERSION;
    grpc.ready = [this] { return service_->ready(); };
    MINIM_TRY(grpc_, GrpcServer::Start(std::move(grpc), service_->inference(), repository_));
    return {};
  }

  const ServerOptions options_;
  std::shared_ptr<Repository> repository_;
  std::shared_ptr<ModelKeeper> keeper_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  std::optional<Ticker> poller_;
  // What requests look at, which may come before Start has returned.
  std::atomic<const HttpServer*> listening_{nullptr};
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, ModelLoader loader) {
  auto impl = std::make_unique<Impl>(std::move(options));
  MINIM_TRY(impl->Start(std::move(loader)));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

uint16_t Server::port() const { return impl_->port(); }
uint16_t Server::grpc_port() const { return impl_->grpc_port(); }
const std::shared_ptr<Inference>& Server::inference() const { return impl_->inference(); }
const std::shared_ptr<Repository>& Server::repository() const { return impl_->repository(); }
bool Server::Drain() { return impl_->Drain(); }

}  // namespace minim::serve
