#include "compress/metric_command.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/file.h"
#include "core/philox.h"
#include "core/stats.h"

namespace minim {
namespace {

Tensor Noise(int64_t count) {
  Tensor tensor(DType::f32, {count});
  const Philox rng(5);
  for (int64_t i = 0; i < count; ++i) tensor.as<float>()[i] = rng.Normal(static_cast<uint64_t>(i));
  return tensor;
}

// The floats of an .npy file of rank 1, one a line.
constexpr char kFloats[] = "tail -c +129 \"$1\" | od -An -v -w4 -tf4";

std::string Script(const std::string& name, const std::string& body) {
  const Path path = Path(testing::TempDir()) / name;
  EXPECT_TRUE(WriteFileAtomic(path, body).ok());
  return "sh '" + path.string() + "'";
}

TEST(MetricCommandTest, OneNumberASampleIsAMean) {
  const Tensor scores = Noise(50);
  const auto measured = MeasureByCommand(Script("each.sh", kFloats), scores, {});
  ASSERT_TRUE(measured.ok()) << measured.status().message();
  ASSERT_EQ(measured->each.size(), 50u);
  for (int64_t i = 0; i < 50; ++i) EXPECT_NEAR(measured->each[i], scores.as<float>()[i], 1e-5);
}

TEST(MetricCommandTest, OneNumberIsMadeSureByLeavingPartsOut) {
  const Tensor scores = Noise(2000);
  const std::string mean = Script(
      "mean.sh", std::string(kFloats) + " | awk '{ s += $1 } END { printf \"%.12g\", s / NR }'");
  const auto measured = MeasureByCommand(mean, scores, Tensor(DType::i64, {2000}));
  ASSERT_TRUE(measured.ok()) << measured.status().message();
  EXPECT_EQ(measured->each.size(), 20u);
  EXPECT_EQ(measured->samples_each, 100);
  const Interval interval = PairedDifference(measured->each, std::vector<double>(20, 0));
  EXPECT_NEAR(interval.mean, measured->value, 1e-6);
  EXPECT_NEAR((interval.high - interval.mean) / 1.96, 1 / std::sqrt(2000.0), 0.01);
}

TEST(MetricCommandTest, SaysWhatWentWrong) {
  const auto error = [](const std::string& command) {
    return MeasureByCommand(command, Noise(30), {}).status().message();
  };
  EXPECT_NE(error("false").find("exit code 1"), std::string::npos);
  EXPECT_NE(error("echo good #").find("printed 'good'"), std::string::npos);
  EXPECT_NE(error("echo 1 2 #").find("printed 2 numbers"), std::string::npos);
}

}  // namespace
}  // namespace minim
