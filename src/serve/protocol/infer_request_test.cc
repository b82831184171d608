#include "serve/protocol/infer_request.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

Result<InferRequest> Parse(std::string body, std::string_view json_length = "") {
  return ParseInferRequest(body, json_length);
}

std::string Input(const std::string& fields) { return "{\"inputs\":[{" + fields + "}]}"; }

TEST(InferRequestTest, ReadsJsonTensors) {
  const auto request = Parse(
      R"({"id":"7","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3,4e1]]},
          {"data":[true,false],"parameters":{},"datatype":"BOOL","shape":[2],"name":"é"}],
          "outputs":[{"name":"y"},{"name":"z","parameters":{"binary_data":false}}],
          "parameters":{"binary_data_output":true,"tier":"int8","use_cache":false,"timeout":5000,"priority":2,
                        "other":[1,{"a":null}]}, "ignored":{"deep":[1]}})");
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->id, "7");
  ASSERT_EQ(request->inputs.size(), 2u);
  const auto x = request->inputs[0].tensor.as<float>();
  EXPECT_EQ(std::vector<float>(x.begin(), x.end()), (std::vector<float>{1, 2.5f, -3, 40}));
  EXPECT_EQ(request->inputs[1].name, "é");
  EXPECT_TRUE(request->inputs[1].tensor.as<bool>()[0]);
  EXPECT_TRUE(request->outputs[0].binary);
  EXPECT_FALSE(request->outputs[1].binary);
  EXPECT_EQ(request->tier, "int8");
  EXPECT_FALSE(request->use_cache);
  EXPECT_TRUE(request->use_batching);
  EXPECT_EQ(request->timeout_us, 5000u);
  EXPECT_EQ(request->priority, 2u);
}

