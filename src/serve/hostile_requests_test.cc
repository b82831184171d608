// What hostile or broken clients send to the running server: one named test for each kind. All run
// against one server, which then still answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "serve/http/encoding.h"
#include "serve/server.h"
#include "serve/session_model.h"
#include "serve/testing/model_folder.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

using testing::HasSubstr;

std::string Wire(const std::string& target, const std::string& fields, const std::string& body) {
  return "POST " + target + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n" + body;
}

std::string Post(const std::string& target, const std::string& body,
                 const std::string& fields = "") {
  return Wire(target, fields + "Content-Length: " + std::to_string(body.size()) + "\r\n", body);
}

const std::string kInfer = "/v2/models/add/infer";

// {"inputs":[{"name":"x",...}]...}; a good one has two values.
std::string Input(const std::string& fields, const std::string& more = "") {
  return R"({"inputs":[{"name":"x",)" + fields + "}]" + more + "}";
}
std::string Good(const std::string& more = "") {
  return Input(R"("shape":[1,2],"datatype":"FP32","data":[1,2])", more);
}
std::string Json(const std::string& fields) { return Post(kInfer, Input(fields)); }
std::string Data(const std::string& values) {
  return Json(R"("shape":[1,2],"datatype":"FP32","data":)" + values);
}
std::string Shape(const std::string& shape) {
  return Json(R"("shape":)" + shape + R"(,"datatype":"FP32","data":[1,2])");
}
std::string HeaderLength(const std::string& length) {
  return Post(kInfer, Good(), "Inference-Header-Content-Length: " + length + "\r\n");
}
std::string Binary(const std::string& model, const std::string& datatype, const std::string& bytes,
                   const std::string& size) {
  const std::string head = Input(R"("shape":[1,2],"datatype":")" + datatype +
                                 R"(","parameters":{"binary_data_size":)" + size + "}");
  return Post("/v2/models/" + model + "/infer", head + bytes,
              "Inference-Header-Content-Length: " + std::to_string(head.size()) + "\r\n");
}
std::string Chunked(const std::string& chunks) {
  return Wire(kInfer, "Transfer-Encoding: chunked\r\n", chunks);
}
std::string OneByteChunks(const std::string& body) {
  std::string chunks;
  for (const char byte : body) chunks += std::string("1\r\n") + byte + "\r\n";
  return Chunked(chunks + "0\r\n\r\n");
}
std::string Outputs(int count, const std::string& name) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i ? ",{" : "{") + ("\"name\":\"" + name) + "\"}";
  return Post(kInfer, Good(R"(,"outputs":[)" + list + "]"));
}
std::string Named(const std::string& name) { return Post("/v2/models/" + name + "/infer", Good()); }
std::string Load(const std::string& name, const std::string& body = "") {
  return Post("/v2/repository/models/" + name + "/load", body);
}
std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

