// The gRPC front door over real channels, with a model that doubles its input.
#include "serve/grpc/grpc_server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <thread>

#include "grpc/health.grpc.pb.h"
#include "grpc/inference.grpc.pb.h"
#include "serve/server.h"
#include "serve/testing/fake_model.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

namespace fs = std::filesystem;
using ::grpc::ClientContext;
using ::grpc::StatusCode;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using std::chrono::milliseconds;
using Stub = inference::GRPCInferenceService::Stub;

// The library's locks are its own (absl) and not instrumented: every call looks like a race.
#ifdef __SANITIZE_THREAD__
constexpr bool kSkipped = true;
#else
constexpr bool kSkipped = false;
#endif
constexpr const char* kWhySkipped = "Debian's gRPC library is not built for ThreadSanitizer";

class GrpcServerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (kSkipped) GTEST_SKIP() << kWhySkipped;
    root_ = Path(testing::TempDir()) / ("minim_grpc_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    for (const char* version : {"1", "3"}) {
      fs::create_directories(root_ / "double" / version);
      std::ofstream(root_ / "double" / version / "model.onnx") << "2";
    }
    options_.path = root_;
    options_.serving.instances = 1;
    options_.serving.versions.latest = 0;
    options_.control = ModelControl::kExplicit;
    options_.load_models = {"*"};
    options_.grpc = GrpcServerOptions{.max_message_bytes = 1 << 20};
    Start();
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(root_);
  }
  void Start() {
    server_.reset();
    auto server =
        Server::Start(options_, [this](const TierSource& source) -> Result<std::shared_ptr<Model>> {
          MINIM_TRY(const std::string text, ReadFile(source.path));
          if (text == "bad") return DataLoss("{}: not a model", source.path.string());
          model_ = std::make_shared<FakeModel>(2, std::stof(text));
          return std::shared_ptr<Model>(model_);
        });
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
    stub_ = inference::GRPCInferenceService::NewStub(Channel());
  }
  std::shared_ptr<::grpc::Channel> Channel() const {
    return ::grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->grpc_port()),
                                 ::grpc::InsecureChannelCredentials());
  }

  static ModelInferRequest Request(float a, float b) {
    ModelInferRequest request;
    request.set_model_name("double");
    auto& x = *request.add_inputs();
    x.set_name("x");
    x.set_datatype("FP32");
    x.add_shape(1);
    x.add_shape(2);
    const float values[2] = {a, b};
    request.add_raw_input_contents(values, sizeof(values));
    return request;
  }
  static float First(const ModelInferResponse& response) {
    float value = 0;
    std::memcpy(&value, response.raw_output_contents(0).data(), sizeof(value));
    return value;
  }
  ::grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse* response = nullptr) {
    ClientContext context;
    ModelInferResponse ignored;
    return stub_->ModelInfer(&context, request, response ? response : &ignored);
  }
  // Any unary call of the protocol.
  template <typename Request, typename Response>
  ::grpc::Status Ask(::grpc::Status (Stub::*call)(ClientContext*, const Request&, Response*),
                     const Request& request, Response& response) {
    ClientContext context;
    return (stub_.get()->*call)(&context, request, &response);
  }

  Path root_;
  ServerOptions options_;
  std::shared_ptr<FakeModel> model_;  // of the version loaded last, the newest
  std::unique_ptr<Server> server_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(GrpcServerTest, Describes) {
  inference::ServerLiveResponse live;
  ASSERT_TRUE(Ask(&Stub::ServerLive, inference::ServerLiveRequest(), live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  ASSERT_TRUE(Ask(&Stub::ServerReady, inference::ServerReadyRequest(), ready).ok());
  EXPECT_TRUE(ready.ready());
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(Ask(&Stub::ServerMetadata, inference::ServerMetadataRequest(), server).ok());
  EXPECT_EQ(server.name(), "minim");
  EXPECT_EQ(server.extensions_size(), 6);
  inference::ModelMetadataRequest metadata_request;
  metadata_request.set_name("double");
  inference::ModelMetadataResponse metadata;
  ASSERT_TRUE(Ask(&Stub::ModelMetadata, metadata_request, metadata).ok());
  EXPECT_EQ(metadata.versions_size(), 2);
  EXPECT_EQ(metadata.inputs(0).datatype(), "FP32");
  EXPECT_EQ(metadata.inputs(0).shape(0), -1);
  EXPECT_EQ(metadata.outputs(1).name(), "row");
  metadata_request.set_version("9");
  EXPECT_EQ(Ask(&Stub::ModelMetadata, metadata_request, metadata).error_code(),
            StatusCode::NOT_FOUND);
  inference::ModelConfigRequest config_request;
  config_request.set_name("double");
  inference::ModelConfigResponse config;
  ASSERT_TRUE(Ask(&Stub::ModelConfig, config_request, config).ok());
  EXPECT_EQ(config.config().max_batch_size(), 50);
  EXPECT_EQ(config.config().input(0).data_type(), inference::TYPE_FP32);
  EXPECT_EQ(config.config().input(0).dims_size(), 1);
  EXPECT_EQ(config.config().output(1).data_type(), inference::TYPE_INT64);
}

TEST_F(GrpcServerTest, HealthFollowsReadiness) {
  auto health = ::grpc::health::v1::Health::NewStub(Channel());
  const auto check = [&](const std::string& service) {
    ClientContext context;
    ::grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    ::grpc::health::v1::HealthCheckResponse response;
    const ::grpc::Status status = health->Check(&context, request, &response);
    return status.ok() ? static_cast<int>(response.status()) : -status.error_code();
  };
  EXPECT_EQ(check(""), ::grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(check("inference.GRPCInferenceService"),
            ::grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(check("other"), -StatusCode::NOT_FOUND);
}

TEST_F(GrpcServerTest, InfersAndSaysHow) {
  ModelInferRequest request = Request(1.5, 4);
  request.set_id("q");
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.model_name(), "double");
  EXPECT_EQ(response.model_version(), "3");
  EXPECT_EQ(response.id(), "q");
  ASSERT_EQ(response.outputs_size(), 2);
  EXPECT_EQ(First(response), 3);
  EXPECT_EQ(response.raw_output_contents(1), std::string(8, '\0'));
  EXPECT_EQ(response.parameters().at("tier").string_param(), "fp32");
  EXPECT_FALSE(response.parameters().at("cache_hit").bool_param());
  ModelInferResponse again;
  request.set_model_version("3");
  request.add_outputs()->set_name("y");
  ASSERT_TRUE(Infer(request, &again).ok());
  EXPECT_EQ(again.outputs_size(), 1);
  ModelInferResponse third;
  ASSERT_TRUE(Infer(request, &third).ok());
  EXPECT_TRUE(third.parameters().at("cache_hit").bool_param());
}

TEST_F(GrpcServerTest, FaultsBecomeCodesAndTheServerGoesOn) {
  const auto code = [&](const std::function<void(ModelInferRequest&)>& change) {
    ModelInferRequest request = Request(1, 2);
    change(request);
    return Infer(request).error_code();
  };
  EXPECT_EQ(code([](auto& r) { r.set_model_name("absent"); }), StatusCode::NOT_FOUND);
  EXPECT_EQ(code([](auto& r) { r.set_model_version("9"); }), StatusCode::NOT_FOUND);
  EXPECT_EQ(code([](auto& r) { r.mutable_inputs(0)->set_name("q"); }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto& r) { r.mutable_inputs(0)->set_shape(1, 3); }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto& r) { r.mutable_inputs(0)->set_datatype("INT64"); }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto& r) { r.add_outputs()->set_name("nope"); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto& r) { (*r.mutable_parameters())["sequence_id"].set_int64_param(1); }),
            StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(code([](auto& r) { *r.mutable_raw_input_contents(0) = std::string(2 << 20, 'a'); }),
            StatusCode::RESOURCE_EXHAUSTED)
      << "longer than a message may be";
  EXPECT_EQ(code([](auto& r) { r.set_model_name(std::string(100000, 'a')); }),
            StatusCode::NOT_FOUND)
      << "a message that long does not fit a header field";
  EXPECT_NE(code([](auto& r) { r.set_model_name("\xff"); }), StatusCode::OK) << "no UTF-8";
  EXPECT_TRUE(Infer(Request(1, 2)).ok());
  inference::ModelStatisticsRequest request;
  request.set_name("double");
  inference::ModelStatisticsResponse stats;
  ASSERT_TRUE(Ask(&Stub::ModelStatistics, request, stats).ok());
  ASSERT_EQ(stats.model_stats_size(), 2);
  EXPECT_EQ(stats.model_stats(1).inference_stats().success().count(), 1u);
  request.set_name("absent");
  EXPECT_EQ(Ask(&Stub::ModelStatistics, request, stats).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(GrpcServerTest, DeadlinesBecomeTimeouts) {
  model_->Block(true);
  auto busy = std::async(std::launch::async, [&] { return Infer(Request(1, 2)); });
  model_->WaitUntilEntered(1);
  ClientContext late;
  late.set_deadline(std::chrono::system_clock::now() + milliseconds(30));
  ModelInferResponse response;
  EXPECT_EQ(stub_->ModelInfer(&late, Request(3, 4), &response).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  model_->Block(false);
  EXPECT_TRUE(busy.get().ok());
}

TEST_F(GrpcServerTest, CancelledCallsFreeTheirWork) {
  model_->Block(true);
  auto busy = std::async(std::launch::async, [&] { return Infer(Request(1, 2)); });
  model_->WaitUntilEntered(1);
  ClientContext cancelled;
  auto call = std::async(std::launch::async, [&] {
    ModelInferResponse ignored;
    return stub_->ModelInfer(&cancelled, Request(5, 6), &ignored).error_code();
  });
  cancelled.TryCancel();
  EXPECT_EQ(call.get(), StatusCode::CANCELLED);
  // A request that times out makes the queue look for what is dead. Either the cancelled call did
  // not get as far as the server, or it leaves the queue while the model is still held.
  ModelInferRequest late = Request(3, 4);
  (*late.mutable_parameters())["timeout"].set_int64_param(1000);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Infer(late).error_code(), StatusCode::DEADLINE_EXCEEDED);
  model_->Block(false);
  EXPECT_TRUE(busy.get().ok());
  EXPECT_TRUE(Infer(Request(7, 8)).ok());
  EXPECT_EQ(model_->runs_, 2) << "the cancelled call ran";
}

TEST_F(GrpcServerTest, StreamsAnswerInOrderAndOutliveErrors) {
  ClientContext context;
  const auto stream = stub_->ModelStreamInfer(&context);
  constexpr int kRequests = 200;  // more than are worked on at a time
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) {
      ModelInferRequest request = Request(static_cast<float>(i), 0);
      request.set_id(std::to_string(i));
      if (i % 10 == 3) request.set_model_name("absent");
      ASSERT_TRUE(stream->Write(request));
    }
    stream->WritesDone();
  });
  ModelStreamInferResponse answer;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(stream->Read(&answer)) << i;
    EXPECT_EQ(answer.infer_response().id(), std::to_string(i));
    EXPECT_EQ(answer.error_message().empty(), i % 10 != 3) << answer.error_message();
    EXPECT_TRUE(answer.infer_response().parameters().at("triton_final_response").bool_param());
    if (i % 10 != 3) {
      EXPECT_EQ(First(answer.infer_response()), 2.0f * static_cast<float>(i));
    }
  }
  EXPECT_FALSE(stream->Read(&answer));
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(GrpcServerTest, CancelledStreamsEnd) {
  model_->Block(true);
  {
    ClientContext context;
    const auto stream = stub_->ModelStreamInfer(&context);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream->Write(Request(static_cast<float>(i), 1)));
    model_->WaitUntilEntered(1);
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  }
  model_->Block(false);
  EXPECT_TRUE(Infer(Request(9, 9)).ok());
}

