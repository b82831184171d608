// Inference: one infer request, whatever wire it came over: which version and tier, checked against
// the signature, answered (by the next tier if one fails), compared, counted.
// Threads: every method may be called concurrently; `done` runs on the caller's thread, on a
// batcher's, a shared cache's or the repository's, once for every call.
// Lifetime: answers may still come after the object's owner let go of it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/preload/model_keeper.h"
#include "serve/protocol/answering.h"
#include "serve/protocol/infer_response.h"
#include "serve/repository/repository.h"

namespace minim::serve {

struct InferCall {
  std::string model;
  /// Empty: the server's choice.
  std::string version;
  /// As the client sent it; not checked against any model.
  InferRequest request;
  CancelFlag cancelled;
  /// A header or metadata field of the call; empty without one. Not called after the reply.
  std::function<std::string(const std::string& name)> header;
  TimePoint start = Clock::now();
};

struct InferReply {
  /// In the order of `requested`.
  Result<std::vector<Tensor>> outputs;
  std::vector<RequestedOutput> requested;
  std::string id;
  /// Null if the request failed before a model was found.
  std::shared_ptr<const ServedVersion> version;
  AnswerNotes notes;
  /// That answered; set if `version` is and a tier was found.
  std::shared_ptr<ServedTier> tier;
  TimePoint ready;
};

/// Requests that took so long are logged, with their phases.
struct SlowLog {
  Duration over = Duration::max();
  LogFunction log;
};

class Inference : public std::enable_shared_from_this<Inference> {
 public:
  using Done = std::function<void(InferReply)>;

  Inference(AnsweringOptions options, std::shared_ptr<Repository> repository,
            std::shared_ptr<ModelKeeper> keeper, std::shared_ptr<Metrics> metrics,
            SlowLog slow_log = {})
      : answering_(std::make_shared<Answering>(std::move(options))),
        repository_(std::move(repository)),
        keeper_(std::move(keeper)),
        metrics_(std::move(metrics)),
        slow_log_(std::move(slow_log)) {}

  void Infer(InferCall call, Done done);

  /// Whether the model's latency target has passed already, while the request, which began to wait
  /// at `since`, was on its way to be read. Counts those it refuses. Errors: kResourceExhausted.
  Status CheckInTime(const std::string& model, const std::string& version, TimePoint since);

  /// Counts a request that could not be read, and says what to answer: that the model is not there,
  /// if it is not, else `status`.
  Status Refuse(const std::string& model, const std::string& version, Status status);

  CacheStats cache_stats() const { return answering_->cache_stats(); }
  /// What the server holds, in its models and beside them.
  MemoryReport memory() const;
  const std::shared_ptr<ModelKeeper>& keeper() const { return keeper_; }

 private:
  struct Running;
  using Flow = std::shared_ptr<Running>;

  Status Ask(Running& running);
  void Launch(const Flow& flow);
  void LaunchReference(const Flow& flow);
  void Answered(const Flow& flow, const serve::Answered& answer);
  /// Another tier takes the request over; false if there is none.
  bool FallBack(const Flow& flow, const Status& failure);
  void CheckNonFinite(const Flow& flow, const serve::Answered& answer);
  void Reply(const Flow& flow, const serve::Answered& answer);
  void RunBeside(const Flow& flow, const serve::Answered& answer);
  void CompareTiers(const Flow& flow, const serve::Answered& answer, const std::string& other);
  void CompareVersions(const Flow& flow, const serve::Answered& answer, int64_t other);
  /// Runs the same request elsewhere; nobody waits for it, the cache does not see it.
  bool AnswerElsewhere(const Flow& flow, const std::shared_ptr<const ServedVersion>& version,
                       const std::shared_ptr<ServedTier>& tier, Answering::Done done);
  void LogIfSlow(const Running& running, const serve::Answered& answer, Duration total) const;
  double Draw();

  const std::shared_ptr<Answering> answering_;
  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<ModelKeeper> keeper_;
  const std::shared_ptr<Metrics> metrics_;
  const SlowLog slow_log_;
  std::atomic<uint64_t> drawn_{0};
  std::atomic<int> beside_{0};
  // Of inputs of requests in progress; shared with those that outlive this.
  const std::shared_ptr<std::atomic<uint64_t>> request_bytes_ =
      std::make_shared<std::atomic<uint64_t>>(0);
};

}  // namespace minim::serve
