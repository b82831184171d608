// Answering: from a parsed request to tensors, by way of the cache, identical requests in flight,
// and the batcher.
// Threads: Answer may be called concurrently; `done` runs on the caller's thread for a cache hit,
// else on a batcher's.
#pragma once

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
};

class Answering : public std::enable_shared_from_this<Answering> {
 public:
  using Done = std::function<void(const Answered&)>;

  explicit Answering(AnsweringOptions options)
      : options_(std::move(options)), secret_(RandomSecret()) {}

  void Answer(Question question, Done done);
  const AnswerCodec& codec() const { return codec_; }

 private:
  struct Call;

  Digest128 KeyOf(const Question& question) const;
  bool AnswerFromCache(Call& call);
  void Follow(const std::shared_ptr<Call>& call, const Answered& answer);
  void Run(const std::shared_ptr<Call>& call);
  void Finish(const std::shared_ptr<Call>& call, BatchResult result);
  TimePoint DeadlineOf(const Call& call) const;
  std::vector<Tensor> Wanted(const Call& call, const std::vector<Tensor>& all) const;

  const AnsweringOptions options_;
  const Digest128 secret_;
  AnswerCodec codec_;
  SingleFlight<Answered> flights_;
};

}  // namespace minim::serve
