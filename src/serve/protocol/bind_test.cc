#include <gtest/gtest.h>

#include "serve/protocol/infer_request.h"

namespace minim::serve {
namespace {

const std::vector<TensorInfo> kInputs = {{"a", DType::f32, {-1, 2}, {"N", ""}},
                                         {"b", DType::i64, {-1}, {"N"}}};
const std::vector<TensorInfo> kOutputs = {{"y", DType::f32, {-1}, {"N"}},
                                          {"z", DType::f32, {-1}, {"N"}}};

InferRequest Good() {
  InferRequest request;
  request.inputs.push_back({"b", Tensor(DType::i64, {3})});
  request.inputs.push_back({"a", Tensor(DType::f32, {3, 2})});
  return request;
}

TEST(BindRequestTest, OrdersInputsAndListsOutputs) {
  InferRequest request = Good();
  request.binary_outputs = true;
  ASSERT_TRUE(BindRequest(request, kInputs, kOutputs, true).ok());
  EXPECT_EQ(request.inputs[0].name, "a");
  ASSERT_EQ(request.outputs.size(), 2u);
  EXPECT_EQ(request.outputs[1].name, "z");
  EXPECT_TRUE(request.outputs[1].binary);
}

struct Row {
  const char* expected;
  void (*change)(InferRequest&);
};

const Row kRows[] = {
    {"input 'c': the model has no such input", [](InferRequest& r) { r.inputs[0].name = "c"; }},
    {"input 'a': given twice",
     [](InferRequest& r) { r.inputs[0] = {"a", Tensor(DType::f32, {3, 2})}; }},
    {"input 'b': missing", [](InferRequest& r) { r.inputs.erase(r.inputs.begin()); }},
    {"input 'a': datatype FP64, expected FP32",
     [](InferRequest& r) { r.inputs[1].tensor = Tensor(DType::f64, {3, 2}); }},
    {"input 'a': shape [3,3], expected [N,2]",
     [](InferRequest& r) { r.inputs[1].tensor = Tensor(DType::f32, {3, 3}); }},
    {"input 'a': shape [6], expected [N,2]",
     [](InferRequest& r) { r.inputs[1].tensor = Tensor(DType::f32, {6}); }},
    {"input 'b': 4 rows, but input 'a' has 3",
     [](InferRequest& r) { r.inputs[0].tensor = Tensor(DType::i64, {4}); }},
    {"has no rows",
     [](InferRequest& r) {
       r.inputs[0].tensor = Tensor(DType::i64, {0});
       r.inputs[1].tensor = Tensor(DType::f32, {0, 2});
     }},
    {"output 'q': the model has no such output", [](InferRequest& r) { r.outputs = {{"q"}}; }},
    {"output 'y': asked for twice", [](InferRequest& r) { r.outputs = {{"y"}, {"z"}, {"y"}}; }},
};

TEST(BindRequestTest, MessagesNameTheField) {
  for (const Row& row : kRows) {
    InferRequest request = Good();
    row.change(request);
    const Status status = BindRequest(request, kInputs, kOutputs, true);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.expected;
    EXPECT_NE(status.message().find(row.expected), std::string::npos) << status.message();
  }
}

TEST(BindRequestTest, TwoByteFloatsAreAskedForAsBinary) {
  const std::vector<TensorInfo> outputs = {{"y", DType::f32, {-1}, {"N"}},
                                           {"h", DType::f16, {-1}, {"N"}}};
  InferRequest request = Good();
  EXPECT_NE(BindRequest(request, kInputs, outputs, true).message().find("output 'h': FP16"),
            std::string::npos);
  request = Good();
  request.outputs = {{"h", true}, {"y", false}};
  EXPECT_TRUE(BindRequest(request, kInputs, outputs, true).ok());
}

TEST(BindRequestTest, UnrankedAndSymbolicInputsTakeAnyShape) {
  const std::vector<TensorInfo> any = {{.name = "x", .ranked = false}};
  InferRequest request;
  request.inputs.push_back({"x", Tensor(DType::f32, {})});
  EXPECT_TRUE(BindRequest(request, any, kOutputs, false).ok());
}

}  // namespace
}  // namespace minim::serve
