#include "train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

// Of a model that answers its samples, those above 0, of the given type.
Result<Metrics> EvaluateRelu(const std::string& type, const Tensor& samples,
                             std::initializer_list<int64_t> labels) {
  const Graph graph =
      ParseText("graph \"g\"(x: " + type + ") -> (y) { y: " + type + " = Relu(x) }").value();
  const auto session = Session::FromBytes(SerializeOnnx(graph).value()).value();
  ArraySource source({samples, Tensor::From<int64_t>({samples.dims()[0]}, labels)});
  return Evaluate(*session, source, LossKind::kCrossEntropy);
}

TEST(EvaluateTest, TheLargestScoreOfARowIsTheClass) {
  const Tensor scores = Tensor::From<float>({2, 3}, {1, 5, 2, 9, 0, 3});
  EXPECT_EQ(EvaluateRelu("f32[N,3]", scores, {1, 0})->accuracy, 1);
  EXPECT_EQ(EvaluateRelu("f32[N,3]", scores, {1, 2})->accuracy, 0.5);
  EXPECT_EQ(EvaluateRelu("f32[N,3,1,1]", scores.Reshaped({2, 3, 1, 1}), {1, 0})->accuracy, 1);
}

TEST(EvaluateTest, ASingleScoreIsALogit) {
  Graph graph = ParseText("graph \"g\"(x: f32[N,1]) -> (y) { y: f32[N,1] = Neg(x) }").value();
  const auto session = Session::FromBytes(SerializeOnnx(graph).value()).value();
  ArraySource source(
      {Tensor::From<float>({3, 1}, {-2, 0, 3}), Tensor::From<int64_t>({3}, {1, 0, 1})});
  EXPECT_DOUBLE_EQ(Evaluate(*session, source, LossKind::kBinaryCrossEntropy)->accuracy, 2.0 / 3);
}