TEST_F(GrpcServerTest, LoadsUnloadsAndSaysWhyNot) {
  inference::RepositoryModelUnloadRequest unload;
  unload.set_model_name("double");
  inference::RepositoryModelUnloadResponse unloaded;
  (*unload.mutable_parameters())["unload_dependents"].set_bool_param(false);
  ASSERT_TRUE(Ask(&Stub::RepositoryModelUnload, unload, unloaded).ok());
  inference::ModelReadyRequest ready_request;
  ready_request.set_name("double");
  inference::ModelReadyResponse ready;
  ASSERT_TRUE(Ask(&Stub::ModelReady, ready_request, ready).ok());
  EXPECT_FALSE(ready.ready());
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("double");
  (*load.mutable_parameters())["config"].set_string_param("{}");
  EXPECT_EQ(Ask(&Stub::RepositoryModelLoad, load, loaded).error_code(), StatusCode::UNIMPLEMENTED);
  load.clear_parameters();
  std::ofstream(root_ / "double" / "3" / "model.onnx") << "bad";
  EXPECT_NE(Ask(&Stub::RepositoryModelLoad, load, loaded).error_message().find("not a model"),
            std::string::npos);
  inference::RepositoryIndexRequest index_request;
  inference::RepositoryIndexResponse index;
  ASSERT_TRUE(Ask(&Stub::RepositoryIndex, index_request, index).ok());
  EXPECT_NE(index.models(0).reason().find("not a model"), std::string::npos);
  index_request.set_ready(true);
  ASSERT_TRUE(Ask(&Stub::RepositoryIndex, index_request, index).ok());
  EXPECT_EQ(index.models_size(), 0);
  std::ofstream(root_ / "double" / "3" / "model.onnx") << "5";
  ASSERT_TRUE(Ask(&Stub::RepositoryModelLoad, load, loaded).ok());
  ModelInferResponse response;
  ASSERT_TRUE(Infer(Request(2, 2), &response).ok());
  EXPECT_EQ(First(response), 10);
}