struct Kind {
  const char* name;
  std::string wire;
  int status;
  const char* message;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

const Kind kKinds[] = {
    // HTTP framing
    {"FramingNotHttp", "\x16\x03\x01 nonsense\r\n\r\n", 400, "HTTP"},
    {"FramingNoHost", "GET /v2 HTTP/1.1\r\n\r\n", 400, "Host"},
    {"FramingTwoHosts", "GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "2 Host"},
    {"FramingNulInAField", "GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + std::string(1, 0) + "\r\n\r\n",
     400, "bad value"},
    {"FramingHugeHeader",
     "GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + std::string(50000, 'x') + "\r\n\r\n", 431, "header"},
    {"FramingUnknownTransferCoding", Wire(kInfer, "Transfer-Encoding: gzip\r\n", ""), 501,
     "'gzip'"},
    {"FramingUnknownExpectation", Post(kInfer, Good(), "Expect: tea\r\n"), 417, "'tea'"},
    {"FramingMillionsOfOneByteChunks", OneByteChunks(std::string((1 << 20) + 1, '[')), 413,
     "1048576 bytes"},
    {"FramingBadChunkSize", Chunked("zz\r\n"), 400, "'zz' is not a chunk size"},
    {"FramingNegativeChunkSize", Chunked("-1\r\n"), 400, "'-1' is not a chunk size"},
    {"FramingHugeChunk", Chunked("ffffffffffffffff\r\n"), 413, "1048576 bytes"},
    {"FramingChunkSizeBeyond64Bits", Chunked("10000000000000000\r\n"), 413, "1048576 bytes"},
    {"FramingChunkLongerThanItsSize", Chunked("1\r\nabc\r\n0\r\n\r\n"), 400, "longer"},
    {"FramingDecompressionBomb",
     Post(kInfer, EncodeContent("gzip", std::string(8 << 20, ' ')), "Content-Encoding: gzip\r\n"),
     413, "1048576 bytes"},
    {"FramingDamagedGzip", Post(kInfer, Good(), "Content-Encoding: gzip\r\n"), 400, "gzip"},
    {"FramingUnknownContentCoding", Post(kInfer, Good(), "Content-Encoding: br\r\n"), 415, "'br'"},
    // Lengths
    {"LengthsTwo", Wire(kInfer, "Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), 400,
     "Content-Length"},
    {"LengthsList", Wire(kInfer, "Content-Length: 2, 2\r\n", "ab"), 400, "Content-Length"},
    {"LengthsBesideChunks",
     Wire(kInfer, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400,
     "Transfer-Encoding"},
    {"LengthNegative", Wire(kInfer, "Content-Length: -1\r\n", ""), 400, "Content-Length"},
    {"LengthNotANumber", Wire(kInfer, "Content-Length: ten\r\n", ""), 400, "Content-Length"},
    {"LengthBeyondTheLimit", Wire(kInfer, "Content-Length: 1048577\r\n", ""), 413,
     "body of 1048577 bytes"},
    {"LengthBeyond64Bits", Wire(kInfer, "Content-Length: 18446744073709551617\r\n", ""), 400,
     "Content-Length"},
    {"HeaderLengthNegative", HeaderLength("-1"), 400, "Inference-Header-Content-Length '-1'"},
    {"HeaderLengthNotANumber", HeaderLength("1x"), 400, "Inference-Header-Content-Length '1x'"},
    {"HeaderLengthBeyondTheBody", HeaderLength("99999"), 400, "the body has only"},
    {"HeaderLengthBeyond64Bits", HeaderLength("18446744073709551617"), 400,
     "Inference-Header-Content-Length"},
    {"HeaderLengthInsideTheJson", HeaderLength("3"), 400, "request JSON"},
    // Shapes
    {"ShapeNegative", Shape("[-1,2]"), 400, "input 'x': shape"},
    {"ShapeZero", Json(R"("shape":[0,2],"datatype":"FP32","data":[])"), 400, "has no rows"},
    {"ShapeProductOverflows", Shape("[4294967296,4294967296]"), 400, "more elements"},
    {"ShapeZeroBesideHuge",
     Json(R"("shape":[0,9223372036854775807,9],"datatype":"FP32","data":[])"), 400,
     "shape [0,9223372036854775807,9]"},
    {"ShapeTooManyAxes", Shape("[1,1,1,1,1,1,1,1,2]"), 400, "more than 8 sizes"},
    {"ShapeNotWhole", Shape("[1,2.5]"), 400, "whole number"},
    {"ShapeOfAnotherModel", Shape("[2,1]"), 400, "shape [2,1], expected [N,2]"},
    {"ShapeOfAnotherDatatype", Json(R"("shape":[1,2],"datatype":"INT64","data":[1,2])"), 400,
     "input 'x': datatype INT64, expected FP32"},
    {"ShapeMoreDataThanItSays", Data("[1,2,3]"), 400, "more than 2 elements"},
    {"ShapeLessDataThanItSays", Data("[1]"), 400, "1 elements, the shape [1,2] needs 2"},
    {"ShapeUnlikeTheBinarySize", Binary("add", "FP32", "abcd", "4"), 400, "binary_data_size"},
    {"ShapeBinaryBeyondTheBody", Binary("add", "FP32", "abcdefgh", "9"), 400, "only 8 follow"},
    {"ShapeBytesPastTheEnd", Binary("text", "BYTES", std::string("\xff\0\0\0ab\1\0", 8), "8"), 400,
     "input 'x'"},
    {"ShapeBytesLengthCutOff", Binary("text", "BYTES", std::string("\0\0\0\0\0\0", 6), "6"), 400,
     "input 'x'"},
    {"ShapeBinaryLeftOver", Binary("add", "FP32", "abcdefghi", "8"), 400, "1 bytes are left"},
    // JSON
    {"JsonEmpty", Post(kInfer, ""), 400, "request JSON"},
    {"JsonCutOff", Post(kInfer, "{\"inputs\":["), 400, "ended early"},
    {"JsonSomethingBehind", Post(kInfer, Good() + "{}"), 400, "closing brace"},
    {"JsonDeepData", Data(Nested(3000)), 400, "nested deeper"},
    {"JsonDeepElsewhere", Post(kInfer, Good(",\"a\":" + Nested(3000))), 400, "nested deeper"},
    {"JsonNaN", Data("[1,NaN]"), 400, "input 'x': data"},
    {"JsonInfinity", Data("[1,Infinity]"), 400, "input 'x': data"},
    {"Json1e999", Data("[1,1e999]"), 400, "input 'x': data"},
    {"JsonBeyondTheDatatype", Data("[1,1e39]"), 400, "element 1"},
    {"JsonNull", Data("[1,null]"), 400, "element 1"},
    {"JsonDuplicateKeys", Data("[1,2],\"data\":[3,4]"), 400, "appears twice"},
    {"JsonDuplicateTopLevelKeys", Post(kInfer, Good(R"(,"inputs":[])")), 400, "appears twice"},
    {"JsonBadUtf8", Post(kInfer, Good(",\"id\":\"\xff\"")), 400, "request JSON"},
    {"JsonLoneSurrogate", Post(kInfer, Good(R"(,"id":"\ud800")")), 400, "id"},
    {"JsonWrongTypes", Post(kInfer, R"({"inputs":{"name":1}})"), 400, "inputs"},
    {"JsonManyInputs",
     Post(
         kInfer, R"({"inputs":[)" +
                     [] {
                       std::string list;
                       for (int i = 0; i < 5000; ++i)
                         list += R"({"name":"x","shape":[1],"datatype":"BOOL","data":[true]},)";
                       return list;
                     }() +
                     "{}]}"),
     400, "inputs: more than 4096"},
    {"JsonFp16", Json(R"("shape":[1,2],"datatype":"FP16","data":[1,2])"), 400,
     "FP16 does not travel as JSON"},
    // Names
    {"NameDotDot", Named("../../etc/passwd"), 404, "no such path"},
    {"NameEncodedDotDot", Named("%2e%2e%2f%2e%2e%2fetc%2fpasswd"), 404, "not loaded"},
    {"NameNul", Named("add%00"), 404, "not loaded"},
    {"NameAbsolute", Named("%2fetc%2fpasswd"), 404, "'/etc/passwd': not loaded"},
    {"NameOverLong", Named(std::string(5000, 'a')), 404, "not loaded"},
    {"NameBadEscape", Named("a%zz"), 400, "%"},
    {"NameVersionOverLong", Post("/v2/models/add/versions/" + std::string(300, '9') + "/infer", ""),
     404, "is not there"},
    {"NameLoadDotDot", Load("..%2fadd"), 400, "model name"},
    {"NameLoadAbsolute", Load("%2fetc"), 400, "model name"},
    {"NameLoadNul", Load("add%00"), 400, "model name"},
    {"NameLoadOverLong", Load(std::string(3000, 'a')), 400, "model name"},
    {"NameOfAnInput",
     Post(kInfer, R"({"inputs":[{"name":"q","shape":[1,2],"datatype":"FP32",)"
                  R"("data":[1,2]}]})"),
     400, "input 'q': the model has no such input"},
    {"NameOfAnInputOverLong",
     Post(kInfer, R"({"inputs":[{"name":")" + std::string(2000, 'n') + "\"}]}"), 400,
     "2000 bytes long"},
    {"NameOfAnInputTwice",
     Post(kInfer, R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},)"
                  R"({"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]})"),
     400, "input 'x': given twice"},
    {"NameOfATier", Post(kInfer, Good(R"(,"parameters":{"tier":"int2"})")), 400, "int2"},
    // Outputs
    {"OutputsUnknown", Outputs(1, "nope"), 400, "output 'nope': the model has no such output"},
    {"OutputsTwice", Outputs(2, "y"), 400, "output 'y': asked for twice"},
    {"OutputsThousands", Outputs(5000, "y"), 400, "outputs: more than 4096"},
    {"OutputsInSharedMemory",
     Post(kInfer, Good(R"(,"outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}])")),
     400, "shared_memory"},
    // What is not offered
    {"SharedMemory",
     Json(R"("shape":[1,2],"datatype":"FP32","parameters":{"shared_memory_region":"r"})"), 400,
     "shared memory is not offered"},
    {"ModelFilesInALoad",
     Load("add", R"({"parameters":{"file:1/model.onnx":"http://127.0.0.1:1/x.onnx"}})"), 400,
     "parameters.file:1/model.onnx: models are loaded as they lie in the repository"},
    {"ConfigurationInALoad", Load("add", R"({"parameters":{"config":"{}"}})"), 400,
     "parameters.config"},
    {"NonsenseInALoad", Load("add", "nonsense"), 400, "request JSON"},
    {"Sequences", Post(kInfer, Good(R"(,"parameters":{"sequence_id":1})")), 400, "sequence_id"},
};

