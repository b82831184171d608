#include "serve/session_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "graph/text.h"
#include "onnx/onnx.h"
#include "serve/batching/batcher.h"

namespace minim::serve {
namespace {

TEST(SessionModelTest, AnOnnxFileBehindTheBatcher) {
  const Path path =
      Path(testing::TempDir()) / ("minim_model_" + std::to_string(::getpid()) + ".onnx");
  const auto graph = ParseText(R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Add(x, x) })");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_TRUE(ExportOnnx(*graph, path).ok());
  for (const bool bf16 : {false, true}) {
    const auto model = LoadSessionModel({"tier", path, bf16});
    ASSERT_TRUE(model.ok()) << model.status().message();
    EXPECT_TRUE(IsBatchable(**model));
    Batcher batcher(*model, {});
    ASSERT_TRUE(batcher.Warm().ok());
    const Tensor x = Tensor::From<float>({3, 2}, {1, 2, 3, 4, 5, 6});
    const auto outputs = (*model)->Run(std::vector<ConstView>{x.view()});
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    EXPECT_EQ((*outputs)[0].as<float>()[5], 12);
  }
  std::filesystem::remove(path);
  EXPECT_EQ(LoadSessionModel({"tier", path}).status().code(), StatusCode::kNotFound);
}

TEST(SessionModelTest, StringsGoThroughTheBatcher) {
  const Path path =
      Path(testing::TempDir()) / ("minim_strings_" + std::to_string(::getpid()) + ".onnx");
  const auto graph = ParseText(
      R"(graph "g"(x: string[N,2], n: f32[N]) -> (y, m) { y = Identity(x) m = Add(n, n) })");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  ASSERT_TRUE(ExportOnnx(*graph, path).ok());
  const auto model = LoadSessionModel({"tier", path});
  std::filesystem::remove(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_TRUE(IsBatchable(**model));
  Batcher batcher(*model, {});
  ASSERT_TRUE(batcher.Warm().ok());
  std::promise<BatchResult> promise;
  BatchJob job{.inputs = {Tensor::From<std::string>({1, 2}, {"a", std::string(99, 'b')}),
                          Tensor::From<float>({1}, {3})}};
  job.done = [&](BatchResult result) { promise.set_value(std::move(result)); };
  ASSERT_TRUE(batcher.Submit(std::move(job)).ok());
  const BatchResult result = promise.get_future().get();
  ASSERT_TRUE(result.outputs.ok()) << result.outputs.status().message();
  EXPECT_EQ((*result.outputs)[0].as<std::string>()[1], std::string(99, 'b'));
  EXPECT_EQ((*result.outputs)[1].as<float>()[0], 6);
}

TEST(SessionModelTest, TypesThatTheProtocolCannotCarryAreRefused) {
  const Path path =
      Path(testing::TempDir()) / ("minim_small_" + std::to_string(::getpid()) + ".onnx");
  for (const std::string type : {"u4[N]", "seq(f32[N])"}) {
    const auto graph =
        ParseText(fmt::format(R"(graph "g"(x: {0}) -> (y) {{ y: {0} = Identity(x) }})", type));
    ASSERT_TRUE(ExportOnnx(*graph, path).ok());
    const Status status = LoadSessionModel({"tier", path}).status();
    std::filesystem::remove(path);
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    EXPECT_NE(status.message().find("'x' is " + type.substr(0, 2)), std::string::npos)
        << status.message();
  }
}

}  // namespace
}  // namespace minim::serve
