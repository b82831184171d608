#include "serve/grpc/calls.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <deque>
#include <new>
#include <stdexcept>

#include "serve/grpc/infer_proto.h"
#include "serve/http/encoding.h"

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

// How the bytes are packed, by their first two: no ModelInferRequest begins like gzip (a wire type
// that does not exist) or zlib (a field that it does not have).
std::string_view CodingOf(const std::string& bytes) {
  if (bytes.size() < 2) return "identity";
  const auto first = static_cast<uint8_t>(bytes[0]), second = static_cast<uint8_t>(bytes[1]);
  if (first == 0x1f && second == 0x8b) return "gzip";
  return first == 0x78 && (first * 256 + second) % 31 == 0 ? "deflate" : "identity";
}

std::string BytesOf(const ::grpc::ByteBuffer& buffer) {
  std::vector<::grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const ::grpc::Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

// gRPC itself would unpack whatever comes and look at its size afterwards.
Status ReadMessage(const ::grpc::ByteBuffer& buffer, size_t max_bytes, ModelInferRequest& message) {
  std::string packed = BytesOf(buffer);
  const std::string_view coding = CodingOf(packed);
  MINIM_TRY(const std::string bytes, DecodeContent(coding, std::move(packed), max_bytes));
  if (message.ParseFromString(bytes)) return {};
  message.Clear();
  return InvalidArgument("the request is no ModelInferRequest");
}

template <typename Message>
::grpc::ByteBuffer Written(const Message& message) {
  ::grpc::ByteBuffer buffer;
  bool own = false;
  // Fails for messages over 2 GiB only; the client then gets an empty one, which it cannot read.
  (void)::grpc::SerializationTraits<Message>::Serialize(message, &buffer, &own);
  return buffer;
}

template <typename F>
Status WithinMemory(F&& f) {
  try {
    return f();
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
  const CancelFlag& cancelled() const { return cancelled_; }

  void OnCancel() override { *cancelled_ = true; }
  void OnDone() override { delete this; }

 private:
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
      : calls_(calls), context_(context) {}

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
    ::grpc::ByteBuffer answer;
  };

  void Answer(Slot& slot, const InferReply& reply);
  void Proceed();

  Calls& calls_;
  const ::grpc::CallbackServerContext& context_;
  const CancelFlag cancelled_ = std::make_shared<std::atomic<bool>>(false);
  ::grpc::ByteBuffer incoming_;  // the read's, while reading_
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
  ModelStreamInferResponse answer;
  ModelInferResponse& response = *answer.mutable_infer_response();
  if (reply.outputs.ok()) {
    WriteInferResponse(reply, response);
  } else {
    response.set_id(reply.id);
    answer.set_error_message(reply.outputs.status().message());
  }
  // Triton's clients count answers by it.
  (*response.mutable_parameters())["triton_final_response"].set_bool_param(true);
  slot.answer = Written(answer);
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

void Calls::Answer(const ::grpc::ByteBuffer& buffer, const ::grpc::CallbackServerContext& context,
                   CancelFlag cancelled, Inference::Done done) {
  const size_t bytes = buffer.Length();
  const size_t before = bytes_.fetch_add(bytes);
  const auto counted = [this, bytes, done = std::move(done)](InferReply reply) {
    bytes_ -= bytes;
    done(std::move(reply));
  };
  ModelInferRequest message;
  InferCall call{.cancelled = std::move(cancelled),
                 .header = [&context](const std::string& name) { return Field(context, name); }};
  const Status status = WithinMemory([&]() -> Status {
    if (before + bytes > max_bytes_)
      return ResourceExhausted("requests in progress hold {} bytes, {} at most; try again", before,
                               max_bytes_);
    MINIM_TRY(ReadMessage(buffer, max_message_bytes_, message));
    MINIM_TRY(call.request, ReadInferRequest(message));
    return {};
  });
  call.model = message.model_name();
  call.version = message.model_version();
  if (!status.ok()) {
    // Of what could not be read not even the model is known.
    const Status refused =
        call.model.empty() ? status : inference_->Refuse(call.model, call.version, status);
    return counted({refused, {}, message.id(), nullptr, {}});
  }
  LimitTime(context.deadline(), call.request);
  inference_->Infer(std::move(call), counted);
}

::grpc::ServerUnaryReactor* Calls::Infer(::grpc::CallbackServerContext* context,
                                         const ::grpc::ByteBuffer* request,
                                         ::grpc::ByteBuffer* response) {
  auto* reactor = new UnaryInfer;  // its OnDone deletes it
  Answer(*request, *context, reactor->cancelled(), [reactor, response](const InferReply& reply) {
    ModelInferResponse message;
    if (reply.outputs.ok()) {
      WriteInferResponse(reply, message);
      *response = Written(message);
    }
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

void Calls::Ended(const std::shared_ptr<StreamInfer>& stream) {
  std::lock_guard lock(mutex_);
  streams_.erase(stream);
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

}  // namespace minim::serve
