// Inference: one infer request, whatever wire it came over: which model and tier, checked against
// the signature, answered, counted.
// Threads: every method may be called concurrently; `done` runs on the caller's thread or on a
// batcher's, once for every call.
// Lifetime: answers may still come after the object's owner let go of it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
};

class Inference : public std::enable_shared_from_this<Inference> {
 public:
  using Done = std::function<void(InferReply)>;

  Inference(AnsweringOptions options, std::shared_ptr<Repository> repository,
            std::shared_ptr<Metrics> metrics)
      : answering_(std::make_shared<Answering>(std::move(options))),
        repository_(std::move(repository)),
        metrics_(std::move(metrics)) {}

  void Infer(InferCall call, Done done);

  /// Counts a request that could not be read, and says what to answer: that the model is not there,
  /// if it is not, else `status`.
  Status Refuse(const std::string& model, const std::string& version, Status status);

  const AnswerCodec& codec() const { return answering_->codec(); }

 private:
  struct Running;

  Status Ask(InferCall& call, Running& running, Question& question) const;
  void Reply(const Running& running, const Answered& answer, const Done& done) const;

  const std::shared_ptr<Answering> answering_;
  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<Metrics> metrics_;
};

}  // namespace minim::serve
