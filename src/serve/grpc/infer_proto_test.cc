#include "serve/grpc/infer_proto.h"

#include <gtest/gtest.h>

#include "grpc/inference.pb.h"

namespace minim::serve {
namespace {

using inference::ModelInferRequest;

// An input x of the datatype with shape [2] and no data yet.
ModelInferRequest Request(const std::string& datatype = "FP32") {
  ModelInferRequest message;
  auto& x = *message.add_inputs();
  x.set_name("x");
  x.set_datatype(datatype);
  x.add_shape(2);
  return message;
}

TEST(InferProtoTest, ReadsRawTensorsAndParameters) {
  ModelInferRequest message = Request("INT16");
  message.set_id("7");
  message.add_raw_input_contents("\x01\0\xff\xff", 4);
  message.add_outputs()->set_name("y");
  auto& parameters = *message.mutable_parameters();
  parameters["tier"].set_string_param("int8");
  parameters["use_cache"].set_bool_param(false);
  parameters["timeout"].set_int64_param(5000);
  parameters["other"].set_double_param(1);
  parameters["user"].set_string_param("u1");
  const auto request = ReadInferRequest(message);
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->id, "7");
  EXPECT_EQ(request->inputs[0].tensor.as<int16_t>()[1], -1);
  EXPECT_TRUE(request->outputs[0].binary);
  EXPECT_TRUE(request->binary_outputs);
  EXPECT_EQ(request->tier, "int8");
  EXPECT_FALSE(request->use_cache);
  EXPECT_TRUE(request->use_batching);
  EXPECT_EQ(request->timeout_us, 5000u);
  EXPECT_EQ(request->texts, (std::vector<std::pair<std::string, std::string>>{{"user", "u1"}}));
}

// Adds 0 and 1 to the list of the datatype.
void FillContents(const std::string& datatype, inference::InferTensorContents& contents) {
  for (const int value : {0, 1}) {
    if (datatype == "BOOL") contents.add_bool_contents(value != 0);
    if (datatype == "INT8" || datatype == "INT16" || datatype == "INT32")
      contents.add_int_contents(value);
    if (datatype == "INT64") contents.add_int64_contents(value);
    if (datatype == "UINT8" || datatype == "UINT16" || datatype == "UINT32")
      contents.add_uint_contents(static_cast<uint32_t>(value));
    if (datatype == "UINT64") contents.add_uint64_contents(static_cast<uint64_t>(value));
    if (datatype == "FP32") contents.add_fp32_contents(static_cast<float>(value));
    if (datatype == "FP64") contents.add_fp64_contents(value);
    if (datatype == "BYTES") contents.add_bytes_contents(value == 0 ? "" : "one");
  }
}

TEST(InferProtoTest, TypedContentsEqualRawOnes) {
  const struct {
    std::string datatype, raw;
  } rows[] = {
      {"BOOL", std::string("\0\1", 2)},
      {"INT8", std::string("\0\1", 2)},
      {"UINT8", std::string("\0\1", 2)},
      {"INT16", std::string("\0\0\1\0", 4)},
      {"UINT16", std::string("\0\0\1\0", 4)},
      {"INT32", std::string("\0\0\0\0\1\0\0\0", 8)},
      {"UINT32", std::string("\0\0\0\0\1\0\0\0", 8)},
      {"INT64", std::string(8, '\0') + std::string("\1\0\0\0\0\0\0\0", 8)},
      {"UINT64", std::string(8, '\0') + std::string("\1\0\0\0\0\0\0\0", 8)},
      {"FP32", std::string("\0\0\0\0\0\0\x80\x3f", 8)},
      {"FP64", std::string(14, '\0') + "\xf0\x3f"},
      {"BYTES", std::string("\0\0\0\0\3\0\0\0one", 11)},
  };
  for (const auto& row : rows) {
    ModelInferRequest typed = Request(row.datatype), raw = Request(row.datatype);
    FillContents(row.datatype, *typed.mutable_inputs(0)->mutable_contents());
    raw.add_raw_input_contents(row.raw);
    const auto a = ReadInferRequest(typed), b = ReadInferRequest(raw);
    ASSERT_TRUE(a.ok()) << row.datatype << a.status().message();
    ASSERT_TRUE(b.ok()) << row.datatype << b.status().message();
    InferReply reply{std::vector<Tensor>{a->inputs[0].tensor, b->inputs[0].tensor},
                     {{"a", true}, {"b", true}},
                     "id",
                     std::make_shared<ServedVersion>(),
                     {.tier = "fp32"}};
    inference::ModelInferResponse answer;
    WriteInferResponse(reply, answer);
    EXPECT_EQ(answer.raw_output_contents(0), row.raw) << row.datatype;
    EXPECT_EQ(answer.raw_output_contents(1), row.raw) << row.datatype;
    EXPECT_EQ(answer.outputs(0).datatype(), row.datatype);
    EXPECT_EQ(answer.outputs(1).shape(0), 2);
    EXPECT_EQ(answer.parameters().at("tier").string_param(), "fp32");
  }
}

struct Row {
  const char* expected;
  void (*change)(ModelInferRequest&);
};

const Row kRows[] = {
    {"input 'x': shape [2] has more elements", [](ModelInferRequest&) {}},
    {"inputs[0]: name: missing", [](ModelInferRequest& r) { r.mutable_inputs(0)->clear_name(); }},
    {"name: 2000 bytes",
     [](ModelInferRequest& r) { r.mutable_inputs(0)->set_name(std::string(2000, 'a')); }},
    {"'FP33' is unknown", [](ModelInferRequest& r) { r.mutable_inputs(0)->set_datatype("FP33"); }},
    {"needs 8", [](ModelInferRequest& r) { r.add_raw_input_contents("abcd"); }},
    {"needs 8", [](ModelInferRequest& r) { r.add_raw_input_contents("abcdefghi"); }},
    {"2 for 1 inputs",
     [](ModelInferRequest& r) {
       r.add_raw_input_contents("abcdefgh");
       r.add_raw_input_contents("abcdefgh");
     }},
    {"both contents and raw_input_contents",
     [](ModelInferRequest& r) {
       r.add_raw_input_contents("abcdefgh");
       r.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
     }},
    {"not negative",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_shape(0, -1);
       r.add_raw_input_contents("abcdefgh");
     }},
    {"more elements than the data",
     [](ModelInferRequest& r) {
       for (int i = 0; i < 4; ++i) r.mutable_inputs(0)->add_shape(int64_t{1} << 40);
       r.add_raw_input_contents("abcdefgh");
     }},
    {"more elements than the data",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_shape(0, int64_t{1} << 40);
       r.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
     }},
    {"9 sizes",
     [](ModelInferRequest& r) {
       for (int i = 0; i < 8; ++i) r.mutable_inputs(0)->add_shape(1);
     }},
    {"3 elements, the shape [2] needs 2",
     [](ModelInferRequest& r) {
       for (int i = 0; i < 3; ++i) r.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
     }},
    {"more elements than the data",
     [](ModelInferRequest& r) {
       for (int i = 0; i < 2; ++i) r.mutable_inputs(0)->mutable_contents()->add_fp64_contents(1);
     }},
    {"2 lists",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->mutable_contents()->add_fp64_contents(1);
       r.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
     }},
    {"no list for BF16", [](ModelInferRequest& r) { r.mutable_inputs(0)->set_datatype("BF16"); }},
    {"element 1 is 128, no value of INT8",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_datatype("INT8");
       for (const int value : {-128, 128})
         r.mutable_inputs(0)->mutable_contents()->add_int_contents(value);
     }},
    {"element 0 is 65536, no value of UINT16",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_datatype("UINT16");
       for (int i = 0; i < 2; ++i)
         r.mutable_inputs(0)->mutable_contents()->add_uint_contents(65536);
     }},
    {"BOOL byte is 2",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_datatype("BOOL");
       r.add_raw_input_contents("\1\2");
     }},
    {"string 1 is 9 bytes long, only 1 follow",
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_datatype("BYTES");
       r.add_raw_input_contents("\1\0\0\0a\x09\0\0\0b", 10);
     }},
    {"shared memory",
     [](ModelInferRequest& r) {
       (*r.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("r");
     }},
    {"output 'y': parameters.classification",
     [](ModelInferRequest& r) {
       r.add_raw_input_contents("abcdefgh");
       auto& y = *r.add_outputs();
       y.set_name("y");
       (*y.mutable_parameters())["classification"].set_int64_param(3);
     }},
    {"outputs[0]: name: missing",
     [](ModelInferRequest& r) {
       r.add_raw_input_contents("abcdefgh");
       r.add_outputs();
     }},
    {"sequence_id",
     [](ModelInferRequest& r) { (*r.mutable_parameters())["sequence_id"].set_int64_param(1); }},
    {"timeout: expected",
     [](ModelInferRequest& r) { (*r.mutable_parameters())["timeout"].set_int64_param(-1); }},
    {"use_cache: expected",
     [](ModelInferRequest& r) { (*r.mutable_parameters())["use_cache"].set_int64_param(1); }},
    {"tier: expected",
     [](ModelInferRequest& r) { (*r.mutable_parameters())["tier"].set_bool_param(true); }},
    {"inputs: more than 4096",
     [](ModelInferRequest& r) {
       for (int i = 0; i < 4096; ++i) r.add_inputs();
     }},
    {"outputs: more than 4096",
     [](ModelInferRequest& r) {
       r.add_raw_input_contents("abcdefgh");
       for (int i = 0; i < 4097; ++i) r.add_outputs();
     }},
    {"id: 2000 bytes", [](ModelInferRequest& r) { r.set_id(std::string(2000, 'a')); }},
};

TEST(InferProtoTest, EveryFaultNamesTheField) {
  for (const Row& row : kRows) {
    ModelInferRequest message = Request();
    row.change(message);
    const auto request = ReadInferRequest(message);
    ASSERT_FALSE(request.ok()) << row.expected;
    EXPECT_NE(request.status().message().find(row.expected), std::string::npos)
        << request.status().message();
  }
}

}  // namespace
}  // namespace minim::serve
