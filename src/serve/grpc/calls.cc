#include "serve/grpc/calls.h"

#include <deque>
#include <new>
#include <stdexcept>

#include "serve/grpc/infer_proto.h"

namespace minim::serve {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;

// Messages travel in a header field, percent-encoded: clients take 8 KiB of them by default.
constexpr size_t kMaxErrorBytes = 2000;

::grpc::StatusCode CodeOf(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return ::grpc::StatusCode::OK;
    case StatusCode::kInvalidArgument: return ::grpc::StatusCode::INVALID_ARGUMENT;
    case StatusCode::kNotFound: return ::grpc::StatusCode::NOT_FOUND;
    case StatusCode::kUnsupported: return ::grpc::StatusCode::UNIMPLEMENTED;
    case StatusCode::kDataLoss: return ::grpc::StatusCode::DATA_LOSS;
    // Not UNAVAILABLE, which clients retry: a full queue must not fill faster.
    case StatusCode::kResourceExhausted: return ::grpc::StatusCode::RESOURCE_EXHAUSTED;
    case StatusCode::kDeadlineExceeded: return ::grpc::StatusCode::DEADLINE_EXCEEDED;
    case StatusCode::kUnavailable: return ::grpc::StatusCode::UNAVAILABLE;
    case StatusCode::kCancelled: return ::grpc::StatusCode::CANCELLED;
    case StatusCode::kInternal: return ::grpc::StatusCode::INTERNAL;
  }
  return ::grpc::StatusCode::UNKNOWN;
}

Result<InferRequest> ReadWithinMemory(const ModelInferRequest& message) {
  try {
    return ReadInferRequest(message);
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {
  }
  return ResourceExhausted("the request asks for more memory than there is");
}

// A field of the call's metadata, whose names are in lower case; empty without one.
std::string Field(const ::grpc::CallbackServerContext& context, std::string name) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  const auto& fields = context.client_metadata();
  const auto it = fields.find(name);
  return it == fields.end() ? "" : std::string(it->second.data(), it->second.size());
}

// A call's deadline counts as the request's timeout, if it comes sooner.
void LimitTime(Calls::SystemTime deadline, InferRequest& request) {
  if (deadline == Calls::SystemTime::max()) return;
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(
      deadline - std::chrono::system_clock::now());
  const auto left_us = static_cast<uint64_t>(std::max<int64_t>(left.count(), 1));
  const uint64_t asked_us = request.timeout_us.value_or(0);  // 0: none
  request.timeout_us = asked_us == 0 ? left_us : std::min(asked_us, left_us);
}

class UnaryInfer final : public ::grpc::ServerUnaryReactor {
 public:
  explicit UnaryInfer(Calls& calls) : calls_(calls) { calls_.Began(); }
  const CancelFlag& cancelled() const { return cancelled_; }

  void OnCancel() override { *cancelled_ = true; }
  void OnDone() override {
    calls_.Ended();
    delete this;
  }

 private:
  Calls& calls_;
  const CancelFlag cancelled_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace

::grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return ::grpc::Status::OK;
  return {CodeOf(status.code()), status.message().substr(0, kMaxErrorBytes)};
}

// Requests are worked on side by side, answers leave in the order of the requests. Whatever runs
// here holds a reference, so that the lock outlives its guard when the last step ends the stream.
class StreamInfer final : public Calls::StreamReactor,
                          public std::enable_shared_from_this<StreamInfer> {
 public:
  StreamInfer(Calls& calls, const ::grpc::CallbackServerContext& context)
      : calls_(calls), context_(context) {
    calls_.Began();
  }

  void Begin(bool draining) {
    std::lock_guard lock(mutex_);
    draining_ = draining;
    Proceed();
  }
  void Drain() {
    std::lock_guard lock(mutex_);
    draining_ = true;
    Proceed();
  }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override { *cancelled_ = true; }
  void OnDone() override { calls_.Ended(shared_from_this()); }

 private:
  struct Slot {
    bool ready = false;
    ModelStreamInferResponse answer;
  };

  void Answer(Slot& slot, const InferReply& reply);
  void Proceed();

  Calls& calls_;
  const ::grpc::CallbackServerContext& context_;
  const CancelFlag cancelled_ = std::make_shared<std::atomic<bool>>(false);
  ModelInferRequest incoming_;  // the read's, while reading_
  // Recursive: gRPC may call back from within what Proceed starts.
  std::recursive_mutex mutex_;
  std::deque<Slot> slots_;  // guarded by mutex_, as all below; references into it stay valid
  bool reading_ = false;
  bool writing_ = false;
  bool read_all_ = false;
  bool draining_ = false;
  bool finished_ = false;
};

