#include "serve/grpc/grpc_server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>

#include <algorithm>
#include <climits>
#include <future>

#include "grpc/health.grpc.pb.h"
#include "grpc/inference.grpc.pb.h"
#include "serve/grpc/calls.h"
#include "serve/grpc/describe_proto.h"
#include "serve/grpc/listener.h"
#include "serve/protocol/service.h"

namespace minim::serve {
namespace {

using Context = ::grpc::CallbackServerContext;
using Reactor = ::grpc::ServerUnaryReactor;

Reactor* FinishNow(Context* context, const Status& status = {}) {
  Reactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

using Protocol = inference::GRPCInferenceService;
// The generated CallbackService, but that the two calls that carry tensors come as bytes.
using MixedService =
    Protocol::WithRawCallbackMethod_ModelInfer<Protocol::WithRawCallbackMethod_ModelStreamInfer<
        Protocol::WithCallbackMethod_ServerLive<Protocol::WithCallbackMethod_ServerReady<
            Protocol::WithCallbackMethod_ModelReady<Protocol::WithCallbackMethod_ServerMetadata<
                Protocol::WithCallbackMethod_ModelMetadata<Protocol::WithCallbackMethod_ModelConfig<
                    Protocol::WithCallbackMethod_ModelStatistics<
                        Protocol::WithCallbackMethod_RepositoryIndex<
                            Protocol::WithCallbackMethod_RepositoryModelLoad<
                                Protocol::WithCallbackMethod_RepositoryModelUnload<
                                    Protocol::Service>>>>>>>>>>>>;

class InferenceService final : public MixedService {
 public:
  InferenceService(const GrpcServerOptions& options, Calls& calls,
                   std::shared_ptr<Repository> repository, std::shared_ptr<Inference> inference)
      : version_(options.server_version),
        ready_(options.ready),
        calls_(calls),
        repository_(std::move(repository)),
        inference_(std::move(inference)) {}

  Reactor* ServerLive(Context* context, const inference::ServerLiveRequest*,
                      inference::ServerLiveResponse* response) override {
    response->set_live(true);
    return FinishNow(context);
  }
  Reactor* ServerReady(Context* context, const inference::ServerReadyRequest*,
                       inference::ServerReadyResponse* response) override {
    response->set_ready(ready_());
    return FinishNow(context);
  }
  Reactor* ModelReady(Context* context, const inference::ModelReadyRequest* request,
                      inference::ModelReadyResponse* response) override {
    response->set_ready(repository_->Find(request->name(), request->version()).ok());
    return FinishNow(context);
  }
  Reactor* ServerMetadata(Context* context, const inference::ServerMetadataRequest*,
                          inference::ServerMetadataResponse* response) override {
    DescribeServer(version_, *response);
    return FinishNow(context);
  }
  Reactor* ModelMetadata(Context* context, const inference::ModelMetadataRequest* request,
                         inference::ModelMetadataResponse* response) override {
    return WhenLoaded(context, request->name(),
                      [=, this] { return Metadata(*request, *response); });
  }
  Reactor* ModelConfig(Context* context, const inference::ModelConfigRequest* request,
                       inference::ModelConfigResponse* response) override {
    return WhenLoaded(context, request->name(), [=, this]() -> Status {
      MINIM_TRY(const auto version, repository_->Find(request->name(), request->version()));
      DescribeConfig(*version, *response->mutable_config());
      return {};
    });
  }
  Reactor* ModelStatistics(Context* context, const inference::ModelStatisticsRequest* request,
                           inference::ModelStatisticsResponse* response) override {
    return FinishNow(context, Statistics(*request, *response));
  }
  Reactor* RepositoryIndex(Context* context, const inference::RepositoryIndexRequest* request,
                           inference::RepositoryIndexResponse* response) override {
    DescribeIndex(repository_->Index(), request->ready(), *response);
    return FinishNow(context);
  }
  Reactor* RepositoryModelLoad(Context* context,
                               const inference::RepositoryModelLoadRequest* request,
                               inference::RepositoryModelLoadResponse*) override;
  Reactor* RepositoryModelUnload(Context* context,
                                 const inference::RepositoryModelUnloadRequest* request,
                                 inference::RepositoryModelUnloadResponse*) override;

  Reactor* ModelInfer(Context* context, const ::grpc::ByteBuffer* request,
                      ::grpc::ByteBuffer* response) override {
    return calls_.Infer(context, request, response);
  }
  Calls::StreamReactor* ModelStreamInfer(Context* context) override {
    return calls_.InferStream(context);
  }

 private:
  Reactor* WhenLoaded(Context* context, const std::string& model, std::function<Status()> describe);
  Status Metadata(const inference::ModelMetadataRequest& request,
                  inference::ModelMetadataResponse& response) const;
  Status Statistics(const inference::ModelStatisticsRequest& request,
                    inference::ModelStatisticsResponse& response) const;

  const std::string version_;
  const std::function<bool()> ready_;
  Calls& calls_;
  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<Inference> inference_;
};

// Asked before the first request, of models that it may have to load.
Reactor* InferenceService::WhenLoaded(Context* context, const std::string& model,
                                      std::function<Status()> describe) {
  Reactor* reactor = context->DefaultReactor();
  inference_->keeper()->Hold(
      model, [reactor, describe = std::move(describe)](const Result<ModelKeeper::Lease>& lease) {
        reactor->Finish(ToGrpc(lease.ok() ? describe() : lease.status()));
      });
  return reactor;
}

Status InferenceService::Metadata(const inference::ModelMetadataRequest& request,
                                  inference::ModelMetadataResponse& response) const {
  MINIM_TRY(const auto version, repository_->Find(request.name(), request.version()));
  std::vector<std::string> numbers;
  for (const auto& other : repository_->All())
    if (other->model == version->model) numbers.push_back(other->version);
  DescribeModel(*version, numbers, response);
  return {};
}

Status InferenceService::Statistics(const inference::ModelStatisticsRequest& request,
                                    inference::ModelStatisticsResponse& response) const {
  auto versions = repository_->All();
  if (!request.name().empty()) {
    MINIM_TRY(const auto found, repository_->Find(request.name(), request.version()));
    std::erase_if(versions, [&](const auto& other) {
      return other->model != found->model ||
             (!request.version().empty() && other->version != found->version);
    });
  }
  DescribeStats(versions, response);
  return {};
}

Reactor* InferenceService::RepositoryModelLoad(Context* context,
                                               const inference::RepositoryModelLoadRequest* request,
                                               inference::RepositoryModelLoadResponse*) {
  for (const auto& [key, value] : request->parameters())
    return FinishNow(context, RefuseLoadParameter(key));
  Reactor* reactor = context->DefaultReactor();
  repository_->LoadSoon(request->model_name(),
                        [reactor](const Status& status) { reactor->Finish(ToGrpc(status)); });
  return reactor;
}

Reactor* InferenceService::RepositoryModelUnload(
    Context* context, const inference::RepositoryModelUnloadRequest* request,
    inference::RepositoryModelUnloadResponse*) {
  Reactor* reactor = context->DefaultReactor();
  repository_->UnloadSoon(request->model_name(),
                          [reactor](const Status& status) { reactor->Finish(ToGrpc(status)); });
  return reactor;
}

class HealthService final : public ::grpc::health::v1::Health::CallbackService {
 public:
  explicit HealthService(std::function<bool()> ready) : ready_(std::move(ready)) {}

  Reactor* Check(Context* context, const ::grpc::health::v1::HealthCheckRequest* request,
                 ::grpc::health::v1::HealthCheckResponse* response) override {
    const std::string& service = request->service();
    if (!service.empty() && service != inference::GRPCInferenceService::service_full_name())
      return FinishNow(context, NotFound("service '{}': unknown; it is {}", service.substr(0, 64),
                                         inference::GRPCInferenceService::service_full_name()));
    using Answer = ::grpc::health::v1::HealthCheckResponse;
    response->set_status(ready_() ? Answer::SERVING : Answer::NOT_SERVING);
    return FinishNow(context);
  }

 private:
  const std::function<bool()> ready_;
};

constexpr size_t kQuotaHeadroom = size_t{64} << 20;

int Clamped(size_t bytes) { return static_cast<int>(std::min<size_t>(bytes, INT_MAX)); }

int Milliseconds(std::chrono::milliseconds time) {
  return static_cast<int>(std::min<int64_t>(time.count(), INT_MAX));
}

// No port: connections come from the listener.
void Configure(const GrpcServerOptions& options, ::grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(Clamped(options.max_message_bytes));
  builder.SetMaxSendMessageSize(-1);
  ::grpc::ResourceQuota quota("minim");
  // Beyond our own bounds: where those refuse, a full quota stalls.
  quota.Resize(kQuotaHeadroom + 2 * options.max_message_bytes + options.max_messages_bytes);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);  // see calls.cc
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_calls);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Milliseconds(options.keepalive_timeout));
  // A client that is idle, or never speaks at all, must answer too.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

}  // namespace

