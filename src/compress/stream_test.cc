#include "compress/stream.h"

#include <gtest/gtest.h>

#include <cstring>

#include "compress/quantize.h"
#include "compress/testing/input_models.h"

namespace minim {
namespace {

constexpr int64_t kWindows = 12, kSteps = 9;
const std::map<std::string, std::string> kStates = {{"h0", "hn"}, {"c0", "cn"}};

Feedback StepFeedback(int64_t sequence_length) {
  return FeedbackOf(StepNet(64), kStates, sequence_length).value();
}

// The steps of all windows, one after the other, and the windows themselves.
Dataset Steps() { return DataOf(NormalTensor({kWindows * kSteps, 6}, 7, 1)); }
Dataset Windows() { return DataOf(Steps().samples.Reshaped({kWindows, kSteps, 6})); }

Tensor Carried(const Graph& graph, const Feedback& feedback) {
  const auto session = MakeSession(graph, {}).value();
  const Dataset data = Steps();
  ArraySource source(data);
  const auto answers = PredictSteps(*session, source, feedback, 1);
  EXPECT_TRUE(answers.ok()) << answers.status().message();
  return answers.ok() ? *answers : Tensor();
}

bool SameBits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

// logits [kSteps,1,3] of each window beside those of its carried steps.
void ExpectWindows(const Graph& window, const Tensor& carried) {
  ASSERT_EQ(carried.dims(), Dims({kWindows * kSteps, 3}));
  const auto session = MakeSession(window, {}).value();
  const Tensor x = Windows().samples;
  for (int64_t i = 0; i < kWindows; ++i) {
    Tensor one(DType::f32, {1, kSteps, 6});
    std::copy_n(x.as<float>().data() + i * kSteps * 6, kSteps * 6, one.as<float>().data());
    const ConstView views[] = {one.view()};
    const Tensor logits = session->Run(views).value()[0];
    EXPECT_TRUE(SameBits(logits.as<float>().data(), carried.as<float>().data() + i * kSteps * 3,
                         kSteps * 3))
        << "window " << i;
  }
}

TEST(StreamTest, CarriedStepsAreTheWindow) {
  ExpectWindows(WindowNet(64, kSteps), Carried(StepNet(64), StepFeedback(kSteps)));
}

TEST(StreamTest, CarriedStepsOfAQuantizedModelAreItsWindow) {
  const Graph step = QuantizeDynamic(StepNet(64)).value();
  ASSERT_TRUE(std::any_of(step.nodes.begin(), step.nodes.end(), [](const Node& node) {
    return node.Is("DynamicQuantizeLSTM", kMicrosoftDomain);
  }));
  ExpectWindows(QuantizeDynamic(WindowNet(64, kSteps)).value(),
                Carried(step, StepFeedback(kSteps)));
}

TEST(StreamTest, AStreamWithoutAnEndKeepsItsState) {
  const Tensor whole = Carried(StepNet(64), StepFeedback(0));
  const Tensor parts = Carried(StepNet(64), StepFeedback(kSteps));
  EXPECT_TRUE(SameBits(whole.as<float>().data(), parts.as<float>().data(), kSteps * 3));
  EXPECT_FALSE(
      SameBits(whole.as<float>().data() + kSteps * 3, parts.as<float>().data() + kSteps * 3, 3));
}

TEST(StreamTest, CalibrationSeesTheStatesOfTheWindow) {
  const Graph step = Prepared(StepNet(64)), window = Prepared(WindowNet(64, kSteps));
  const auto session = MakeSession(step, {}).value();
  const Dataset data = WithStates(*session, Steps(), StepFeedback(kSteps)).value();
  const ActivationProfile carried = CollectProfile(step, data).value();
  const ActivationProfile whole = CollectProfile(window, Windows()).value();
  ASSERT_TRUE(carried.values.contains("state"));
  ASSERT_TRUE(whole.values.contains("state"));
  const ValueProfile &a = carried.values.at("state"), &b = whole.values.at("state");
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_EQ(a.counts, b.counts);
  EXPECT_EQ(a.zeros, b.zeros);
  EXPECT_LT(a.low, -0.2);
  // Whatever the threads and however many are in memory.
  EXPECT_EQ(CollectProfile(step, data, {.batch = 5, .threads = 3}).value(), carried);
}

TEST(StreamTest, SaysWhatIsWrongWithAState) {
  const auto error = [](const std::map<std::string, std::string>& states, int64_t length = 0) {
    const auto feedback = FeedbackOf(StepNet(64), states, length);
    return feedback.ok() ? "" : feedback.status().message();
  };
  EXPECT_NE(error({{"h", "hn"}}).find("'h' is no input of the model; it has h0, x, c0"),
            std::string::npos);
  EXPECT_NE(error({{"h0", "h"}}).find("'h' is no output of the model; it has hn, logits, cn"),
            std::string::npos);
  EXPECT_NE(error({}, 5).find("of models with states"), std::string::npos);
  Graph open = StepNet(64);
  open.value(open.inputs[0]).type.shape = Shape{Dim(1), Dim::Symbol("N"), Dim::Symbol("hidden")};
  EXPECT_NE(FeedbackOf(open, kStates, 0).status().message().find("all but the batch size"),
            std::string::npos);
}

TEST(StreamTest, InputsWithoutDataAreNamed) {
  const auto session = MakeSession(StepNet(64), {}).value();
  Batch batch;
  batch.samples = Tensor(DType::f32, {1, 6});
  batch.others = {Tensor(DType::f32, {1, 6})};
  EXPECT_NE(DataTensors(*session, StepFeedback(0), batch)
                .status()
                .message()
                .find("needs data for 1 inputs, found that for 2"),
            std::string::npos);
}

}  // namespace
}  // namespace minim
