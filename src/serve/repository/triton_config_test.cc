#include "serve/repository/triton_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(TritonConfig, ReadsWhatMinimHasToo) {
  ServingConfig config;
  const Status status = ReadTritonConfig(
      R"pb(
        name: "m"
        platform: "onnxruntime_onnx"
        max_batch_size: 16 input
        [ {
          name: "x"
          data_type: TYPE_FP32
          dims: [ 2, -1 ]
        }] output
        [ {
          name: "y"
          data_type: TYPE_INT64
          dims: [ 1 ]
        }]
        version_policy { specific { versions: [ 1, 3 ] } } instance_group
        [ { count: 4 kind: KIND_CPU }]
        dynamic_batching {
          preferred_batch_size: [ 16 ]
          max_queue_delay_microseconds: 300
          default_queue_policy { max_queue_size: 77 default_timeout_microseconds: 5000 }
        }
        response_cache { enable: false }
      )pb",
      "m", config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(config.warnings.empty()) << config.warnings[0];
  EXPECT_THAT(config.versions.numbers, ElementsAre(1, 3));
  EXPECT_EQ(config.policy, "time-window");
  EXPECT_EQ(config.bounds.window, microseconds(300));
  EXPECT_EQ(config.bounds.max_batch, 16);
  EXPECT_EQ(config.instances, 4);
  EXPECT_EQ(config.max_queue_rows, 77);
  EXPECT_EQ(config.default_timeout, microseconds(5000));
  EXPECT_FALSE(config.cache);
  EXPECT_EQ(config.inputs.at(0).datatype, "FP32");
  EXPECT_THAT(config.inputs.at(0).dims, ElementsAre(2, -1));
}

TEST(TritonConfig, NamesWhatItDoesNotObey) {
  ServingConfig config;
  ASSERT_TRUE(ReadTritonConfig(R"pb(
                                 backend: "tensorrt"
                                 max_batch_size: 8
                                 sequence_batching { max_sequence_idle_microseconds: 5 }
                                 optimization { graph { level: 1 } }
                                 instance_group {
                                   kind: KIND_GPU
                                   gpus: [ 0 ]
                                 }
                                 parameters {
                                   key: "k"
                                   value: { string_value: "v" }
                                 }
                               )pb",
                               "m", config)
                  .ok());
  std::string all;
  for (const std::string& warning : config.warnings) all += warning + "\n";
  for (const char* name :
       {"sequence_batching", "optimization", "gpus", "tensorrt", "KIND_GPU", "'k'"})
    EXPECT_THAT(all, HasSubstr(name));
}

TEST(TritonConfig, BrokenTextIsOneLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"max_batch_size: x", "line 1:17"},
      {"name: \"other\"", "'other'"},
      {"max_batch_size: -1", "found -1"},
      {"max_batch_size: 4 instance_group { count: 1000 }", "found 1000"},
      {"input { name: \"x\"", "expected Triton's"},
      {"max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 99999999 }", "a minute"},
  };
  for (const auto& [text, part] : cases) {
    ServingConfig config;
    const Status status = ReadTritonConfig(text, "m", config);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  ServingConfig config;
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "a{";
  EXPECT_FALSE(ReadTritonConfig(deep, "m", config).ok());
}

TEST(TritonConfig, DeclaredTensorsMustBeTheModels) {
  const std::vector<TensorInfo> infos = {{"x", DType::f32, {-1, 2, -1}, {"N", "", "T"}}};
  EXPECT_TRUE(CheckDeclared({{"x", "FP32", {2, -1}}}, infos, true).ok());
  EXPECT_TRUE(CheckDeclared({{"x", "", {2, 7}}}, infos, true).ok());
  EXPECT_TRUE(CheckDeclared({{"x", "FP32", {-1, 2, 7}}}, infos, false).ok());
  EXPECT_FALSE(CheckDeclared({{"z", "FP32", {2, -1}}}, infos, true).ok());
  EXPECT_FALSE(CheckDeclared({{"x", "INT8", {2, -1}}}, infos, true).ok());
  EXPECT_FALSE(CheckDeclared({{"x", "FP32", {3, -1}}}, infos, true).ok());
  EXPECT_FALSE(CheckDeclared({{"x", "FP32", {2}}}, infos, true).ok());
}

}  // namespace
}  // namespace minim::serve
