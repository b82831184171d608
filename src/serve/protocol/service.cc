#include "serve/protocol/service.h"

#include "serve/protocol/documents.h"
#include "serve/protocol/infer_response.h"
#include "serve/protocol/worker.h"

namespace minim::serve {
namespace {

int64_t Micros(Duration time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

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

// What an infer answer needs besides its tensors.
struct InferContext {
  TimePoint start;
  std::shared_ptr<const ServedVersion> version;
  std::shared_ptr<ServedTier> tier;
  std::string id;
  std::vector<RequestedOutput> outputs;
  int64_t rows = 1;
};

void CountAnswer(const InferContext& context, const Answered& answer) {
  ModelStats& stats = *context.version->stats;
  const Duration total = Clock::now() - context.start;
  (answer.outputs.ok() ? stats.success : stats.fail).Add(total);
  context.tier->metrics->ObserveStages(answer.times.queue, answer.times.infer, answer.times.output,
                                       total);
  if (answer.cache_hit || !answer.outputs.ok()) return;
  stats.queue.Add(answer.times.queue);
  stats.compute_input.Add(answer.times.input);
  stats.compute_infer.Add(answer.times.infer);
  stats.compute_output.Add(answer.times.output);
  stats.last_inference_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                                std::chrono::system_clock::now().time_since_epoch())
                                .count();
}

HttpResponse WriteAnswer(const InferContext& context, const Answered& answer) {
  if (!answer.outputs.ok()) return ErrorResponse(answer.outputs.status());
  std::vector<AnsweredOutput> outputs;
  for (size_t i = 0; i < context.outputs.size(); ++i)
    outputs.push_back({context.outputs[i].name, (*answer.outputs)[i], context.outputs[i].binary});
  const AnswerNotes notes{
      .tier = context.tier->name,
      .batch_size = answer.cache_hit ? context.rows : answer.times.batch_rows,
      .cache_hit = answer.cache_hit,
      .queue_us = Micros(answer.times.queue),
      .infer_us = Micros(answer.times.infer),
      .total_us = Micros(Clock::now() - context.start),
  };
  return InferResponse(context.version->model, context.version->version, context.id, outputs,
                       notes);
}

}  // namespace

// Shared with callbacks that are still to come.
class Service::Impl : public std::enable_shared_from_this<Service::Impl> {
 public:
  Impl(ServiceOptions options, std::shared_ptr<Repository> repository,
       std::shared_ptr<Metrics> metrics)
      : options_(std::move(options)),
        answering_(std::make_shared<Answering>(options_.answering)),
        repository_(std::move(repository)),
        metrics_(std::move(metrics)) {}

