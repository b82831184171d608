#include "train/metrics.h"

#include <gtest/gtest.h>

#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

Result<std::vector<int64_t>> ClassifyRelu(const std::string& type, const Tensor& samples) {
  const Graph graph =
      ParseText("graph \"g\"(x: " + type + ") -> (y) { y: " + type + " = Relu(x) }").value();
  const auto session = Session::FromBytes(SerializeOnnx(graph).value()).value();
  return Classify(*session, {samples, Tensor(DType::i64, {samples.dims()[0]})});
}

TEST(ClassifyTest, TakesTheLargestScoreOfEachRow) {
  const Tensor scores = Tensor::From<float>({2, 3}, {1, 5, 2, 9, 0, 3});
  EXPECT_EQ(ClassifyRelu("f32[N,3]", scores).value(), (std::vector<int64_t>{1, 0}));
}

TEST(ClassifyTest, ASingleScoreIsALogit) {
  Graph graph = ParseText("graph \"g\"(x: f32[N,1]) -> (y) { y: f32[N,1] = Neg(x) }").value();
  const auto session = Session::FromBytes(SerializeOnnx(graph).value()).value();
  const Dataset data{Tensor::From<float>({3, 1}, {-2, 0, 3}),
                     Tensor::From<int64_t>({3}, {1, 0, 1})};
  EXPECT_EQ(Classify(*session, data).value(), (std::vector<int64_t>{1, 0, 0}));
  EXPECT_DOUBLE_EQ(Accuracy(*session, data).value(), 2.0 / 3);
}

TEST(ClassifyTest, ScoresMayEndInDimsOfOne) {
  const Tensor scores = Tensor::From<float>({2, 3, 1, 1}, {1, 5, 2, 9, 0, 3});
  EXPECT_EQ(ClassifyRelu("f32[N,3,1,1]", scores).value(), (std::vector<int64_t>{1, 0}));
}

TEST(ClassifyTest, RefusesAnswersThatAreNoScores) {
  const auto images = ClassifyRelu("f32[N,3,2,1]", Tensor(DType::f32, {2, 3, 2, 1}));
  EXPECT_EQ(images.status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(ClassifyRelu("f32[N]", Tensor(DType::f32, {2})).ok());
}

}  // namespace
}  // namespace minim
