// Answering: from a parsed request to tensors, by way of the cache, identical requests in flight,
// and the batcher.
// Threads: Answer may be called concurrently; `done` runs on the caller's thread for what this
// process has cached, else on a batcher's or, for what a shared cache knew, on the cache's.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "serve/cache/codec.h"
#include "serve/cache/prediction_cache.h"
#include "serve/cache/request_key.h"
#include "serve/cache/single_flight.h"
#include "serve/protocol/infer_request.h"
#include "serve/repository/repository.h"

namespace minim::serve {

struct AnsweringOptions {
  /// Without one every request runs.
  std::shared_ptr<PredictionCache> cache;
};

/// The outputs in the order of request.outputs.
struct Answered {
  Result<std::vector<Tensor>> outputs;
  bool cache_hit = false;
  BatchTimes times;
};

struct Question {
  std::shared_ptr<const ServedVersion> version;
  std::shared_ptr<ServedTier> tier;
  /// Bound to the version's signature.
  std::shared_ptr<const InferRequest> request;
  CancelFlag cancelled;
  /// Whether the cache may answer, and remember, if the request and the model allow it too.
  bool use_cache = true;
  /// When the client began to wait, if it does.
  TimePoint since = TimePoint::max();
};

class Answering : public std::enable_shared_from_this<Answering> {
 public:
  using Done = std::function<void(const Answered&)>;

  explicit Answering(AnsweringOptions options)
      : options_(std::move(options)), secret_(RandomSecret()) {}

  void Answer(Question question, Done done);
  /// Hits and misses are those of requests. All 0 without a cache.
  CacheStats cache_stats() const;

 private:
  struct Call;

  /// Calls use(KeyParts) with what decides the answer.
  template <typename F>
  static auto WithKeyParts(const Question& question, F&& use);
  static Duration ComputeOf(const Call& call, const BatchTimes& times);
  static bool AreOutputs(const Call& call, const std::vector<Tensor>& tensors);
  static CacheKey KeyOf(const std::shared_ptr<Call>& call);
  bool AnswerFromCache(Call& call, const std::string& bytes);
  void CountHit(const Call& call, Duration compute);
  void LookFurther(const std::shared_ptr<Call>& call);
  void Follow(const std::shared_ptr<Call>& call, const Answered& answer);
  void Run(const std::shared_ptr<Call>& call);
  void Finish(const std::shared_ptr<Call>& call, BatchResult result);
  TimePoint DeadlineOf(const Call& call) const;
  std::vector<Tensor> Wanted(const Call& call, const std::vector<Tensor>& all) const;

  const AnsweringOptions options_;
  const Digest128 secret_;
  AnswerCodec codec_;
  SingleFlight<Answered> flights_;
  std::atomic<uint64_t> hits_{0}, misses_{0};
  std::atomic<int64_t> saved_us_{0};
};

}  // namespace minim::serve
