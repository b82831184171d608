// minim::Server: the internal server, asked from within the process.
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>

#include "minim/server.h"
#include "serve/server.h"
#include "serve/session_model.h"

namespace minim {
namespace {

using serve::LatencyHistogram;
using serve::ModelMetrics;

struct SettingName {
  std::string_view section, key;
};

Result<SettingName> Split(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos)
    return InvalidArgument("setting '{}': expected section.key, such as batching.policy",
                           name.substr(0, 64));
  return SettingName{std::string_view(name).substr(0, dot), std::string_view(name).substr(dot + 1)};
}

Result<serve::ServerOptions> ToInternal(const ServerOptions& options) {
  serve::ServerOptions internal{.path = options.path};
  internal.http.reset();
  if (options.http_port) internal.http = {.address = options.address, .port = *options.http_port};
  if (options.grpc_port) internal.grpc = {.address = options.address, .port = *options.grpc_port};
  internal.serving = serve::DefaultServing();
  for (const ModelSetting& setting : options.settings) {
    MINIM_TRY(const SettingName name, Split(setting.name));
    MINIM_TRY(serve::SetSetting(internal.serving, name.section, name.key, setting.value));
  }
  if (options.loading == ModelLoading::kPoll) internal.control = serve::ModelControl::kPoll;
  if (options.loading == ModelLoading::kByRequest)
    internal.control = serve::ModelControl::kExplicit;
  internal.load_models = options.load_models;
  internal.memory.budget = options.memory_budget;
  internal.memory.history = options.usage_history;
  if (options.log) internal.log = options.log;
  internal.cache = options.cache;
  internal.drain_limit = options.drain_limit;
  return internal;
}

// The form in which settings come over HTTP.
Result<std::string> ToJson(const std::vector<ModelSetting>& settings) {
  nlohmann::json root = nlohmann::json::object();
  for (const ModelSetting& setting : settings) {
    MINIM_TRY(const SettingName name, Split(setting.name));
    std::visit(
        [&](const auto& value) { root[std::string(name.section)][std::string(name.key)] = value; },
        setting.value);
  }
  return root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Copies: an answer may be compared with another tier's after its caller has it.
serve::InferCall ToCall(const PredictRequest& request) {
  serve::InferCall call{.model = request.model, .version = request.version};
  serve::InferRequest& infer = call.request;
  for (const auto& [name, tensor] : request.inputs)
    if (tensor.defined()) infer.inputs.push_back({name, tensor.Clone()});
  infer.binary_outputs = true;
  for (const std::string& name : request.outputs) infer.outputs.push_back({name, true});
  infer.tier = request.tier;
  infer.use_cache = request.use_cache;
  infer.use_batching = request.use_batching;
  infer.timeout_us = static_cast<uint64_t>(std::max<int64_t>(request.timeout.count(), 0));
  infer.priority = request.priority;
  infer.texts = request.parameters;
  return call;
}

Result<Prediction> ToPrediction(const serve::InferReply& reply) {
  if (!reply.outputs.ok()) return reply.outputs.status();
  const serve::AnswerNotes& notes = reply.notes;
  Prediction prediction{.version = reply.version->version,
                        .tier = notes.tier,
                        .fallback = notes.fallback,
                        .optimizations = serve::OptimizationsOf(notes),
                        .batch_size = notes.batch_size,
                        .cache_hit = notes.cache_hit,
                        .queue_time = std::chrono::microseconds(notes.queue_us),
                        .run_time = std::chrono::microseconds(notes.infer_us),
                        .total_time = std::chrono::microseconds(notes.total_us)};
  for (size_t i = 0; i < reply.requested.size(); ++i)
    prediction.outputs.push_back({reply.requested[i].name, (*reply.outputs)[i].Clone()});
  return prediction;
}

// One tier's, or the sum of several.
class StatsSum {
 public:
  void Add(const ModelMetrics& metrics) {
    stats_.predictions += metrics.requests();
    stats_.failures += metrics.failures();
    stats_.runs += metrics.runs();
    stats_.rows += metrics.rows();
    hits_ += metrics.hits();
    misses_ += metrics.misses();
    times_.Merge(metrics.phase(serve::Phase::kTotal));
  }
  PredictionStats Get() const {
    PredictionStats stats = stats_;
    if (hits_ + misses_ > 0)
      stats.hit_rate = static_cast<double>(hits_) / static_cast<double>(hits_ + misses_);
    stats.p50 = times_.Quantile(0.5);
    stats.p95 = times_.Quantile(0.95);
    stats.p99 = times_.Quantile(0.99);
    return stats;
  }

 private:
  PredictionStats stats_;
  uint64_t hits_ = 0, misses_ = 0;
  LatencyHistogram times_;
};

// Predictions without an answer. Shared with their callbacks, which outlive the server by a moment.
class InFlight {
 public:
  /// False once closed.
  bool Enter() {
    std::lock_guard lock(mutex_);
    if (!closed_) ++count_;
    return !closed_;
  }
  void Leave() {
    std::lock_guard lock(mutex_);
    if (--count_ == 0) none_.notify_all();
  }
  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  bool WaitUntil(serve::TimePoint until) {
    std::unique_lock lock(mutex_);
    return none_.wait_until(lock, until, [this] { return count_ == 0; });
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    none_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  int64_t count_ = 0;    // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

}  // namespace

class Server::Impl {
 public:
  Impl(std::unique_ptr<serve::Server> server, std::chrono::milliseconds drain_limit)
      : server_(std::move(server)), drain_limit_(drain_limit) {}
  ~Impl() {
    in_flight_->Close();
    server_.reset();
    in_flight_->Wait();  // for those that a thread of the cache or of the repository answers
  }

  void Predict(const PredictRequest& request, Callback done) {
    if (!in_flight_->Enter()) return done(Unavailable("the server is draining"));
    server_->inference()->Infer(ToCall(request), [in_flight = in_flight_, done = std::move(done)](
                                                     const serve::InferReply& reply) {
      done(ToPrediction(reply));
      in_flight->Leave();
    });
  }

  bool Drain() {
    in_flight_->Close();
    const serve::TimePoint until = serve::Clock::now() + drain_limit_;
    const bool sockets = server_->Drain();
    return in_flight_->WaitUntil(until) && sockets;
  }

  serve::Server& server() { return *server_; }
  serve::Repository& repository() { return *server_->repository(); }

 private:
  std::unique_ptr<serve::Server> server_;
  const std::chrono::milliseconds drain_limit_;
  const std::shared_ptr<InFlight> in_flight_ = std::make_shared<InFlight>();
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  MINIM_TRY(serve::ServerOptions internal, ToInternal(options));
  MINIM_TRY(std::unique_ptr<serve::Server> server,
            serve::Server::Start(std::move(internal), serve::LoadSessionModel));
  return std::unique_ptr<Server>(
      new Server(std::make_unique<Impl>(std::move(server), options.drain_limit)));
}

std::future<Result<Prediction>> Server::Predict(const PredictRequest& request) {
  const auto promise = std::make_shared<std::promise<Result<Prediction>>>();
  std::future<Result<Prediction>> future = promise->get_future();
  impl_->Predict(request,
                 [promise](Result<Prediction> answer) { promise->set_value(std::move(answer)); });
  return future;
}

void Server::Predict(const PredictRequest& request, Callback done) {
  impl_->Predict(request, std::move(done));
}

Status Server::Load(const std::string& model) { return impl_->repository().Load(model); }
Status Server::Unload(const std::string& model) { return impl_->repository().Unload(model); }

Status Server::Configure(const std::string& model, const std::vector<ModelSetting>& settings) {
  MINIM_TRY(const std::string text, ToJson(settings));
  return impl_->repository().Configure(model, text);
}

std::vector<ModelState> Server::Models() const {
  std::vector<ModelState> models;
  for (serve::IndexEntry& entry : impl_->repository().Index())
    models.push_back({entry.name, entry.version, entry.ready, entry.reason});
  return models;
}

Result<ModelSignature> Server::Describe(const std::string& model,
                                        const std::string& version) const {
  MINIM_TRY(const auto served, impl_->repository().Find(model, version));
  ModelSignature signature{served->version, served->reference().inputs(),
                           served->reference().outputs()};
  for (const auto& [name, tier] : served->tiers) signature.tiers.push_back(name);
  return signature;
}

ServerStats Server::Stats() const {
  ServerStats stats;
  StatsSum total;
  for (const auto& version : impl_->repository().All()) {
    for (const auto& [name, tier] : version->tiers) {
      StatsSum one;
      one.Add(*tier->metrics);
      total.Add(*tier->metrics);
      stats.tiers.push_back({version->model, version->version, name, one.Get()});
    }
  }
  stats.total = total.Get();
  return stats;
}

uint16_t Server::http_port() const { return impl_->server().port(); }
uint16_t Server::grpc_port() const { return impl_->server().grpc_port(); }
bool Server::Drain() { return impl_->Drain(); }

}  // namespace minim
