#include "serve/protocol/answering.h"

#include <algorithm>

namespace minim::serve {

struct Answering::Call {
  Question question;
  Done done;
  TimePoint start;
  std::shared_ptr<const ServingConfig> config;
  Digest128 key;
  bool cached = false;  // looks into the cache and fills it
  bool leads = false;   // others wait for this one's answer
};

Digest128 Answering::KeyOf(const Question& question) const {
  std::vector<std::string> names, outputs;
  std::vector<ConstView> views;
  for (const NamedTensor& input : question.request->inputs) {
    names.push_back(input.name);
    views.push_back(input.tensor.view());
  }
  for (const RequestedOutput& output : question.request->outputs) outputs.push_back(output.name);
  return RequestKey(secret_,
                    {question.version->model, question.version->version, question.tier->name,
                     question.tier->generation, names, views, outputs});
}

void Answering::Answer(Question question, Done done) {
  const auto call = std::make_shared<Call>();
  call->question = std::move(question);
  call->done = std::move(done);
  call->start = Clock::now();
  call->config = call->question.version->config->Get();
  call->cached = options_.cache != nullptr && call->config->cache && call->question.use_cache &&
                 call->question.request->use_cache;
  if (!call->cached) return Run(call);
  call->key = KeyOf(call->question);
  if (AnswerFromCache(*call)) return;
  call->leads = flights_.Join(call->key, [self = shared_from_this(), call](const Answered& answer) {
    self->Follow(call, answer);
  });
  if (call->leads) Run(call);
}

bool Answering::AnswerFromCache(Call& call) {
  const auto value = options_.cache->Get(call.key);
  if (!value.ok() || !value->has_value()) return false;  // a dead cache only costs speed
  auto outputs = codec_.Decode(**value);
  if (!outputs.ok() || outputs->size() != call.question.request->outputs.size()) return false;
  Answered answer{std::move(*outputs), true, {}};
  call.question.tier->metrics->CountCache(true);
  call.question.version->stats->cache_hit.Add(Clock::now() - call.start);
  call.done(answer);
  return true;
}

// The leader's own troubles are not its followers': they run by themselves then.
void Answering::Follow(const std::shared_ptr<Call>& call, const Answered& answer) {
  const StatusCode code = answer.outputs.status().code();
  if (code == StatusCode::kCancelled || code == StatusCode::kDeadlineExceeded) return Run(call);
  Answered shared = answer;
  shared.cache_hit = answer.outputs.ok();
  if (shared.cache_hit) {
    call->question.tier->metrics->CountCache(true);
    call->question.version->stats->cache_hit.Add(Clock::now() - call->start);
  }
  call->done(shared);
}

// A client may ask for less time than the server gives, not for more.
TimePoint Answering::DeadlineOf(const Call& call) const {
  const uint64_t asked_us = call.question.request->timeout_us.value_or(0);
  const auto most_us =
      std::chrono::duration_cast<std::chrono::microseconds>(call.config->default_timeout);
  if (asked_us == 0 || asked_us >= static_cast<uint64_t>(most_us.count()))
    return call.start + most_us;
  return call.start + std::chrono::microseconds(asked_us);
}

void Answering::Run(const std::shared_ptr<Call>& call) {
  Question& question = call->question;
  BatchJob job;
  for (const NamedTensor& input : question.request->inputs) job.inputs.push_back(input.tensor);
  job.may_batch = question.request->use_batching && call->config->batching;
  job.cancelled = question.cancelled;
  job.priority = question.request->priority;
  job.deadline = DeadlineOf(*call);
  job.done = [self = shared_from_this(), call](BatchResult result) {
    self->Finish(call, std::move(result));
  };
  const Status status = question.tier->batcher->Submit(std::move(job));
  if (!status.ok()) Finish(call, {status, {}});
}

std::vector<Tensor> Answering::Wanted(const Call& call, const std::vector<Tensor>& all) const {
  const std::vector<TensorInfo>& infos = call.question.tier->model->outputs();
  std::vector<Tensor> wanted;
  for (const RequestedOutput& output : call.question.request->outputs)
    for (size_t i = 0; i < infos.size(); ++i)
      if (infos[i].name == output.name) wanted.push_back(all[i]);
  return wanted;
}

void Answering::Finish(const std::shared_ptr<Call>& call, BatchResult result) {
  Answered answer{result.outputs.status(), false, result.times};
  if (result.outputs.ok()) answer.outputs = Wanted(*call, *result.outputs);
  if (call->cached) {
    call->question.tier->metrics->CountCache(false);
    call->question.version->stats->cache_miss.Add(Clock::now() - call->start);
  }
  if (call->cached && answer.outputs.ok()) {
    // A value that cannot be kept is computed again: no reason to fail the request.
    (void)options_.cache->Put(call->key, codec_.Encode(*answer.outputs), call->config->cache_ttl);
  }
  call->done(answer);
  if (call->leads) flights_.Land(call->key, answer);
}

}  // namespace minim::serve
