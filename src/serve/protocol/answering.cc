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

namespace {

bool Fits(const Tensor& tensor, const TensorInfo& info) {
  const Dims& dims = tensor.dims();
  if (tensor.dtype() != info.dtype) return false;
  if (!info.ranked) return true;
  if (dims.rank() != static_cast<int>(info.dims.size())) return false;
  for (int axis = 0; axis < dims.rank(); ++axis)
    if (info.dims[axis] >= 0 && info.dims[axis] != dims[axis]) return false;
  return true;
}

// Keys and stored answers are the tensors' own bytes, which strings keep elsewhere.
bool CanBeCached(const Question& question) {
  const auto is_string = [](const TensorInfo& info) { return info.dtype == DType::string; };
  const Model& model = *question.tier->model;
  return std::none_of(model.inputs().begin(), model.inputs().end(), is_string) &&
         std::none_of(model.outputs().begin(), model.outputs().end(), is_string);
}

}  // namespace

// The request's part of its batch's time.
Duration Answering::ComputeOf(const Call& call, const BatchTimes& times) {
  const std::vector<NamedTensor>& inputs = call.question.request->inputs;
  const bool rows = !inputs.empty() && inputs[0].tensor.dims().rank() > 0;
  const int64_t own = rows ? inputs[0].tensor.dims()[0] : 1;
  if (times.batch_rows <= own) return times.infer;
  return times.infer * own / times.batch_rows;
}

bool Answering::AreOutputs(const Call& call, const std::vector<Tensor>& tensors) {
  const std::vector<RequestedOutput>& wanted = call.question.request->outputs;
  if (tensors.size() != wanted.size()) return false;
  for (const TensorInfo& info : call.question.tier->model->outputs())
    for (size_t i = 0; i < wanted.size(); ++i)
      if (wanted[i].name == info.name && !Fits(tensors[i], info)) return false;
  return true;
}

template <typename F>
auto Answering::WithKeyParts(const Question& question, F&& use) {
  std::vector<std::string> names, outputs;
  std::vector<ConstView> views;
  for (const NamedTensor& input : question.request->inputs) {
    names.push_back(input.name);
    views.push_back(input.tensor.view());
  }
  for (const RequestedOutput& output : question.request->outputs) outputs.push_back(output.name);
  return use(KeyParts{question.version->model, question.version->version, question.tier->name,
                      question.tier->generation, question.tier->content, names, views, outputs});
}

CacheKey Answering::KeyOf(const std::shared_ptr<Call>& call) {
  return {call->key, [call] { return WithKeyParts(call->question, SharedRequestKey); }};
}

void Answering::Answer(Question question, Done done) {
  const auto call = std::make_shared<Call>();
  call->question = std::move(question);
  call->done = std::move(done);
  call->start = Clock::now();
  call->config = call->question.version->config->Get();
  call->cached = options_.cache != nullptr && call->config->cache && call->question.use_cache &&
                 call->question.request->use_cache && CanBeCached(call->question);
  if (!call->cached) return Run(call);
  call->key = WithKeyParts(call->question,
                           [&](const KeyParts& parts) { return RequestKey(secret_, parts); });
  const auto cached = options_.cache->GetNow({call->key});
  if (cached && AnswerFromCache(*call, *cached)) return;
  call->leads = flights_.Join(call->key, [self = shared_from_this(), call](const Answered& answer) {
    self->Follow(call, answer);
  });
  if (call->leads) LookFurther(call);
}

// Once for all who wait: in a cache elsewhere, and again in this process, where an answer may have
// come in since.
void Answering::LookFurther(const std::shared_ptr<Call>& call) {
  options_.cache->Get(
      KeyOf(call), [self = shared_from_this(), call](std::optional<PredictionCache::Found> found) {
        if (!found || !self->AnswerFromCache(*call, found->value)) self->Run(call);
      });
}

// Bytes of a shared cache may be anything.
bool Answering::AnswerFromCache(Call& call, const std::string& bytes) {
  auto cached = codec_.Decode(bytes);
  if (!cached.ok() || !AreOutputs(call, cached->tensors)) return false;
  const Answered answer{std::move(cached->tensors), true, {}};
  CountHit(call, cached->compute);
  call.done(answer);
  if (call.leads) flights_.Land(call.key, answer);
  return true;
}

void Answering::CountHit(const Call& call, Duration compute) {
  ++hits_;
  saved_us_ += std::chrono::duration_cast<std::chrono::microseconds>(compute).count();
  call.question.tier->metrics->CountCache(true);
  call.question.version->stats->cache_hit.Add(Clock::now() - call.start);
}

CacheStats Answering::cache_stats() const {
  if (!options_.cache) return {};
  CacheStats stats = options_.cache->stats();
  stats.hits = hits_;
  stats.misses = misses_;
  stats.raw_bytes = codec_.raw_bytes();
  stats.stored_bytes = codec_.stored_bytes();
  stats.saved = std::chrono::microseconds(saved_us_);
  return stats;
}

// The leader's own troubles are not its followers': they run by themselves then.
void Answering::Follow(const std::shared_ptr<Call>& call, const Answered& answer) {
  const StatusCode code = answer.outputs.status().code();
  if (code == StatusCode::kCancelled || code == StatusCode::kDeadlineExceeded) return Run(call);
  Answered shared = answer;
  shared.cache_hit = answer.outputs.ok();
  if (shared.cache_hit) CountHit(*call, ComputeOf(*call, answer.times));
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
  job.since = question.since;
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
    ++misses_;
    call->question.tier->metrics->CountCache(false);
    call->question.version->stats->cache_miss.Add(Clock::now() - call->start);
  }
  if (call->cached && answer.outputs.ok()) {
    // A value that cannot be kept is computed again: no reason to fail the request.
    const auto compute =
        std::chrono::duration_cast<std::chrono::microseconds>(ComputeOf(*call, answer.times));
    options_.cache->Put(KeyOf(call), codec_.Encode({*answer.outputs, compute}),
                        call->config->cache_ttl);
  }
  call->done(answer);
  if (call->leads) flights_.Land(call->key, answer);
}

}  // namespace minim::serve
