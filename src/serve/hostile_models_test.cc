// Hostile model files and hostile moments, on the running server: one named test for each kind.
// What was served before is served after.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "serve/server.h"
#include "serve/session_model.h"
#include "serve/testing/fake_model.h"
#include "serve/testing/model_folder.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using testing::HasSubstr;

// Protobuf by hand, so that every byte may be wrong.
std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string Number(int field, uint64_t value) {
  return Varint(static_cast<uint64_t>(field) << 3) + Varint(value);
}
std::string Bytes(int field, const std::string& bytes) {
  return Varint(static_cast<uint64_t>(field) << 3 | 2) + Varint(bytes.size()) + bytes;
}
std::string Node(const std::string& op, const std::vector<std::string>& inputs,
                 const std::string& output) {
  std::string node;
  for (const std::string& input : inputs) node += Bytes(1, input);
  return Bytes(1, node + Bytes(2, output) + Bytes(4, op));
}
std::string Value(const std::string& name) {  // f32[N,2]
  const std::string shape = Bytes(1, Bytes(2, "N")) + Bytes(1, Number(1, 2));
  return Bytes(1, name) + Bytes(2, Bytes(1, Number(1, 1) + Bytes(2, shape)));
}
std::string Onnx(const std::string& nodes_and_weights) {
  return Number(1, 8) + Bytes(8, Number(2, 17)) +
         Bytes(7,
               nodes_and_weights + Bytes(2, "g") + Bytes(11, Value("x")) + Bytes(12, Value("y")));
}
// y = x + w; the weight, f32[2], is as `data` says.
std::string WithWeight(const std::string& data) {
  const std::string weight = Number(1, 2) + Number(2, 1) + Bytes(8, "w") + data;
  return Onnx(Node("Add", {"x", "w"}, "y") + Bytes(5, weight));
}
std::string External(const std::string& location, const std::string& offset,
                     const std::string& length) {
  const auto entry = [](const std::string& key, const std::string& value) {
    return Bytes(13, Bytes(1, key) + Bytes(2, value));
  };
  return WithWeight(entry("location", location) + entry("offset", offset) +
                    entry("length", length) + Number(14, 1));
}
const std::string kWhole = WithWeight(Bytes(9, std::string(8, '\0')));

struct Kind {
  const char* name;
  std::string file;
  const char* message;
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

const Kind kKinds[] = {
    {"Empty", "", "model.onnx"},
    {"NotOnnx", "not a model", "model.onnx"},
    {"Truncated", kWhole.substr(0, kWhole.size() / 2), "model.onnx"},
    {"UnknownOperator", Onnx(Node("Frobnicate", {"x"}, "y")), "Frobnicate"},
    {"CyclicGraph",
     Onnx(Node("Add", {"x", "b"}, "a") + Node("Add", {"a", "x"}, "b") +
          Node("Add", {"a", "b"}, "y")),
     "cycle"},
    {"NameDefinedTwice", Onnx(Node("Neg", {"x"}, "y") + Node("Abs", {"x"}, "y")), "'y'"},
    {"InputOfNobody", Onnx(Node("Neg", {"absent"}, "y")), "'absent'"},
    {"InitializerShorterThanItsShape", WithWeight(Bytes(9, "abcd")), "'w'"},
    {"InitializerLongerThanItsShape", WithWeight(Bytes(9, std::string(12, 'a'))), "'w'"},
    {"InitializerOfNegativeSize",
     Onnx(Node("Add", {"x", "w"}, "y") +
          Bytes(5, Number(1, ~uint64_t{0}) + Number(2, 1) + Bytes(8, "w"))),
     "'w'"},
    {"InitializerWhoseSizeOverflows",
     Onnx(Node("Add", {"x", "w"}, "y") +
          Bytes(5, Number(1, 1ull << 62) + Number(1, 1ull << 62) + Number(2, 1) + Bytes(8, "w"))),
     "'w'"},
    {"ExternalDataOutside", External("../../../secret", "0", "8"), "leaves the model's folder"},
    {"ExternalDataAbsolute", External("/etc/passwd", "0", "8"), "is not a relative path"},
    {"ExternalDataBehindALink", External("link", "0", "8"), "leaves the model's folder"},
    {"ExternalDataMissing", External("absent", "0", "8"), "'absent' is not in the model's folder"},
    {"ExternalDataWhoseEndWraps", External("weights", "18446744073709551612", "8"),
     "at offset 18446744073709551612"},
    {"ExternalDataBeyondItsFile", External("weights", "4", "8"), "at offset 4"},
    {"ExternalDataOfAnotherLength", External("weights", "0", "4"), "needs 8 bytes, has 4"},
    {"ExternalDataFromAnAddress", External("http://127.0.0.1:1/w", "0", "8"), "folder"},
};

constexpr const char* kAdd = R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Add(x, x) })";
const std::string kInput =
    R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}])";