// Starts whatever may be started now. Needs the lock.
void StreamInfer::Proceed() {
  if (!finished_ && !writing_ && !slots_.empty() && slots_.front().ready) {
    writing_ = true;
    StartWrite(&slots_.front().answer);
  }
  if (!finished_ && slots_.empty() && (read_all_ || draining_)) {
    finished_ = true;
    Finish(read_all_ ? ::grpc::Status::OK
                     : ToGrpc(Unavailable("the server is stopping; try another one")));
  }
  const bool full = slots_.size() >= calls_.max_stream_requests();
  if (finished_ || reading_ || read_all_ || draining_ || full) return;
  reading_ = true;
  StartRead(&incoming_);
}

void StreamInfer::OnReadDone(bool ok) {
  const auto self = shared_from_this();
  Slot* slot = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    if (!ok) {
      read_all_ = true;
      return Proceed();
    }
    slot = &slots_.emplace_back();
  }
  calls_.Answer(incoming_, context_, cancelled_,
                [self, slot](const InferReply& reply) { self->Answer(*slot, reply); });
  std::lock_guard lock(mutex_);
  reading_ = false;
  Proceed();
}

void StreamInfer::Answer(Slot& slot, const InferReply& reply) {
  ModelInferResponse& response = *slot.answer.mutable_infer_response();
  if (reply.outputs.ok()) {
    WriteInferResponse(reply, response);
  } else {
    response.set_id(reply.id);
    slot.answer.set_error_message(reply.outputs.status().message());
  }
  // Triton's clients count answers by it.
  (*response.mutable_parameters())["triton_final_response"].set_bool_param(true);
  std::lock_guard lock(mutex_);
  slot.ready = true;
  Proceed();
}

void StreamInfer::OnWriteDone(bool /*ok*/) {  // a broken stream ends like any other
  const auto self = shared_from_this();
  std::lock_guard lock(mutex_);
  writing_ = false;
  slots_.pop_front();
  Proceed();
}

void Calls::Answer(const ModelInferRequest& message, const ::grpc::CallbackServerContext& context,
                   CancelFlag cancelled, Inference::Done done) {
  InferCall call{.model = message.model_name(),
                 .version = message.model_version(),
                 .cancelled = std::move(cancelled),
                 .header = [&context](const std::string& name) { return Field(context, name); }};
  const size_t bytes = message.ByteSizeLong();
  const size_t before = bytes_.fetch_add(bytes);
  const auto counted = [this, bytes, done = std::move(done)](InferReply reply) {
    bytes_ -= bytes;
    done(std::move(reply));
  };
  Result<InferRequest> request =
      before + bytes > max_bytes_
          ? ResourceExhausted("requests in progress hold {} bytes, {} at most; try again", before,
                              max_bytes_)
          : ReadWithinMemory(message);
  if (!request.ok()) {
    const Status status = inference_->Refuse(call.model, call.version, request.status());
    return counted({status, {}, message.id(), nullptr, {}});
  }
  call.request = std::move(*request);
  LimitTime(context.deadline(), call.request);
  inference_->Infer(std::move(call), counted);
}

::grpc::ServerUnaryReactor* Calls::Infer(::grpc::CallbackServerContext* context,
                                         const ModelInferRequest* request,
                                         ModelInferResponse* response) {
  auto* reactor = new UnaryInfer(*this);  // its OnDone deletes it
  Answer(*request, *context, reactor->cancelled(), [reactor, response](const InferReply& reply) {
    if (reply.outputs.ok()) WriteInferResponse(reply, *response);
    reactor->Finish(ToGrpc(reply.outputs.status()));
  });
  return reactor;
}

Calls::StreamReactor* Calls::InferStream(::grpc::CallbackServerContext* context) {
  const auto stream = std::make_shared<StreamInfer>(*this, *context);
  bool draining = false;
  {
    std::lock_guard lock(mutex_);
    streams_.insert(stream);
    draining = draining_;
  }
  stream->Begin(draining);
  return stream.get();
}

void Calls::Ended() {
  std::lock_guard lock(mutex_);
  if (--in_progress_ == 0) changed_.notify_all();
}

void Calls::Ended(const std::shared_ptr<StreamInfer>& stream) {
  {
    std::lock_guard lock(mutex_);
    streams_.erase(stream);
  }
  Ended();
}

void Calls::DrainStreams() {
  std::set<std::shared_ptr<StreamInfer>> streams;
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
    streams = streams_;
  }
  for (const auto& stream : streams) stream->Drain();
}

bool Calls::WaitForNone(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [this] { return in_progress_ == 0; });
}

}  // namespace minim::serve