TEST(EvaluateTest, RefusesAnswersThatAreNoScores) {
  EXPECT_EQ(EvaluateRelu("f32[N,3,2,1]", Tensor(DType::f32, {2, 3, 2, 1}), {0, 0}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(EvaluateRelu("f32[N]", Tensor(DType::f32, {2}), {0, 0}).ok());
}

TEST(PredictTest, GivesTheAnswersOfAllSamplesInOrder) {
  const Graph graph = ParseText(
                          "graph \"g\"(x: f32[N,2]) -> (y, z) { y: f32[N,2] = Relu(x) "
                          "z: f32[N,2] = Neg(x) }")
                          .value();
  const auto session = Session::FromBytes(SerializeOnnx(graph).value()).value();
  Tensor samples(DType::f32, {250, 2});
  for (int64_t i = 0; i < samples.size(); ++i) samples.as<float>()[i] = static_cast<float>(i - 9);
  ArraySource source({samples, Tensor(DType::i64, {250})});
  for (size_t output : {0, 1}) {
    const Tensor answers = Predict(*session, source, output).value();
    ASSERT_EQ(answers.dims(), samples.dims());
    for (int64_t i = 0; i < samples.size(); ++i) {
      const float x = samples.as<float>()[i];
      EXPECT_EQ(answers.as<float>()[i], output == 0 ? std::max(x, 0.0f) : -x);
    }
  }
}

TEST(AucTest, CountsPairsInTheRightOrderAndHalfOfTheTies) {
  EXPECT_DOUBLE_EQ(Auc(std::vector<float>{1, 2, 3, 4}, {false, false, true, true}), 1);
  EXPECT_DOUBLE_EQ(Auc(std::vector<float>{1, 2, 3, 4}, {true, true, false, false}), 0);
  EXPECT_DOUBLE_EQ(Auc(std::vector<float>{0.1f, 0.4f, 0.35f, 0.8f}, {false, false, true, true}),
                   0.75);
  EXPECT_DOUBLE_EQ(Auc(std::vector<float>{5, 5, 5, 1}, {true, false, true, false}), 0.75);
  EXPECT_LT(Auc(std::vector<float>{1, 2}, {true, true}), 0);
  EXPECT_LT(Auc(std::vector<float>{1, NAN}, {true, false}), 0);
}

std::shared_ptr<Session> Identity(const std::string& type) {
  const Graph graph =
      ParseText("graph \"g\"(x: " + type + ") -> (y) { y: " + type + " = Identity(x) }").value();
  return Session::FromBytes(SerializeOnnx(graph).value()).value();
}

TEST(EvaluateTest, TwoClassesHaveAllThree) {
  ArraySource data(
      {Tensor::From<float>({3, 2}, {0, 0, 0, 2, 1, 0}), Tensor::From<int64_t>({3}, {0, 1, 1})});
  const Metrics metrics = Evaluate(*Identity("f32[N,2]"), data, LossKind::kCrossEntropy).value();
  EXPECT_NEAR(metrics.loss,
              (std::log(2.0) + std::log1p(std::exp(-2.0)) + std::log1p(std::exp(1.0))) / 3, 1e-7);
  EXPECT_DOUBLE_EQ(metrics.accuracy, 2.0 / 3);
  EXPECT_DOUBLE_EQ(metrics.auc, 0.5);
}

TEST(EvaluateTest, LogitsAndErrors) {
  const Tensor scores = Tensor::From<float>({3, 1}, {-1, 100, 2});
  ArraySource hard({scores, Tensor::From<float>({3}, {0, 1, 0})});
  const auto session = Identity("f32[N,1]");
  const Metrics binary = Evaluate(*session, hard, LossKind::kBinaryCrossEntropy).value();
  EXPECT_NEAR(binary.loss, (std::log1p(std::exp(-1.0)) + std::log1p(std::exp(2.0))) / 3, 1e-7);
  EXPECT_DOUBLE_EQ(binary.accuracy, 2.0 / 3);
  EXPECT_DOUBLE_EQ(binary.auc, 1);
  ArraySource soft({scores, Tensor::From<float>({3, 1}, {0, 0.5f, 0})});
  const Metrics targets = Evaluate(*session, soft, LossKind::kBinaryCrossEntropy).value();
  EXPECT_LT(targets.accuracy, 0);
  EXPECT_LT(targets.auc, 0);
  const Metrics errors = Evaluate(*session, hard, LossKind::kMeanSquaredError).value();
  EXPECT_NEAR(errors.loss, (1 + 99 * 99 + 4) / 3.0, 1e-9);
  EXPECT_LT(errors.accuracy, 0);
}

TEST(EvaluateTest, EveryPlaceOfASampleCounts) {
  ArraySource data(
      {Tensor::From<float>({1, 3, 2}, {9, 0, 0, 0, 0, 9}), Tensor::From<int64_t>({1, 2}, {0, 1})});
  const Metrics metrics = Evaluate(*Identity("f32[N,3,2]"), data, LossKind::kCrossEntropy).value();
  EXPECT_DOUBLE_EQ(metrics.accuracy, 0.5);
  EXPECT_LT(metrics.auc, 0);
}

TEST(EvaluateTest, AModelMayFixItsBatch) {
  ArraySource data(
      {Tensor::From<float>({3, 2}, {5, 0, 0, 5, 5, 0}), Tensor::From<int64_t>({3}, {0, 1, 1})});
  const auto metrics = Evaluate(*Identity("f32[2,2]"), data, LossKind::kCrossEntropy);
  ASSERT_TRUE(metrics.ok()) << metrics.status().message();
  EXPECT_DOUBLE_EQ(metrics->accuracy, 2.0 / 3);
}

TEST(EvaluateTest, LabelsThatDoNotFitAreErrors) {
  const auto message = [](const Tensor& labels, LossKind loss) {
    ArraySource data({Tensor(DType::f32, {2, 3}), labels});
    return Evaluate(*Identity("f32[N,3]"), data, loss).status().message();
  };
  EXPECT_NE(message(Tensor::From<int64_t>({2}, {0, 3}), LossKind::kCrossEntropy).find("3 classes"),
            std::string::npos);
  EXPECT_NE(message(Tensor(DType::f32, {2}), LossKind::kCrossEntropy).find("f32"),
            std::string::npos);
  EXPECT_NE(message(Tensor(DType::f32, {2}), LossKind::kMeanSquaredError).find("[2,3]"),
            std::string::npos);
}

}  // namespace
}  // namespace minim
