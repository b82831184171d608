#include "serve/protocol/service.h"

#include <nlohmann/json.hpp>

#include "serve/protocol/documents.h"
#include "serve/protocol/inference.h"

namespace minim::serve {
namespace {

HttpResponse Json(std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  return response;
}

HttpResponse Flag(std::string_view name, bool value) {
  // Load balancers look at the status, clients at either.
  HttpResponse response = Json(fmt::format("{{\"{}\":{}}}", name, value));
  if (!value) response.status = 503;
  return response;
}

// What clients ask before their first request: only the loaded model can tell.
bool AsksAboutLoaded(Endpoint endpoint) {
  return endpoint == Endpoint::kModelMetadata || endpoint == Endpoint::kModelConfig;
}

HttpResponse WriteAnswer(const InferReply& reply) {
  if (!reply.outputs.ok()) return ErrorResponse(reply.outputs.status());
  const TimePoint start = Clock::now();
  std::vector<AnsweredOutput> outputs;
  outputs.reserve(reply.requested.size());
  for (size_t i = 0; i < reply.requested.size(); ++i)
    outputs.push_back({reply.requested[i].name, (*reply.outputs)[i], reply.requested[i].binary});
  HttpResponse response =
      InferResponse(reply.version->model, reply.version->version, reply.id, outputs, reply.notes);
  reply.tier->metrics->Observe(Phase::kSerialise, Clock::now() - start);
  response.observer = reply.tier;
  response.ready = reply.ready;
  return response;
}

// {"parameters":{...}} of a load call, which may be empty.
Status CheckLoadBody(const std::string& body) {
  if (body.empty()) return {};
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return InvalidArgument("request JSON: expected an object or nothing");
  const auto parameters = json.find("parameters");
  if (parameters == json.end() || parameters->empty()) return {};
  return RefuseLoadParameter(parameters->is_object() ? parameters->items().begin().key() : "");
}

}  // namespace

Status RefuseLoadParameter(std::string_view key) {
  return Unsupported("parameters.{}: models are loaded as they lie in the repository; leave it out",
                     key.substr(0, 64));
}

// Shared with callbacks that are still to come.
class Service::Impl : public std::enable_shared_from_this<Service::Impl> {
 public:
  Impl(ServiceOptions options, std::shared_ptr<Repository> repository,
       std::shared_ptr<ModelKeeper> keeper, std::shared_ptr<Metrics> metrics)
      : options_(std::move(options)),
        inference_(std::make_shared<Inference>(options_.answering, repository, std::move(keeper),
                                               metrics, options_.slow_log)),
        repository_(std::move(repository)),
        metrics_(std::move(metrics)) {}

  void Handle(HttpRequest request, ResponseCallback done) {
    ++in_flight_;
    ResponseCallback counted = [self = shared_from_this(),
                                done = std::move(done)](HttpResponse response) {
      done(std::move(response));
      --self->in_flight_;
    };
    const auto route = FindRoute(request.method, request.target);
    if (!route.ok()) {
      const bool wrong_method = route.status().code() == StatusCode::kUnsupported;
      const int status = wrong_method ? 405 : HttpStatusOf(route.status().code());
      metrics_->CountOther(status);
      return counted(ErrorResponse(status, route.status().message()));
    }
    if (route->endpoint == Endpoint::kInfer)
      return Infer(*route, std::move(request), std::move(counted));
    if (route->endpoint == Endpoint::kRepositoryLoad ||
        route->endpoint == Endpoint::kRepositoryUnload)
      return LoadOrUnload(*route, request.body, counted);
    if (route->endpoint == Endpoint::kChangeSettings || route->endpoint == Endpoint::kChangeRollout)
      return counted(Change(*route, request.body));
    if (!AsksAboutLoaded(route->endpoint)) return counted(Describe(*route));
    inference_->keeper()->Hold(route->model, [self = shared_from_this(), route = *route,
                                              counted](const Result<ModelKeeper::Lease>& lease) {
      counted(lease.ok() ? self->Describe(route) : ErrorResponse(lease.status()));
    });
  }

  void SetReady(bool ready) { ready_ = ready; }
  bool ready() const { return ready_; }
  const std::shared_ptr<Inference>& inference() const { return inference_; }
  int64_t in_flight() const { return in_flight_; }

 private:
  void Infer(const Route& route, HttpRequest request, ResponseCallback done);
  void LoadOrUnload(const Route& route, const std::string& body, ResponseCallback done);
  HttpResponse Change(const Route& route, const std::string& body);
  HttpResponse Describe(const Route& route) const;
  HttpResponse DescribeModel(const Route& route) const;
  HttpResponse MetricsText() const;

