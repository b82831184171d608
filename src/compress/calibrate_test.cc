#include "compress/calibrate.h"

#include "compress/testing/models.h"

namespace minim {
namespace {

TEST(CalibrateTest, TheSameBitsForEveryBatchSplitAndThreadCount) {
  const Graph net = Prepared(SmallNet());
  const Dataset data = Noise(101);
  const ActivationProfile first = CollectProfile(net, data, {.batch = 1, .threads = 1}).value();
  EXPECT_EQ(first.samples, 101);
  for (int64_t batch : {1, 7, 50})
    for (int threads : {1, 2})
      EXPECT_EQ(CollectProfile(net, data, {.batch = batch, .threads = threads}).value(), first)
          << batch << " samples, " << threads << " threads";
}

// y is 2x, so that everything can be told by hand.
Graph Doubling(const char* batch) {
  return ParseModel(fmt::format("graph \"g\"(x: f32[{},2], i: f32[2,2], w: f32[2,3]) -> (y) {{"
                                " d = MatMul(x, i)\n y = MatMul(d, w) }}",
                                batch),
                    {Tensor::From<float>({2, 2}, {2, 0, 0, 2}), Tensor(DType::f32, {2, 3})});
}

TEST(CalibrateTest, ProfilesSayWhatWasThere) {
  Tensor x(DType::f32, {10, 2});
  for (int64_t i = 0; i < 10; ++i) {
    x.as<float>()[2 * i] = static_cast<float>(i);  // 0 to 9
    x.as<float>()[2 * i + 1] = -1;
  }
  const ActivationProfile profile = CollectProfile(Doubling("N"), DataOf(x)).value();
  ASSERT_EQ(profile.values.size(), 2u);
  const ValueProfile& d = profile.values.at("d");
  EXPECT_EQ(d.low, -2);
  EXPECT_EQ(d.high, 18);
  EXPECT_EQ(d.zeros, 1);
  EXPECT_EQ(d.counts.size(), static_cast<size_t>(kHistogramBins));
  EXPECT_EQ(d.counts.front(), 10);
  EXPECT_EQ(d.counts.back(), 1);
  int64_t total = 0;
  for (int64_t count : d.counts) total += count;
  EXPECT_EQ(total, 20);
  EXPECT_EQ(d.channel_axis, 1);
  EXPECT_EQ(d.channel_mean, (std::vector<double>{9, -2}));
  EXPECT_NEAR(d.average_low, -2, 1e-12);
  double sum = 0, weights = 0;
  for (int i = 0; i < 10; ++i) {
    const double weight = std::pow(0.99, 9 - i);
    sum += weight * (i == 0 ? 0 : 2 * i);
    weights += weight;
  }
  EXPECT_NEAR(d.average_high, sum / weights, 1e-12);
}

TEST(CalibrateTest, AModelOfAFixedBatchSizeSeesEverySample) {
  const Tensor x = NormalTensor({10, 2}, 1, 1);
  const ActivationProfile single = CollectProfile(Doubling("N"), DataOf(x)).value();
  const auto fours = CollectProfile(Doubling("4"), DataOf(x), {.batch = 3});
  ASSERT_TRUE(fours.ok()) << fours.status().message();
  EXPECT_EQ(fours->values.at("d").low, single.values.at("d").low);
  EXPECT_EQ(fours->values.at("d").high, single.values.at("d").high);
  EXPECT_EQ(*fours, CollectProfile(Doubling("4"), DataOf(x), {.batch = 50, .threads = 2}).value());
}

TEST(CalibrateTest, TooFewSamplesAreRefused) {
  const auto profile = CollectProfile(Prepared(SmallNet()), Noise(7));
  EXPECT_EQ(profile.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(profile.status().message().find("at least 8"), std::string::npos);
}

TEST(CalibrateTest, ASampleThatIsNotFiniteIsNamed) {
  for (float bad : {NAN, INFINITY}) {
    Dataset data = Noise(20);
    data.samples.as<float>()[13 * 64 + 5] = bad;
    for (int64_t batch : {4, 50}) {
      const auto profile = CollectProfile(Prepared(SmallNet()), data, {.batch = batch});
      EXPECT_EQ(profile.status().code(), StatusCode::kInvalidArgument);
      EXPECT_NE(profile.status().message().find("sample 13 "), std::string::npos)
          << profile.status().message();
    }
  }
}

TEST(CalibrateTest, AValueThatIsNotFiniteIsNamed) {
  const Graph graph = ParseModel(
      "graph \"g\"(x: f32[N,2], w: f32[2,2]) -> (y) { root = Sqrt(x)\n y = MatMul(root, w) }",
      {Tensor::From<float>({2, 2}, {1, 2, 3, 4})});
  Tensor x = UniformTensor({9, 2}, 1, 0, 1);
  x.as<float>()[11] = -1;
  for (int threads : {1, 2}) {
    const auto profile = CollectProfile(graph, DataOf(x), {.threads = threads});
    EXPECT_EQ(profile.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(profile.status().message().find("'root'"), std::string::npos);
    EXPECT_NE(profile.status().message().find("sample 5"), std::string::npos)
        << profile.status().message();
  }
}

TEST(CalibrateTest, NothingToWatchIsNoError) {
  const Graph graph = ParseModel("graph \"g\"(x: f32[N,2]) -> (y) { y = Relu(x) }");
  EXPECT_TRUE(CollectProfile(graph, DataOf(NormalTensor({9, 2}, 1, 1)))->values.empty());
}

}  // namespace
}  // namespace minim
