#include "serve/protocol/inference.h"

namespace minim::serve {
namespace {

int64_t Micros(Duration time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

int64_t EpochMilliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

}  // namespace

// What an answer needs besides its tensors.
struct Inference::Running {
  TimePoint start;
  std::shared_ptr<const ServedVersion> version;
  std::shared_ptr<ServedTier> tier;  // set as soon as it is known, for the metrics of what fails
  std::string id;
  std::vector<RequestedOutput> requested;
  int64_t rows = 1;
};

Status Inference::Ask(InferCall& call, Running& running, Question& question) const {
  MINIM_TRY(running.version, repository_->Find(call.model, call.version));
  MINIM_TRY(running.tier, running.version->Tier(""));
  MINIM_TRY(running.tier, running.version->Tier(call.request.tier));
  const bool batchable = running.tier->batcher->batchable();
  const Model& model = *running.tier->model;
  MINIM_TRY(BindRequest(call.request, model.inputs(), model.outputs(), batchable));
  running.requested = call.request.outputs;
  if (batchable) running.rows = call.request.inputs[0].tensor.dims()[0];
  question = {running.version, running.tier, std::move(call.request), call.cancelled};
  return {};
}

void Inference::Infer(InferCall call, Done done) {
  auto running = std::make_shared<Running>();
  running->start = call.start;
  running->id = call.request.id;
  Question question;
  if (Status status = Ask(call, *running, question); !status.ok())
    return Reply(*running, {std::move(status), false, {}}, done);
  answering_->Answer(std::move(question), [self = shared_from_this(), running = std::move(running),
                                           done = std::move(done)](const Answered& answer) {
    self->Reply(*running, answer, done);
  });
}

namespace {

void CountStats(ModelStats& stats, const Answered& answer, Duration total) {
  (answer.outputs.ok() ? stats.success : stats.fail).Add(total);
  if (answer.cache_hit || !answer.outputs.ok()) return;
  stats.queue.Add(answer.times.queue);
  stats.compute_input.Add(answer.times.input);
  stats.compute_infer.Add(answer.times.infer);
  stats.compute_output.Add(answer.times.output);
  stats.last_inference_ms = EpochMilliseconds();
}

}  // namespace

void Inference::Reply(const Running& running, const Answered& answer, const Done& done) const {
  const Duration total = Clock::now() - running.start;
  InferReply reply{answer.outputs, running.requested, running.id, running.version, {}};
  const int code = answer.outputs.ok() ? 200 : HttpStatusOf(answer.outputs.status().code());
  if (!running.tier) {
    metrics_->CountOther(code);
    return done(std::move(reply));
  }
  const BatchTimes& times = answer.times;
  CountStats(*running.version->stats, answer, total);
  running.tier->metrics->ObserveStages(times.queue, times.infer, times.output, total);
  running.tier->metrics->CountRequest(code);
  reply.notes = {.tier = running.tier->name,
                 .batch_size = answer.cache_hit ? running.rows : times.batch_rows,
                 .cache_hit = answer.cache_hit,
                 .queue_us = Micros(times.queue),
                 .infer_us = Micros(times.infer),
                 .total_us = Micros(total)};
  done(std::move(reply));
}

Status Inference::Refuse(const std::string& model, const std::string& version, Status status) {
  auto found = repository_->Find(model, version);
  if (!found.ok()) status = found.status();
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