TEST(InferRequestTest, ReadsEveryDatatype) {
  for (const char* type :
       {"FP64", "FP32", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8"}) {
    const auto request = Parse(Input(std::string(R"("name":"x","shape":[3],"datatype":")") + type +
                                     R"(","data":[0,1,100])"));
    EXPECT_TRUE(request.ok()) << type << request.status().message();
  }
}

TEST(InferRequestTest, ReadsBinaryTensors) {
  std::string json = R"({"inputs":[{"name":"a","shape":[2],"datatype":"INT16",)"
                     R"("parameters":{"binary_data_size":4}},{"name":"b","shape":[1],)"
                     R"("datatype":"UINT8","parameters":{"binary_data_size":1}}]})";
  const std::string length = std::to_string(json.size());
  const std::string body = json + std::string("\x01\x00\xff\xff\x09", 5);
  const auto request = Parse(body, length);
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->inputs[0].tensor.as<int16_t>()[1], -1);
  EXPECT_EQ(request->inputs[1].tensor.as<uint8_t>()[0], 9);
  EXPECT_FALSE(Parse(body + "x", length).ok()) << "left over";
  EXPECT_FALSE(Parse(body.substr(0, body.size() - 1), length).ok()) << "cut off";
  EXPECT_FALSE(Parse(body).ok()) << "no length: the bytes are no JSON";
}

TEST(InferRequestTest, ReadsStrings) {
  std::string json = R"({"inputs":[{"name":"a","shape":[3],"datatype":"BYTES",)"
                     R"("data":["x\u00e9",["","long enough to lie elsewhere"]]},)"
                     R"({"name":"b","shape":[2],"datatype":"BYTES",)"
                     R"("parameters":{"binary_data_size":10}}]})";
  const auto request =
      Parse(json + std::string("\x02\0\0\0q\0\0\0\0\0", 10), std::to_string(json.size()));
  ASSERT_TRUE(request.ok()) << request.status().message();
  const auto a = request->inputs[0].tensor.as<std::string>();
  EXPECT_EQ(a[0], "xé");
  EXPECT_EQ(a[2], "long enough to lie elsewhere");
  EXPECT_EQ(request->inputs[1].tensor.as<std::string>()[0], std::string("q\0", 2));
  EXPECT_EQ(request->inputs[1].tensor.as<std::string>()[1], "");
}

struct Row {
  std::string body;
  const char* expected;
};

const std::string kX = R"("name":"x","shape":[2],"datatype":"FP32")";

const Row kRows[] = {
    {"", "request JSON"},
    {"{", "request JSON"},
    {"[]", "request JSON"},
    {"null", "request JSON"},
    {"{}", "inputs: missing"},
    {"\xEF\xBB\xBF{}", "request JSON"},
    {"{\"inputs\":[]} {}", "closing brace"},
    {"{\"inputs\":[]}]", "request JSON"},
    {R"({"inputs":[],"inputs":[]})", "'inputs' appears twice"},
    {R"({"inputs":[],"a":tru})", "a:"},
    {R"({"inputs":[],"a":nul})", "a:"},
    {R"({"inputs":[],"a":[1,}]})", "a:"},
    {R"({"inputs":{}})", "inputs"},
    {R"({"inputs":[1]})", "inputs[0]"},
    {R"({"inputs":[],"id":7})", "id: expected a string"},
    {R"({"inputs":[],"parameters":{"use_cache":1}})", "parameters.use_cache"},
    {R"({"inputs":[],"parameters":{"timeout":-1}})", "parameters.timeout"},
    {R"({"inputs":[],"parameters":{"priority":-1}})", "parameters.priority"},
    {R"({"inputs":[],"parameters":{"sequence_id":1}})", "sequence_id"},
    {R"({"inputs":[],"outputs":[{}]})", "outputs[0]: name: missing"},
    {R"({"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]})",
     "classification"},
    {Input(R"("shape":[1],"datatype":"FP32","data":[1])"), "name: missing"},
    {Input(R"("name":"x","datatype":"FP32","data":[1])"), "shape: missing"},
    {Input(R"("name":"x","shape":[1],"data":[1])"), "datatype: missing"},
    {Input(R"("name":"x","shape":[1],"datatype":"FP32")"), "data: missing"},
    {Input(R"("name":"x","shape":[1],"datatype":"FP33","data":[1])"), "'FP33' is unknown"},
    {Input(R"("name":"x","shape":[1],"datatype":"BYTES","data":[1])"), "element 0"},
    {Input(R"("name":"x","shape":[1],"datatype":"FP16","data":[1])"), "FP16 does not travel"},
    {Input(R"("data":[1],"name":"x","shape":[1],"datatype":"BF16")"), "BF16 does not travel"},
    {Input(R"("name":"x","shape":[-1],"datatype":"FP32","data":[1])"), "input 'x': shape"},
    {Input(R"("name":"x","shape":[1.0],"datatype":"FP32","data":[1])"), "shape"},
    {Input(R"("name":"x","shape":[1,1,1,1,1,1,1,1,1],"datatype":"FP32","data":[1])"),
     "more than 8"},
    {Input(R"("name":"x","shape":[4294967296,4294967296],"datatype":"FP32","data":[1])"),
     "more elements"},
    {Input(R"("name":"x","shape":[0,9223372036854775807,9],"datatype":"FP32","data":[1])"),
     "elements"},
    {Input(R"("name":"x","shape":[1000000000000],"datatype":"FP32","data":[1])"), "more elements"},
    {Input(kX + R"(,"data":[1])"), "1 elements, the shape [2] needs 2"},
    {Input(kX + R"(,"data":[1,2,3])"), "more than 2 elements"},
    {Input(kX + R"(,"data":[1,"2"])"), "input 'x': data: element 1 is no value of FP32"},
    {Input(kX + R"(,"data":[1,1e999])"), "data"},
    {Input(kX + R"(,"data":[1,1e39])"), "element 1"},
    {Input(kX + R"(,"data":[1,NaN])"), "data"},
    {Input(kX + R"(,"data":[1,Infinity])"), "data"},
    {Input(kX + R"(,"data":[1,null])"), "data"},
    {Input(kX + R"(,"data":[1,{}])"), "data"},
    {Input(kX + R"(,"data":[1,01])"), "data"},
    {Input(kX + R"(,"data":[1,2)"), "data"},
    {Input(kX + R"(,"data":5)"), "expected a list"},
    {Input(kX + ",\"data\":" + std::string(3000, '[') + std::string(3000, ']')), "nested deeper"},
    {Input(kX + ",\"data\":[1,2],\"other\":" + std::string(900, '[') + std::string(900, ']')),
     "nested"},
    {Input(kX + R"(,"data":[1,2],"data":[1,2])"), "appears twice"},
    {Input(R"("name":"x","shape":[1],"datatype":"INT8","data":[128])"),
     "element 0 is no value of INT8"},
    {Input(R"("name":"x","shape":[1],"datatype":"UINT8","data":[-1])"), "element 0"},
    {Input(R"("name":"x","shape":[1],"datatype":"INT32","data":[1.5])"), "element 0"},
    {Input(R"("name":"x","shape":[1],"datatype":"BOOL","data":[1])"), "element 0"},
    {Input(R"("data":[1,{"a":2}],"name":"x","shape":[2],"datatype":"FP32")"), "data"},
    {Input(R"("data":[1,2,[tru]],"name":"x","shape":[3],"datatype":"FP32")"), "data"},
    {Input(kX + R"(,"parameters":{"binary_data_size":8})"), "only 0 follow"},
    {Input(kX + R"(,"parameters":{"binary_data_size":18446744073709551616})"), "binary_data_size"},
    {Input(kX + R"(,"parameters":{"shared_memory_region":"r"})"), "shared memory"},
    {Input("\"name\":\"\xff\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]"), "request JSON"},
};

TEST(InferRequestTest, EveryFaultNamesTheField) {
  for (const Row& row : kRows) {
    const auto request = Parse(row.body);
    ASSERT_FALSE(request.ok()) << row.body.substr(0, 200);
    EXPECT_NE(request.status().message().find(row.expected), std::string::npos)
        << row.body.substr(0, 200) << "\n"
        << request.status().message();
  }
}

TEST(InferRequestTest, HeaderLengthsAreChecked) {
  for (const char* bad : {"-1", "x", "1.5", "99999999999999999999999", "1000", "3", " 2"})
    EXPECT_FALSE(Parse("{}", bad).ok()) << bad;
  EXPECT_NE(Parse("{}", "1000").status().message().find("only 2 bytes"), std::string::npos);
}

}  // namespace
}  // namespace minim::serve