  const ServiceOptions options_;
  const std::shared_ptr<Inference> inference_;
  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<Metrics> metrics_;
  std::atomic<bool> ready_{false};
  std::atomic<int64_t> in_flight_{0};
};

void Service::Impl::Infer(const Route& route, HttpRequest request, ResponseCallback done) {
  if (const Status status = inference_->CheckInTime(route.model, route.version, request.received);
      !status.ok())
    return done(ErrorResponse(status));
  InferCall call{.model = route.model,
                 .version = route.version,
                 .cancelled = request.cancelled,
                 .header = {},
                 .start = request.received};
  auto parsed =
      ParseInferRequest(request.body, request.headers.Get("Inference-Header-Content-Length"));
  if (!parsed.ok())
    return done(ErrorResponse(inference_->Refuse(route.model, route.version, parsed.status())));
  call.request = std::move(*parsed);
  call.header = [headers = std::move(request.headers)](const std::string& name) {
    return std::string(headers.Get(name));
  };
  inference_->Infer(std::move(call), [done = std::move(done)](const InferReply& reply) {
    done(WriteAnswer(reply));
  });
}

void Service::Impl::LoadOrUnload(const Route& route, const std::string& body,
                                 ResponseCallback done) {
  const auto answer = [done = std::move(done)](const Status& status) {
    done(status.ok() ? Json("{}") : ErrorResponse(status));
  };
  if (route.endpoint == Endpoint::kRepositoryLoad) {
    if (const Status status = CheckLoadBody(body); !status.ok()) return answer(status);
    repository_->LoadSoon(route.model, answer);
  } else {
    repository_->UnloadSoon(route.model, answer);
  }
}

HttpResponse Service::Impl::Change(const Route& route, const std::string& body) {
  const Status status = route.endpoint == Endpoint::kChangeSettings
                            ? repository_->Configure(route.model, body)
                            : repository_->ChangeRollout(route.model, body);
  if (!status.ok()) return ErrorResponse(status);
  Route changed = route;
  changed.endpoint = route.endpoint == Endpoint::kChangeSettings ? Endpoint::kModelSettings
                                                                 : Endpoint::kModelRollout;
  return DescribeModel(changed);
}

HttpResponse Service::Impl::MetricsText() const {
  Gauges gauges{.ready = ready_ ? 1.0 : 0.0};
  gauges.cache = inference_->cache_stats();
  gauges.memory = inference_->memory();
  if (options_.connections) gauges.connections = options_.connections();
  HttpResponse response{.content_type = "text/plain; version=0.0.4"};
  std::vector<VersionReadings> versions;
  for (const auto& version : repository_->All()) {
    VersionReadings& readings =
        versions.emplace_back(version->model, version->version, version->stats);
    for (const auto& [name, tier] : version->tiers)
      readings.pending += tier->batcher->queued_rows();
  }
  response.body = metrics_->Text(gauges, versions);
  return response;
}

HttpResponse Service::Impl::DescribeModel(const Route& route) const {
  const auto version = repository_->Find(route.model, route.version);
  if (!version.ok()) return ErrorResponse(version.status());
  const ServedVersion& served = **version;
  if (route.endpoint == Endpoint::kModelConfig) return Json(ModelConfigJson(served));
  if (route.endpoint == Endpoint::kModelSettings) return Json(SettingsJson(*served.config->Get()));
  if (route.endpoint == Endpoint::kModelTiers) return Json(TiersJson(served));
  if (route.endpoint == Endpoint::kModelRollout) return Json(RolloutJson(served));
  if (route.endpoint == Endpoint::kModelReady)
    return Json(fmt::format("{{\"name\":{},\"ready\":true}}", JsonQuote(served.model)));
  std::vector<std::shared_ptr<const ServedVersion>> of_model;
  std::vector<std::string> numbers;
  for (const auto& other : repository_->All()) {
    if (other->model != served.model) continue;
    numbers.push_back(other->version);
    if (route.version.empty() || other->version == route.version) of_model.push_back(other);
  }
  return Json(route.endpoint == Endpoint::kModelStats ? ModelStatsJson(of_model)
                                                      : ModelMetadataJson(served, numbers));
}

HttpResponse Service::Impl::Describe(const Route& route) const {
  switch (route.endpoint) {
    case Endpoint::kServerMetadata: return Json(ServerMetadataJson(options_.server_version));
    case Endpoint::kLive: return Flag("live", true);
    case Endpoint::kReady: return Flag("ready", ready_);
    case Endpoint::kAllStats: return Json(ModelStatsJson(repository_->All()));
    case Endpoint::kRepositoryIndex: return Json(IndexJson(repository_->Index()));
    case Endpoint::kMemory: return Json(MemoryJson(inference_->memory()));
    case Endpoint::kMetrics: return MetricsText();
    default: return DescribeModel(route);
  }
}

Service::Service(ServiceOptions options, std::shared_ptr<Repository> repository,
                 std::shared_ptr<ModelKeeper> keeper, std::shared_ptr<Metrics> metrics)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(repository), std::move(keeper),
                                   std::move(metrics))) {}

Service::~Service() = default;

void Service::Handle(HttpRequest request, ResponseCallback done) {
  impl_->Handle(std::move(request), std::move(done));
}
void Service::SetReady(bool ready) { impl_->SetReady(ready); }
bool Service::ready() const { return impl_->ready(); }
const std::shared_ptr<Inference>& Service::inference() const { return impl_->inference(); }
int64_t Service::in_flight() const { return impl_->in_flight(); }

}  // namespace minim::serve