class HostileRequestTest : public testing::TestWithParam<Kind> {
 protected:
  static void SetUpTestSuite() {
    models_ = std::make_unique<ModelFolder>("hostile_requests");
    models_->Add("add", R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Add(x, x) })");
    models_->Add("text", R"(graph "g"(x: string[N,2]) -> (y) { y = Identity(x) })");
    ServerOptions options{.path = models_->path(), .control = ModelControl::kExplicit};
    options.load_models = {"*"};
    options.http->max_body_bytes = 1 << 20;
    auto server = Server::Start(options, LoadSessionModel);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }
  static void TearDownTestSuite() {
    server_.reset();
    models_.reset();
  }
  static std::string Ask(const std::string& wire) {
    RawClient client(server_->port());
    client.Send(wire);
    return client.ReadResponse();
  }

  static inline std::unique_ptr<ModelFolder> models_;
  static inline std::unique_ptr<Server> server_;
};

TEST_P(HostileRequestTest, GetsAMessageAndTheServerGoesOn) {
  const std::string response = Ask(GetParam().wire);
  EXPECT_EQ(StatusOf(response), GetParam().status) << response;
  const auto answer = nlohmann::json::parse(BodyOf(response), nullptr, false);
  ASSERT_TRUE(answer.is_object()) << response;
  EXPECT_THAT(answer.value("error", ""), HasSubstr(GetParam().message));
  for (const std::string& good : {Post(kInfer, Good()), OneByteChunks(Good())})
    EXPECT_THAT(BodyOf(Ask(good)), HasSubstr("\"data\":[2,4]"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, HostileRequestTest, testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace minim::serve
