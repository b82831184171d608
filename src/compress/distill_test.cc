#include "compress/distill.h"

#include <numeric>

#include "compress/prune.h"
#include "compress/testing/small_problems.h"
#include "core/dtype.h"
#include "ops/reference.h"

namespace minim {
namespace {

// The loss on one batch of logits, by the graph that Teach gives.
double LossOf(const Teaching& teaching, const Tensor& predictions, const Tensor& labels) {
  Graph graph;
  const ValueId x = graph.AddInput("x", {DType::f32, ToShape(predictions.dims())});
  const ValueId y = graph.AddInput("y", {DType::f32, ToShape(labels.dims())});
  Builder builder(graph);
  const auto loss = teaching.loss(builder, x, y);
  EXPECT_TRUE(loss.ok()) << loss.status().message();
  graph.outputs = {*loss};
  return EvaluateGraph(graph, {predictions, labels}).value()[0].as<float>()[0];
}

std::vector<double> LogSoftmax(std::vector<double> x) {
  double sum = 0;
  for (double value : x) sum += std::exp(value);
  for (double& value : x) value -= std::log(sum);
  return x;
}

TEST(DistillTest, TheLossIsTheOneOfTheBook) {
  const Graph teacher = MoonsNet(8);
  const Dataset data = Moons(16);
  ArraySource source(data);
  const double t = 4, alpha = 0.3;
  const auto teaching = Teach(teacher, source, {.temperature = t, .alpha = alpha});
  ASSERT_TRUE(teaching.ok()) << teaching.status().message();
  const std::vector<int64_t> indices = {3, 9, 4};
  const Batch batch = teaching->source->Gather(indices).value();
  ASSERT_EQ(batch.labels.dims(), Dims({3, 3}));
  const Tensor taught = RunGraph(teacher, data.samples);
  const Tensor logits = Tensor::From<float>({3, 2}, {1, 2, -0.5f, 3, 0, 0.25f});
  double expected = 0;
  for (size_t i = 0; i < 3; ++i) {
    const float* p = taught.as<float>().data() + 2 * indices[i];
    const float* q = logits.as<float>().data() + 2 * i;
    const int64_t label = data.labels.as<int64_t>()[indices[i]];
    const auto soft_p = LogSoftmax({p[0] / t, p[1] / t}), soft_q = LogSoftmax({q[0] / t, q[1] / t});
    double kl = 0;
    for (int k = 0; k < 2; ++k) kl += std::exp(soft_p[k]) * (soft_p[k] - soft_q[k]);
    expected += (-alpha * LogSoftmax({q[0], q[1]})[label] + (1 - alpha) * t * t * kl) / 3;
  }
  EXPECT_NEAR(LossOf(*teaching, logits, batch.labels), expected, 1e-5);
}

TEST(DistillTest, ValuesAreTaughtBySquares) {
  const Graph teacher = MoonsNet(8);
  Dataset data = Moons(16);
  data.labels = Tensor(DType::f32, {16, 2});
  for (int64_t i = 0; i < 32; ++i) data.labels.as<float>()[i] = 0.1f * static_cast<float>(i);
  ArraySource source(data);
  DistillOptions options{.alpha = 0.25, .tune = {.loss = LossKind::kMeanSquaredError}};
  const auto teaching = Teach(teacher, source, options);
  ASSERT_TRUE(teaching.ok()) << teaching.status().message();
  const Batch batch = teaching->source->Gather(std::vector<int64_t>{5, 0}).value();
  const Tensor taught = RunGraph(teacher, data.samples);
  const Tensor values = Tensor::From<float>({2, 2}, {1, 2, -0.5f, 3});
  double expected = 0;
  for (int i = 0; i < 2; ++i)
    for (int k = 0; k < 2; ++k) {
      const int64_t at = (i == 0 ? 5 : 0) * 2 + k;
      const double value = values.as<float>()[2 * i + k];
      expected += 0.25 * std::pow(value - data.labels.as<float>()[at], 2) / 4 +
                  0.75 * std::pow(value - taught.as<float>()[at], 2) / 4;
    }
  EXPECT_NEAR(LossOf(*teaching, values, batch.labels), expected, 1e-5);
}

TEST(DistillTest, EventsAreTaughtByTheirLogits) {
  ModelSpec spec;
  spec.input = {4};
  spec.layers = {{.kind = "linear", .units = 8}, {.kind = "relu"}, {.kind = "linear", .units = 1}};
  const Graph teacher = BuildModel(spec, 1).value();
  const Dataset data = Moons(16);
  ArraySource source(data);
  const double t = 3, alpha = 0.4;
  const auto teaching =
      Teach(teacher, source,
            {.temperature = t, .alpha = alpha, .tune = {.loss = LossKind::kBinaryCrossEntropy}});
  ASSERT_TRUE(teaching.ok()) << teaching.status().message();
  const std::vector<int64_t> indices = {3, 8};
  const Batch batch = teaching->source->Gather(indices).value();
  const Tensor taught = RunGraph(teacher, data.samples);
  const Tensor logits = Tensor::From<float>({2, 1}, {1.5f, -0.5f});
  const auto odds = [](double x) { return 1 / (1 + std::exp(-x)); };
  double expected = 0;
  for (size_t i = 0; i < 2; ++i) {
    const double q = odds(logits.as<float>()[i]), p = odds(taught.as<float>()[indices[i]] / t);
    const double soft = odds(logits.as<float>()[i] / t);
    const double hard =
        data.labels.as<int64_t>()[indices[i]] == 1 ? -std::log(q) : -std::log(1 - q);
    const double kl = p * std::log(p / soft) + (1 - p) * std::log((1 - p) / (1 - soft));
    expected += (alpha * hard + (1 - alpha) * t * t * kl) / 2;
  }
  EXPECT_NEAR(LossOf(*teaching, logits, batch.labels), expected, 1e-5);
}

TEST(DistillTest, AStudentLearnsFromTheTeacherAlone) {
  // The labels say nothing; what the student knows comes from the teacher.
  const Dataset data = Moons(512), held_out = Moons(512, 4);
  const Graph teacher = Tuned(MoonsNet(32), data, {.epochs = 40, .learning_rate = 1e-2});
  Dataset blind = data;
  blind.labels = Tensor(DType::i64, {512});
  ArraySource source(blind);
  DistillOptions options{.alpha = 0, .tune = {.epochs = 40, .learning_rate = 1e-2}};
  const auto student = Distill(teacher, MoonsNet(8, 5), source, options);
  ASSERT_TRUE(student.ok()) << student.status().message();
  EXPECT_GT(Accuracy(student->graph, held_out), 0.95);
  options.alpha = 1;
  const auto misled = Distill(teacher, MoonsNet(8, 5), source, options);
  ASSERT_TRUE(misled.ok()) << misled.status().message();
  EXPECT_LT(Accuracy(misled->graph, held_out), 0.6);
}

TEST(DistillTest, HalfTheParametersCostLittle) {
  const Fashion data = SomeFashion();
  if (data.train.size() == 0) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const Graph& teacher = TrainedFashionNet(data);
  const auto student = MakeStudent(teacher, {.parameters = 0.5});
  ASSERT_TRUE(student.ok()) << student.status().message();
  EXPECT_LE(ParameterCount(*student), ParameterCount(teacher) / 2);
  ArraySource source(data.train);
  DistillOptions options{.tune = {.epochs = 1.5, .batch = 50, .learning_rate = 2e-3}};
  const auto taught = Distill(teacher, *student, source, options);
  ASSERT_TRUE(taught.ok()) << taught.status().message();
  const double before = Accuracy(teacher, data.test), after = Accuracy(taught->graph, data.test);
  RecordProperty("teacher", std::to_string(before));
  RecordProperty("student", std::to_string(after));
  EXPECT_GT(after, 0.98 * before) << before << " -> " << after;
  EXPECT_LT(Accuracy(*student, data.test), 0.98 * before) << "there was nothing to learn";
}

TEST(DistillTest, SaysWhatIsWrong) {
  const Dataset data = Moons(32);
  ArraySource source(data);
  const Graph teacher = MoonsNet(8);
  const auto code = [&](const DistillOptions& options) {
    return Distill(teacher, MoonsNet(8), source, options).status().code();
  };
  EXPECT_EQ(code({.temperature = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.alpha = 1.5}), StatusCode::kInvalidArgument);
  ModelSpec spec;
  spec.input = {4};
  spec.layers = {{.kind = "linear", .units = 3}};
  const auto other = Distill(teacher, BuildModel(spec, 1).value(), source, {});
  EXPECT_EQ(other.status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace minim