  void Handle(HttpRequest request, ResponseCallback done) {
    ++in_flight_;
    const auto counted = [self = shared_from_this(),
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
    if (route->endpoint == Endpoint::kInfer) return Infer(*route, std::move(request), counted);
    if (route->endpoint == Endpoint::kRepositoryLoad ||
        route->endpoint == Endpoint::kRepositoryUnload)
      return LoadOrUnload(*route, counted);
    counted(Describe(*route));
  }

  void SetReady(bool ready) { ready_ = ready; }
  int64_t in_flight() const { return in_flight_; }
  void CloseWorker() { worker_.reset(); }

 private:
  void Infer(const Route& route, HttpRequest request, ResponseCallback done);
  Result<Question> Ask(const Route& route, HttpRequest& request, std::shared_ptr<ServedTier>& tier);
  void LoadOrUnload(const Route& route, ResponseCallback done);
  HttpResponse Describe(const Route& route) const;
  HttpResponse DescribeModel(const Route& route) const;
  HttpResponse MetricsText() const;

  const ServiceOptions options_;
  const std::shared_ptr<Answering> answering_;
  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<Metrics> metrics_;
  std::unique_ptr<Worker> worker_ = std::make_unique<Worker>();
  std::atomic<bool> ready_{false};
  std::atomic<int64_t> in_flight_{0};
};

// `tier` is set as soon as it is known, for the metrics of what fails later.
Result<Question> Service::Impl::Ask(const Route& route, HttpRequest& request,
                                    std::shared_ptr<ServedTier>& tier) {
  Question question{.cancelled = request.cancelled};
  MINIM_TRY(question.version, repository_->Find(route.model, route.version));
  MINIM_TRY(tier, question.version->Tier(""));
  MINIM_TRY(
      question.request,
      ParseInferRequest(request.body, request.headers.Get("Inference-Header-Content-Length")));
  MINIM_TRY(tier, question.version->Tier(question.request.tier));
  MINIM_TRY(BindRequest(question.request, tier->model->inputs(), tier->model->outputs(),
                        tier->batcher->batchable()));
  question.tier = tier;
  return question;
}

void Service::Impl::Infer(const Route& route, HttpRequest request, ResponseCallback done) {
  const auto context = std::make_shared<InferContext>();
  context->start = Clock::now();
  auto question = Ask(route, request, context->tier);
  if (!question.ok()) {
    const HttpResponse response = ErrorResponse(question.status());
    if (context->tier) {
      context->tier->metrics->CountRequest(response.status);
    } else {
      metrics_->CountOther(response.status);
    }
    return done(response);
  }
  context->version = question->version;
  context->id = question->request.id;
  context->outputs = question->request.outputs;
  if (context->tier->batcher->batchable())
    context->rows = question->request.inputs[0].tensor.dims()[0];
  answering_->Answer(std::move(*question),
                     [context, done = std::move(done)](const Answered& answer) {
                       CountAnswer(*context, answer);
                       HttpResponse response = WriteAnswer(*context, answer);
                       context->tier->metrics->CountRequest(response.status);
                       done(std::move(response));
                     });
}

// Loading takes long: not on a thread that serves sockets.
void Service::Impl::LoadOrUnload(const Route& route, ResponseCallback done) {
  const bool posted = worker_->Post([repository = repository_, route, done] {
    const Status status = route.endpoint == Endpoint::kRepositoryLoad
                              ? repository->Load(route.model)
                              : repository->Unload(route.model);
    done(status.ok() ? Json("{}") : ErrorResponse(status));
  });
  if (!posted) done(ErrorResponse(503, "too many loads are waiting; try again"));
}

HttpResponse Service::Impl::MetricsText() const {
  Gauges gauges{.ready = ready_ ? 1.0 : 0.0};
  if (options_.answering.cache) {
    const CacheStats stats = options_.answering.cache->stats();
    gauges.cache_bytes = static_cast<double>(stats.bytes);
    gauges.cache_entries = static_cast<double>(stats.entries);
    gauges.cache_evictions = static_cast<double>(stats.evictions);
  }
  const AnswerCodec& codec = answering_->codec();
  if (codec.raw_bytes() > 0)
    gauges.cache_stored_ratio =
        static_cast<double>(codec.stored_bytes()) / static_cast<double>(codec.raw_bytes());
  if (options_.connections) gauges.connections = options_.connections();
  HttpResponse response{.content_type = "text/plain; version=0.0.4"};
  response.body = metrics_->Text(gauges);
  return response;
}

HttpResponse Service::Impl::DescribeModel(const Route& route) const {
  const auto version = repository_->Find(route.model, route.version);
  if (!version.ok()) return ErrorResponse(version.status());
  const ServedVersion& served = **version;
  if (route.endpoint == Endpoint::kModelConfig) return Json(ModelConfigJson(served));
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
    case Endpoint::kMetrics: return MetricsText();
    default: return DescribeModel(route);
  }
}

Service::Service(ServiceOptions options, std::shared_ptr<Repository> repository,
                 std::shared_ptr<Metrics> metrics)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(repository), std::move(metrics))) {
}

Service::~Service() { impl_->CloseWorker(); }

void Service::Handle(HttpRequest request, ResponseCallback done) {
  impl_->Handle(std::move(request), std::move(done));
}
void Service::SetReady(bool ready) { impl_->SetReady(ready); }
int64_t Service::in_flight() const { return impl_->in_flight(); }

}  // namespace minim::serve
