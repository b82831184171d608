#include "minim/session.h"

#include <gtest/gtest.h>

#include <thread>

#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

std::string ReluBytes() {
  const Graph graph =
      ParseText(R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Relu(x) })").value();
  return SerializeOnnx(graph).value();
}

TEST(SessionTest, LoadsDescribesAndRuns) {
  const auto session = Session::FromBytes(ReluBytes());
  ASSERT_TRUE(session.ok()) << session.status().message();
  EXPECT_EQ((*session)->inputs()[0].dims, (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ((*session)->inputs()[0].symbols[0], "N");
  const Tensor x = Tensor::From<float>({1, 2}, {-3, 4});
  const ConstView views[] = {x.view()};
  const auto y = (*session)->Run(views);
  ASSERT_TRUE(y.ok()) << y.status().message();
  EXPECT_EQ((*y)[0].as<float>()[0], 0);
  EXPECT_EQ((*y)[0].as<float>()[1], 4);
  EXPECT_NE((*session)->Explain().find("Relu"), std::string::npos);
}

TEST(SessionTest, ConcurrentCallersAgree) {
  const auto session = Session::FromBytes(ReluBytes()).value();
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&, c] {
      for (int i = 0; i < 200; ++i) {
        Tensor x(DType::f32, {1 + i % 3, 2});
        x.as<float>()[1] = static_cast<float>(c);
        const ConstView views[] = {static_cast<const Tensor&>(x).view()};
        const auto y = session->Run(views);
        if (!y.ok() || (*y)[0].as<float>()[1] != static_cast<float>(c)) ++wrong;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(SessionTest, MissingFilesAreNamed) {
  EXPECT_EQ(Session::Load("/nonexistent.onnx").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Session::FromBytes("junk").status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace minim
