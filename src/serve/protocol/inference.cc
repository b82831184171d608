#include "serve/protocol/inference.h"

#include <cmath>
#include <utility>

#include "core/philox.h"

namespace minim::serve {
namespace {

// Runs whose answers nobody waits for, at a time: they must not crowd out those that are awaited.
constexpr int kMaxBeside = 4;
// What waited no longer is not worth asking about.
constexpr Duration kShortWait = std::chrono::microseconds(100);

int64_t Micros(Duration time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

int64_t EpochMilliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// The request and the client are not to blame: another tier may do better.
bool IsTheTiersFault(StatusCode code) {
  return code == StatusCode::kInternal || code == StatusCode::kDataLoss ||
         code == StatusCode::kUnsupported;
}

void CountStats(ModelStats& stats, const Answered& answer, Duration total) {
  (answer.outputs.ok() ? stats.success : stats.fail).Add(total);
  if (answer.cache_hit || !answer.outputs.ok()) return;
  stats.queue.Add(answer.times.queue);
  stats.compute_input.Add(answer.times.input);
  stats.compute_infer.Add(answer.times.infer);
  stats.compute_output.Add(answer.times.output);
  stats.last_inference_ms = EpochMilliseconds();
}

void ObservePhases(ModelMetrics& metrics, const Answered& answer, Duration total) {
  metrics.Observe(Phase::kTotal, total);
  if (answer.cache_hit) return metrics.Observe(Phase::kCache, total);
  if (answer.times.batch_rows == 0) return;  // it did not run
  metrics.Observe(Phase::kQueue, answer.times.queue);
  metrics.Observe(Phase::kBatch, answer.times.input);
  metrics.Observe(Phase::kCompute, answer.times.infer);
  metrics.Observe(Phase::kSplit, answer.times.output);
}

double Milliseconds(Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// One's time over the other's, where both ran with as many rows; else zero.
double TimeRatio(const BatchTimes& own, const BatchTimes& other) {
  if (own.batch_rows != other.batch_rows || own.batch_rows == 0 || other.infer <= Duration())
    return 0;
  return std::chrono::duration<double>(own.infer) / std::chrono::duration<double>(other.infer);
}

// The mean of the first floating-point output.
double ScoreOf(const std::vector<Tensor>& outputs) {
  for (const Tensor& output : outputs) {
    if (output.dtype() != DType::f32 || output.size() == 0) continue;
    double sum = 0;
    for (const float value : output.as<float>()) sum += value;
    return sum / static_cast<double>(output.size());
  }
  return 0;
}

}  // namespace

// A request on its way, through one tier or several.
struct Inference::Running {
  explicit Running(std::shared_ptr<std::atomic<uint64_t>> bytes)
      : request_bytes(std::move(bytes)) {}
  ~Running() { *request_bytes -= input_bytes; }

  ModelKeeper::Lease lease;  // goes last
  InferCall call;            // as it came, until Ask
  const std::shared_ptr<std::atomic<uint64_t>> request_bytes;
  uint64_t input_bytes = 0;
  TimePoint start;
  TimePoint since;  // the same, but for the wait for a load, which no latency target is about
  std::shared_ptr<const ServedVersion> version;
  std::shared_ptr<ServedTier> tier;  // set as soon as it is known, for the metrics of what fails
  std::shared_ptr<const InferRequest> request;
  CancelFlag cancelled;
  Done done;
  bool any_tier = false;  // the client left the choice to us
  bool any_version = false;
  std::string id;
  std::string fallback;  // why the tier before did not answer
  int64_t rows = 0;      // 0: the model's rows cannot be told apart
};

double Inference::Draw() { return Philox(0x6d696e696d).Uniform(drawn_++); }

Status Inference::Ask(Running& running) {
  InferCall call = std::exchange(running.call, {});
  running.any_version = call.version.empty();
  RouteHints hints;
  if (running.any_version) {
    hints.draw = Draw();
    hints.sticky = [&](const std::string& name) {
      for (const auto& [key, value] : call.request.texts)
        if (key == name) return value;
      return call.header ? call.header(name) : std::string();
    };
  }
  MINIM_TRY(running.version, repository_->Find(call.model, call.version, hints));
  running.any_tier = call.request.tier.empty();
  MINIM_TRY(running.tier, running.version->Tier(""));
  MINIM_TRY(running.tier, running.version->Tier(call.request.tier));
  const bool batchable = running.tier->batcher->batchable();
  const Model& model = *running.tier->model;
  MINIM_TRY(BindRequest(call.request, model.inputs(), model.outputs(), batchable));
  if (batchable) running.rows = call.request.inputs[0].tensor.dims()[0];
  running.request = std::make_shared<const InferRequest>(std::move(call.request));
  return {};
}

void Inference::Infer(InferCall call, Done done) {
  const Flow flow = std::make_shared<Running>(request_bytes_);
  flow->start = call.start;
  flow->id = call.request.id;
  flow->cancelled = call.cancelled;
  flow->done = std::move(done);
  for (const NamedTensor& input : call.request.inputs) flow->input_bytes += input.tensor.bytes();
  *request_bytes_ += flow->input_bytes;
  const std::string model = call.model;
  flow->call = std::move(call);
  const TimePoint asked = Clock::now();
  keeper_->Use(model, [self = shared_from_this(), flow, asked](Result<ModelKeeper::Lease> lease) {
    if (!lease.ok()) return self->Reply(flow, {lease.status(), false, {}});
    flow->since = flow->start + (Clock::now() - asked);
    flow->lease = std::move(*lease);
    if (Status status = self->Ask(*flow); !status.ok())
      return self->Reply(flow, {std::move(status), false, {}});
    self->Launch(flow);
  });
}

MemoryReport Inference::memory() const {
  MemoryReport report = keeper_->Report();
  report.cache_bytes = cache_stats().bytes;
  report.request_bytes = *request_bytes_;
  return report;
}

void Inference::Launch(const Flow& flow) {
  answering_->Answer({flow->version, flow->tier, flow->request, flow->cancelled, true, flow->since},
                     [self = shared_from_this(), flow](const serve::Answered& answer) {
                       self->Answered(flow, answer);
                     });
}

void Inference::LaunchReference(const Flow& flow) {
  repository_->WithReference(
      flow->version, [self = shared_from_this(), flow](Result<std::shared_ptr<ServedTier>> tier) {
        if (!tier.ok()) return self->Reply(flow, {tier.status(), false, {}});
        flow->tier = std::move(*tier);
        self->Launch(flow);
      });
}

bool Inference::FallBack(const Flow& flow, const Status& failure) {
  const std::string failed = flow->tier->name;
  TierChain& chain = *flow->version->chain;
  chain.Failed(failed, std::string(failure.message()), Clock::now());
  const auto next = chain.After(failed);
  if (!next) return false;
  flow->fallback = fmt::format("{}: {}", failed, failure.message());
  flow->tier->metrics->CountFallback("failed");
  if (*next == kReferenceTier) return LaunchReference(flow), true;
  flow->tier = flow->version->tiers.at(*next);
  Launch(flow);
  return true;
}

void Inference::Answered(const Flow& flow, const serve::Answered& answer) {
  if (flow->any_tier && !answer.outputs.ok() && IsTheTiersFault(answer.outputs.status().code()) &&
      FallBack(flow, answer.outputs.status()))
    return;
  if (flow->any_tier && answer.outputs.ok()) {
    flow->version->chain->Answered(flow->tier->name);
    if (!answer.cache_hit && flow->tier->name != kFp32Tier && flow->tier->name != kReferenceTier &&
        HasNonFinite(*answer.outputs))
      return CheckNonFinite(flow, answer);
  }
  Reply(flow, answer);
}

// FP32 says whether NaN and infinity are the model's answer or the tier's fault.
void Inference::CheckNonFinite(const Flow& flow, const serve::Answered& answer) {
  const auto fp32 = flow->version->tiers.at(kFp32Tier);
  answering_->Answer(
      {flow->version, fp32, flow->request, flow->cancelled},
      [self = shared_from_this(), flow, fp32, answer](const serve::Answered& reference) {
        if (!reference.outputs.ok() || HasNonFinite(*reference.outputs))
          return self->Reply(flow, answer);
        flow->version->chain->GaveNonFinite(flow->tier->name, Clock::now());
        flow->tier->metrics->CountFallback("non-finite");
        flow->fallback = fmt::format("{}: NaN or infinity", flow->tier->name);
        flow->tier = fp32;
        self->Reply(flow, reference);
      });
}

void Inference::Reply(const Flow& flow, const serve::Answered& answer) {
  const TimePoint now = Clock::now();
  const Duration total = now - flow->start;
  InferReply reply{answer.outputs, {}, flow->id, flow->version, {}, nullptr, {}};
  if (flow->request) reply.requested = flow->request->outputs;
  const bool ok = answer.outputs.ok();
  const int code = ok ? 200 : HttpStatusOf(answer.outputs.status().code());
  if (!flow->tier) {
    metrics_->CountOther(code);
    return flow->done(std::move(reply));
  }
  const BatchTimes& times = answer.times;
  CountStats(*flow->version->stats, answer, total);
  // A version that only its last resort can answer for is no good one.
  const bool well = (ok || code < 500) && flow->tier->name != kReferenceTier;
  if (flow->any_version) flow->version->rollout->Answered(flow->version->number, well, total);
  ObservePhases(*flow->tier->metrics, answer, total);
  LogIfSlow(*flow, answer, total);
  flow->tier->metrics->CountRequest(code);
  const int64_t own_rows = std::max<int64_t>(flow->rows, 1);
  reply.tier = flow->tier;
  reply.ready = now;
  reply.notes = {.tier = flow->tier->name,
                 .fallback = flow->fallback,
                 .rows = own_rows,
                 .batch_size = answer.cache_hit ? own_rows : times.batch_rows,
                 .cache_hit = answer.cache_hit,
                 .queue_us = Micros(times.queue),
                 .infer_us = Micros(times.infer),
                 .total_us = Micros(total)};
  flow->done(std::move(reply));
  if (ok && !answer.cache_hit && flow->any_tier) RunBeside(flow, answer);
}

void Inference::LogIfSlow(const Running& running, const serve::Answered& answer,
                          Duration total) const {
  if (total < slow_log_.over || !slow_log_.log) return;
  const BatchTimes& times = answer.times;
  slow_log_.log(fmt::format(
      "slow: model '{}' version {} tier '{}' id '{}': {:.3f} ms (queue {:.3f}, batch {:.3f}, "
      "compute {:.3f}, split {:.3f}; {} rows a run{})",
      running.version->model, running.version->version, running.tier->name, running.id,
      Milliseconds(total), Milliseconds(times.queue), Milliseconds(times.input),
      Milliseconds(times.infer), Milliseconds(times.output), times.batch_rows,
      answer.outputs.ok() ? "" : "; failed: " + std::string(answer.outputs.status().message())));
}

void Inference::RunBeside(const Flow& flow, const serve::Answered& answer) {
  if (beside_ >= kMaxBeside) return;
  const double draw = Draw();
  if (flow->any_version) {
    if (const auto other = flow->version->rollout->RunBeside(flow->version->number, draw))
      return CompareVersions(flow, answer, *other);
  }
  if (const auto other = flow->version->chain->RunBeside(flow->tier->name, draw, Clock::now()))
    CompareTiers(flow, answer, *other);
}

bool Inference::AnswerElsewhere(const Flow& flow,
                                const std::shared_ptr<const ServedVersion>& version,
                                const std::shared_ptr<ServedTier>& tier, Answering::Done done) {
  if (tier->batcher->queued_rows() >= kMaxBeside) return false;
  ++beside_;
  answering_->Answer({version, tier, flow->request, nullptr, false},
                     [self = shared_from_this(), done = std::move(done)](const serve::Answered& a) {
                       --self->beside_;
                       done(a);
                     });
  return true;
}

void Inference::CompareTiers(const Flow& flow, const serve::Answered& answer,
                             const std::string& other) {
  const auto tier = flow->version->tiers.find(other);
  if (tier == flow->version->tiers.end()) return;
  const bool other_is_fp32 = other == kFp32Tier;
  AnswerElsewhere(flow, flow->version, tier->second,
                  [flow, answer, other, other_is_fp32](const serve::Answered& second) {
                    TierChain& chain = *flow->version->chain;
                    if (!second.outputs.ok()) {
                      // FP32's trouble says nothing of the tier it was to judge.
                      if (!other_is_fp32)
                        chain.Failed(other, std::string(second.outputs.status().message()),
                                     Clock::now());
                      return;
                    }
                    const serve::Answered& fp32 = other_is_fp32 ? second : answer;
                    const serve::Answered& low = other_is_fp32 ? answer : second;
                    chain.Compared(other_is_fp32 ? flow->tier->name : other,
                                   CompareAnswers(*low.outputs, *fp32.outputs, flow->rows),
                                   TimeRatio(low.times, fp32.times), Clock::now());
                  });
}

void Inference::CompareVersions(const Flow& flow, const serve::Answered& answer, int64_t other) {
  const auto version = repository_->Find(flow->version->model, std::to_string(other));
  if (!version.ok()) return;
  const auto tier = (*version)->Tier("");
  if (!tier.ok()) return;
  AnswerElsewhere(flow, *version, *tier, [flow, answer, other](const serve::Answered& second) {
    const int64_t served = flow->version->number;
    const int64_t candidate = std::max(served, other);
    Rollout& rollout = *flow->version->rollout;
    if (other == candidate)
      rollout.Answered(other, second.outputs.ok(), second.times.queue + second.times.infer);
    if (!second.outputs.ok()) return;
    const auto& newer = candidate == served ? *answer.outputs : *second.outputs;
    const auto& older = candidate == served ? *second.outputs : *answer.outputs;
    rollout.Compared(candidate, CompareAnswers(newer, older, flow->rows),
                     ScoreOf(newer) - ScoreOf(older));
  });
}

Status Inference::CheckInTime(const std::string& model, const std::string& version,
                              TimePoint since) {
  const TimePoint now = Clock::now();
  if (now - since < kShortWait) return {};
  const auto found = repository_->Find(model, version);
  if (!found.ok()) return {};  // the request's own way says so
  const auto tier = (*found)->Tier("");
  if (!tier.ok()) return {};
  Status status = (*tier)->batcher->CheckInTime(since);
  if (status.ok()) return status;
  (*found)->stats->fail.Add(now - since);
  (*tier)->metrics->CountRequest(HttpStatusOf(status.code()));
  return status;
}

Status Inference::Refuse(const std::string& model, const std::string& version, Status status) {
  auto found = repository_->Find(model, version);
  if (!found.ok() && !keeper_->IsAvailable(model)) status = found.status();
  const int code = HttpStatusOf(status.code());
  auto tier = found.ok() ? (*found)->Tier("") : Result<std::shared_ptr<ServedTier>>(status);
  if (tier.ok()) {
    (*tier)->metrics->CountRequest(code);
  } else {
    metrics_->CountOther(code);
  }
  return status;
}

}  // namespace minim::serve