class HostileServerTest {
 public:
  HostileServerTest() {
    models_.Add("good", kAdd);
    options_.path = models_.path();
    options_.control = ModelControl::kExplicit;
    options_.load_models = {"good"};
    options_.cache = "";
  }
  void Start(ModelLoader loader = LoadSessionModel) {
    auto server = Server::Start(options_, std::move(loader));
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  static std::string Wire(const std::string& target, const std::string& body = "") {
    return "POST " + target +
           " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }
  static std::string Infer(const std::string& more = "") {
    return Wire("/v2/models/good/infer", kInput + more + "}");
  }
  std::string Ask(const std::string& wire) {
    RawClient client(server_->port());
    client.Send(wire);
    return client.ReadResponse(30);
  }
  std::string Load(const std::string& model) {
    return Ask(Wire("/v2/repository/models/" + model + "/load"));
  }
  void ExpectGoodAnswers() { EXPECT_THAT(BodyOf(Ask(Infer())), HasSubstr("\"data\":[2,4]")); }

 protected:
  const ModelFolder models_{"hostile_models"};
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

class HostileModelFileTest : public HostileServerTest, public testing::TestWithParam<Kind> {};

TEST_P(HostileModelFileTest, IsRefusedAndWhatWasServedStays) {
  Start();
  models_.Write("secret", std::string(8, 's'));
  models_.Write("bad/1/weights", std::string(8, 'w'));
  std::filesystem::create_symlink(models_.path() / "secret", models_.path() / "bad/1/link");
  for (const char* model : {"bad", "good"}) {  // new, and in the place of one that serves
    models_.Write(model + std::string("/1/model.onnx"), GetParam().file);
    const std::string response = Load(model);
    EXPECT_GE(StatusOf(response), 400) << response;
    if (model == std::string("bad")) {
      EXPECT_THAT(BodyOf(response), HasSubstr(GetParam().message));
    }
    EXPECT_EQ(StatusOf(Ask(Wire("/v2/models/bad/infer", kInput + "}"))), 404);
    ExpectGoodAnswers();
  }
  models_.Write("bad/1/model.onnx", kWhole);
  EXPECT_EQ(StatusOf(Load("bad")), 200) << "what is mended is served";
}

INSTANTIATE_TEST_SUITE_P(Kinds, HostileModelFileTest, testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param.name); });

class HostileMomentTest : public HostileServerTest, public testing::Test {
 protected:
  // "good" is a model that the test can hold.
  void StartHeld() {
    Start([this](const TierSource&) -> Result<std::shared_ptr<Model>> {
      return std::shared_ptr<Model>(held_);
    });
  }
  const std::shared_ptr<FakeModel> held_ = std::make_shared<FakeModel>();
};

TEST_F(HostileMomentTest, MutatedModels) {
  Start();
  for (size_t at = 0; at < kWhole.size(); at += 3) {
    for (const char mask : {'\x01', '\x80', '\x7f'}) {
      std::string file = kWhole;
      file[at] = static_cast<char>(file[at] ^ mask);
      models_.Write("bad/1/model.onnx", file);
      EXPECT_NE(StatusOf(Load("bad")), 0) << at;
    }
  }
  ExpectGoodAnswers();
}

TEST_F(HostileMomentTest, LinkOutOfTheRepository) {
  Start();
  const ModelFolder outside("hostile_outside");
  outside.Add("other", kAdd);
  std::filesystem::create_directories(models_.path() / "link/1");
  std::filesystem::create_symlink(outside.path() / "other/1/model.onnx",
                                  models_.path() / "link/1/model.onnx");
  const std::string response = Load("link");
  EXPECT_EQ(StatusOf(response), 400) << response;
  EXPECT_THAT(BodyOf(response), HasSubstr("repository"));
  ExpectGoodAnswers();
}

TEST_F(HostileMomentTest, SlowHeadersAndBodies) {
  options_.http->header_timeout = options_.http->body_timeout = milliseconds(200);
  Start();
  const std::string headers = Ask("POST /v2/models/good/infer HTT");
  EXPECT_EQ(StatusOf(headers), 408) << headers;
  EXPECT_THAT(BodyOf(headers), HasSubstr("header"));
  const std::string body = Ask(Infer().substr(0, Infer().size() - 5));
  EXPECT_EQ(StatusOf(body), 408) << body;
  EXPECT_THAT(BodyOf(body), HasSubstr("body"));
}

TEST_F(HostileMomentTest, ResetInTheMiddleOfABody) {
  Start();
  for (int i = 0; i < 50; ++i) {
    RawClient client(server_->port());
    client.Send(Infer().substr(0, Infer().size() - static_cast<size_t>(i)));
    client.Reset();
  }
  ExpectGoodAnswers();
}

TEST_F(HostileMomentTest, AClientThatGoesAwayFreesItsWork) {
  StartHeld();
  held_->largest_ = 0;
  const int before = held_->runs_;
  held_->Block(true);
  RawClient first(server_->port());
  first.Send(Infer());
  held_->WaitUntilEntered(before + 1);
  std::vector<std::unique_ptr<RawClient>> leaving;
  for (int i = 0; i < 10; ++i) {
    leaving.push_back(std::make_unique<RawClient>(server_->port()));
    leaving.back()->Send(Infer());
  }
  const std::string read = "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(StatusOf(Ask(read)), 200) << "answered in turn, so the ten were read";
  for (const auto& client : leaving) client->Reset();
  EXPECT_EQ(StatusOf(Ask(read)), 200);
  held_->Block(false);
  EXPECT_EQ(StatusOf(first.ReadResponse()), 200);
  EXPECT_EQ(StatusOf(Ask(Infer())), 200);
  EXPECT_EQ(held_->largest_, 1) << "ten rows would have run together";
}

TEST_F(HostileMomentTest, AFailedReloadKeepsTheOldVersionAndSaysWhy) {
  Start();
  models_.Write("good/1/model.onnx", "half a fi");
  EXPECT_GE(StatusOf(Load("good")), 400);
  ExpectGoodAnswers();
  const auto index = json::parse(BodyOf(Ask(Wire("/v2/repository/index"))), nullptr, false);
  EXPECT_EQ(index[0]["state"], "READY");
  EXPECT_THAT(index[0].value("reason", ""), HasSubstr("reload failed"));
}

TEST_F(HostileMomentTest, LoadsUnloadsAndRequestsRace) {
  options_.http->threads = 2;
  Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (int c = 0; c < 3; ++c) {
    clients.emplace_back([&] {
      RawClient client(server_->port());
      while (!stop) {
        client.Send(Infer());
        const std::string response = client.ReadResponse();
        const int status = StatusOf(response);
        EXPECT_TRUE(status == 200 || status == 404 || status == 503) << response;
        if (status == 200) {
          EXPECT_THAT(response, HasSubstr("\"data\":[2,4]"));
        }
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    if (i % 3 == 0) Ask(Wire("/v2/repository/models/good/unload"));
    EXPECT_EQ(StatusOf(Load("good")), 200);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  ExpectGoodAnswers();
}

}  // namespace
}  // namespace minim::serve