TEST_F(GrpcServerTest, CompressedRequestsAreUnpackedWithinTheLimit) {
  for (const auto coding : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    const auto ask = [&](size_t filler_bytes) {
      ClientContext context;
      context.set_compression_algorithm(coding);
      ModelInferRequest request = Request(1, 2);
      (*request.mutable_parameters())["filler"].set_string_param(std::string(filler_bytes, 'a'));
      ModelInferResponse response;
      return stub_->ModelInfer(&context, request, &response).error_code();
    };
    EXPECT_EQ(ask(10000), StatusCode::OK);
    EXPECT_EQ(ask(100 << 20), StatusCode::RESOURCE_EXHAUSTED) << "100 KiB on the wire";
  }
}

TEST_F(GrpcServerTest, OnlySoManyBytesInProgress) {
  options_.grpc->max_messages_bytes = Request(1, 2).ByteSizeLong() * 3 / 2;
  Start();
  model_->Block(true);
  auto busy = std::async(std::launch::async, [&] { return Infer(Request(1, 2)); });
  model_->WaitUntilEntered(1);
  EXPECT_EQ(Infer(Request(3, 4)).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  model_->Block(false);
  EXPECT_TRUE(busy.get().ok());
  EXPECT_TRUE(Infer(Request(3, 4)).ok());
}

TEST_F(GrpcServerTest, DrainFinishesWhatIsInProgress) {
  options_.serving.instances = 2;
  Start();
  ClientContext idle_context, busy_context;
  ModelStreamInferResponse answer;
  const auto idle = stub_->ModelStreamInfer(&idle_context);
  ASSERT_TRUE(idle->Write(Request(5, 6)));
  ASSERT_TRUE(idle->Read(&answer));
  model_->Block(true);
  auto busy = std::async(std::launch::async, [&] { return Infer(Request(1, 2)); });
  const auto streaming = stub_->ModelStreamInfer(&busy_context);
  ModelInferRequest alone = Request(3, 4);
  (*alone.mutable_parameters())["use_batching"].set_bool_param(false);
  ASSERT_TRUE(streaming->Write(alone));
  model_->WaitUntilEntered(3);
  auto drained = std::async(std::launch::async, [&] { return server_->Drain(); });
  EXPECT_FALSE(idle->Read(&answer));
  EXPECT_EQ(idle->Finish().error_code(), StatusCode::UNAVAILABLE);
  model_->Block(false);
  EXPECT_TRUE(busy.get().ok());
  ASSERT_TRUE(streaming->Read(&answer));
  EXPECT_EQ(First(answer.infer_response()), 6);
  EXPECT_FALSE(streaming->Read(&answer));
  EXPECT_EQ(streaming->Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(drained.get());
  EXPECT_EQ(Infer(Request(1, 2)).error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(GrpcServerTest, DrainAndStopAreBounded) {
  options_.drain_limit = milliseconds(50);
  Start();
  model_->Block(true);
  auto busy = std::async(std::launch::async, [&] { return Infer(Request(1, 2)); });
  model_->WaitUntilEntered(1);
  EXPECT_FALSE(server_->Drain());
  EXPECT_FALSE(busy.get().ok()) << "cancelled";
  const auto held = model_;
  auto stopped = std::async(std::launch::async, [&] { server_.reset(); });
  held->Block(false);
  stopped.get();
}

TEST_F(GrpcServerTest, GarbageAndSilenceHurtNobody) {
  RawClient silent(server_->grpc_port());
  RawClient garbage(server_->grpc_port());
  garbage.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  garbage.ReadAll(1);
  RawClient reset(server_->grpc_port());
  reset.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  reset.Reset();
  EXPECT_TRUE(Infer(Request(1, 2)).ok());
  EXPECT_TRUE(silent.connected());
}

TEST(GrpcOptionsTest, WrongOptionsAreExplained) {
  if (kSkipped) GTEST_SKIP() << kWhySkipped;
  const auto status =
      GrpcServer::Start({.address = "nowhere", .ready = [] { return true; }}, nullptr, nullptr)
          .status();
  EXPECT_EQ(status.code(), minim::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("nowhere"), std::string::npos);
}

}  // namespace
}  // namespace minim::serve
