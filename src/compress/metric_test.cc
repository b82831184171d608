#include "compress/metric.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/philox.h"
#include "core/stats.h"

namespace minim {
namespace {

Tensor Random(const Dims& dims, uint64_t seed) {
  Tensor tensor(DType::f32, dims);
  const Philox rng(seed);
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor.as<float>()[i] = rng.Normal(static_cast<uint64_t>(i));
  return tensor;
}

Tensor Labels(int64_t count, uint32_t classes, uint64_t seed) {
  Tensor tensor(DType::i64, {count});
  const Philox rng(seed);
  for (int64_t i = 0; i < count; ++i)
    tensor.as<int64_t>()[i] = rng.Below(static_cast<uint64_t>(i), classes);
  return tensor;
}

double Value(const char* metric, const Tensor& scores, const Tensor& reference,
             const Tensor& labels) {
  const auto measured = Metric::Parse(metric)->Measure({scores, reference, labels});
  EXPECT_TRUE(measured.ok()) << measured.status().message();
  const auto& each = measured->each;
  EXPECT_EQ(each.size(), static_cast<size_t>(scores.dims()[0]));
  const double sum = std::accumulate(each.begin(), each.end(), 0.0);
  EXPECT_NEAR(sum / static_cast<double>(each.size()), measured->value, 1e-9) << metric;
  return measured->value;
}

TEST(MetricTest, ClassesByTheirScores) {
  const Tensor scores = Tensor::From<float>({4, 3}, {3, 1, 2, 0, 5, 4, 1, 2, 0, 9, 8, 7});
  const Tensor labels = Tensor::From<int64_t>({4}, {0, 2, 2, 1});
  EXPECT_DOUBLE_EQ(Value("accuracy", scores, scores, labels), 0.25);
  EXPECT_DOUBLE_EQ(Value("top-2", scores, scores, labels), 0.75);
  EXPECT_DOUBLE_EQ(Value("top-3", scores, scores, labels), 1);
}

TEST(MetricTest, LogLossReadsLogitsAndProbabilitiesAlike) {
  const Tensor logits = Tensor::From<float>({2, 2}, {0, 1, 2, 0});
  Tensor p = logits.Clone();
  for (int i = 0; i < 2; ++i) {
    const double a = std::exp(logits.as<float>()[2 * i]),
                 b = std::exp(logits.as<float>()[2 * i + 1]);
    p.as<float>()[2 * i] = static_cast<float>(a / (a + b));
    p.as<float>()[2 * i + 1] = static_cast<float>(b / (a + b));
  }
  const Tensor labels = Tensor::From<int64_t>({2}, {1, 1});
  const double expected = (std::log1p(std::exp(-1.0)) + std::log1p(std::exp(2.0))) / 2;
  EXPECT_NEAR(Value("log-loss", logits, logits, labels), expected, 1e-6);
  EXPECT_NEAR(Value("log-loss", p, p, labels), expected, 1e-6);
  const Tensor margin = Tensor::From<float>({2}, {1, -2});  // one score a sample, a logit
  EXPECT_NEAR(Value("log-loss", margin, margin, labels), expected, 1e-6);
  EXPECT_NEAR(Value("kl", logits, logits, labels), 0, 1e-12);
}

TEST(MetricTest, AucAndF1AreThoseOfTheTextbook) {
  const Tensor scores = Tensor::From<float>({4, 1}, {0.1f, 0.4f, 0.35f, 0.8f});
  const Tensor labels = Tensor::From<int64_t>({4}, {0, 0, 1, 1});
  EXPECT_DOUBLE_EQ(Value("auc", scores, scores, labels), 0.75);
  EXPECT_NEAR(Value("f1", scores, scores, labels), 2.0 / 3, 1e-12);  // one found, none wrong
}

// Contributions must have the variance of the estimate: over many draws of the data, the spread of
// the value is the mean of the standard error.
TEST(MetricTest, ContributionsTellTheSpreadOfAucAndF1) {
  constexpr int kDraws = 400;
  constexpr int64_t kSamples = 200;
  for (const char* name : {"auc", "f1", "accuracy"}) {
    double sum = 0, squares = 0, predicted = 0;
    for (int d = 0; d < kDraws; ++d) {
      const Tensor labels = Labels(kSamples, 2, 1000 + d);
      Tensor scores = Random({kSamples, 1}, 5000 + d);
      for (int64_t i = 0; i < kSamples; ++i)
        scores.as<float>()[i] += labels.as<int64_t>()[i] ? 0.7f : -0.7f;
      const Measured m = Metric::Parse(name)->Measure({scores, scores, labels}).value();
      sum += m.value;
      squares += m.value * m.value;
      const Interval interval = PairedDifference(m.each, std::vector<double>(kSamples, 0));
      predicted += (interval.high - interval.low) / 2 / 1.96;
    }
    const double spread = std::sqrt(squares / kDraws - std::pow(sum / kDraws, 2));
    EXPECT_NEAR(predicted / kDraws / spread, 1, 0.12) << name;
  }
}

TEST(MetricTest, DistancesToTargetsAndToTheReference) {
  const Tensor a = Tensor::From<float>({2, 2}, {1, 2, 3, 4}),
               b = Tensor::From<float>({2, 2}, {1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(Value("mse", a, a, b), 1);
  EXPECT_DOUBLE_EQ(Value("mae", a, a, b), 0.5);
  EXPECT_NEAR(Value("cosine", a, a, {}), 1, 1e-12);
  EXPECT_LT(Value("cosine", a, b, {}), 1);
}

TEST(MetricTest, LikenessOfClassesAndOfTheirProbabilities) {
  const Tensor a = Tensor::From<float>({2, 2}, {0.9f, 0.1f, 0.4f, 0.6f});
  const Tensor b = Tensor::From<float>({2, 2}, {0.8f, 0.2f, 0.6f, 0.4f});
  const Likeness like = CompareAnswers(a, b);
  EXPECT_DOUBLE_EQ(like.agreement, 0.5);
  EXPECT_NEAR(like.confidence, 0.15, 1e-6);
  EXPECT_EQ(CompareAnswers(Random({2, 2, 2}, 1), Random({2, 2, 2}, 2)).agreement, -1);
}

TEST(MetricTest, DefaultsFollowLabelsAndAnswers) {
  const Tensor scores = Random({4, 3}, 1), image = Random({4, 3, 2}, 1);
  EXPECT_EQ(Metric::Default(scores, Labels(4, 3, 1)).name(), "accuracy");
  EXPECT_EQ(Metric::Default(scores, Random({4, 3}, 2)).name(), "mse");
  EXPECT_EQ(Metric::Default(scores, {}).name(), "agreement");
  EXPECT_EQ(Metric::Default(image, {}).name(), "cosine");
}

TEST(MetricTest, SaysWhatItCannotRead) {
  const auto fails = [](const char* metric, const Tensor& scores, const Tensor& labels) {
    const auto result = Metric::Parse(metric)->Measure({scores, scores, labels});
    return result.ok() ? std::string() : result.status().message();
  };
  EXPECT_NE(fails("accuracy", Random({4, 3}, 1), {}).find("needs labels"), std::string::npos);
  EXPECT_NE(fails("accuracy", Random({4, 3, 5}, 1), Labels(4, 3, 1)).find("[N,classes]"),
            std::string::npos);
  EXPECT_NE(fails("accuracy", Random({4, 3}, 1), Labels(5, 3, 1)).find("i64[4]"),
            std::string::npos);
  EXPECT_NE(fails("accuracy", Random({4, 3}, 1), Tensor::From<int64_t>({4}, {0, 1, 2, 3}))
                .find("label 3 of sample 3"),
            std::string::npos);
  EXPECT_NE(fails("auc", Random({4, 3}, 1), Labels(4, 3, 1)).find("two classes"),
            std::string::npos);
  EXPECT_NE(fails("mse", Random({4, 3}, 1), Random({4, 2}, 1)).find("do not fit"),
            std::string::npos);
  for (const char* name : {"top-", "top-0", "top-5x", "precision", ""})
    EXPECT_FALSE(Metric::Parse(name).ok()) << name;
}

}  // namespace
}  // namespace minim
