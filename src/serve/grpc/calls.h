// Calls: inference calls in progress over gRPC, single ones and streams. Internal to grpc/; with
// grpc_server.cc the only file here that sees gRPC.
// Threads: every method may be called concurrently.
// Lifetime: outlives the gRPC server whose calls it answers.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>

#include "grpc/inference.pb.h"
#include "serve/grpc/grpc_server.h"
#include "serve/protocol/inference.h"

namespace minim::serve {

::grpc::Status ToGrpc(const Status& status);

class StreamInfer;

class Calls {
 public:
  using SystemTime = std::chrono::system_clock::time_point;
  // Raw: a compressed message is unpacked here, within a bound.
  using StreamReactor = ::grpc::ServerBidiReactor<::grpc::ByteBuffer, ::grpc::ByteBuffer>;

  Calls(const GrpcServerOptions& options, std::shared_ptr<Inference> inference)
      : max_message_bytes_(options.max_message_bytes),
        max_bytes_(options.max_messages_bytes),
        max_stream_requests_(options.max_stream_requests),
        inference_(std::move(inference)) {}

  ::grpc::ServerUnaryReactor* Infer(::grpc::CallbackServerContext* context,
                                    const ::grpc::ByteBuffer* request,
                                    ::grpc::ByteBuffer* response);
  StreamReactor* InferStream(::grpc::CallbackServerContext* context);

  /// Streams end when what they have sent is answered; new ones at once.
  void DrainStreams();

  // For the calls themselves.

  /// Reads the message and answers it; `done` runs once, here or on another thread. The context is
  /// not looked at after Answer has returned.
  void Answer(const ::grpc::ByteBuffer& buffer, const ::grpc::CallbackServerContext& context,
              CancelFlag cancelled, Inference::Done done);
  void Ended(const std::shared_ptr<StreamInfer>& stream);
  size_t max_stream_requests() const { return max_stream_requests_; }

 private:
  const size_t max_message_bytes_;
  const size_t max_bytes_;
  const size_t max_stream_requests_;
  const std::shared_ptr<Inference> inference_;
  std::atomic<size_t> bytes_{0};
  std::mutex mutex_;
  std::set<std::shared_ptr<StreamInfer>> streams_;  // guarded by mutex_
  bool draining_ = false;                           // guarded by mutex_
};

}  // namespace minim::serve