class GrpcServer::Impl {
 public:
  Impl(const GrpcServerOptions& options, const std::shared_ptr<Inference>& inference,
       std::shared_ptr<Repository> repository)
      : calls_(options, inference),
        service_(options, calls_, std::move(repository), inference),
        health_(options.ready) {}

  ~Impl() {
    listener_.reset();
    ShutDown(std::chrono::milliseconds(0));
    if (shutdown_.valid()) shutdown_.wait();
    server_.reset();
  }

  Status Start(const GrpcServerOptions& options) {
    ::grpc::ServerBuilder builder;
    Configure(options, builder);
    builder.RegisterService(&service_);
    builder.RegisterService(&health_);
    server_ = builder.BuildAndStart();
    if (!server_) return Internal("gRPC does not start; its log on stderr says why");
    MINIM_TRY(listener_, Listener::Start({.address = options.address,
                                          .port = options.port,
                                          .spare_descriptors = options.spare_descriptors},
                                         [this](int fd) {
                                           ::grpc::AddInsecureChannelFromFd(server_.get(), fd);
                                         }));
    return {};
  }

  uint16_t port() const { return listener_->port(); }

  bool Drain(std::chrono::milliseconds limit) {
    listener_->Stop();
    calls_.DrainStreams();
    ShutDown(limit);
    return shutdown_.wait_for(limit) == std::future_status::ready;
  }

 private:
  // On a thread of its own: it returns when the last call has ended, however long that takes.
  void ShutDown(std::chrono::milliseconds limit) {
    if (!server_ || shutdown_.valid()) return;
    const auto until = std::chrono::system_clock::now() + limit;
    shutdown_ = std::async(std::launch::async, [this, until] { server_->Shutdown(until); });
  }

  Calls calls_;
  InferenceService service_;
  HealthService health_;
  std::unique_ptr<::grpc::Server> server_;
  std::unique_ptr<Listener> listener_;
  std::future<void> shutdown_;
};

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() = default;

Result<std::unique_ptr<GrpcServer>> GrpcServer::Start(GrpcServerOptions options,
                                                      std::shared_ptr<Inference> inference,
                                                      std::shared_ptr<Repository> repository) {
  auto impl = std::make_unique<Impl>(options, inference, std::move(repository));
  MINIM_TRY(impl->Start(options));
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

uint16_t GrpcServer::port() const { return impl_->port(); }
bool GrpcServer::Drain(std::chrono::milliseconds limit) { return impl_->Drain(limit); }

}  // namespace minim::serve
