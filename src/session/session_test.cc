#include "minim/session.h"

#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "core/testing/counting_allocator.h"
#include "graph/text.h"
#include "onnx/onnx.h"
#include "session/session_impl.h"

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

TEST(SessionTest, ProfilesEachStep) {
  const auto session = Session::FromBytes(ReluBytes()).value();
  const Tensor x(DType::f32, {1, 2});
  const ConstView views[] = {x.view()};
  const auto table = session->Profile(views, 3);
  ASSERT_TRUE(table.ok()) << table.status().message();
  EXPECT_NE(table->find("GFLOP/s"), std::string::npos);
  EXPECT_NE(table->find("Relu(f32[1,2])"), std::string::npos);
  const ConstView wrong[] = {ConstView()};
  EXPECT_FALSE(session->Profile(wrong, 3).ok());
}

TEST(SessionTest, SaysWhatItHoldsAndLetsGoOfIt) {
  Graph graph = ParseText(R"(graph "g"(x: f32[N,64], w: f32[64,64]) -> (y) {
                               y: f32[N,64] = MatMul(x, w) })")
                    .value();
  graph.constants[graph.inputs[1]] = Tensor(DType::f32, {64, 64});
  graph.inputs.pop_back();
  for (float& v : graph.constants.begin()->second.as<float>()) v = 0.25f;
  const std::string bytes = SerializeOnnx(graph).value();
  const auto session = Session::FromBytes(bytes).value();
  EXPECT_EQ(session->memory().contexts, 0u);
  EXPECT_EQ(session->memory().weights, 64u * 64 * 4);
  const Dims dims[] = {{8, 64}};
  ASSERT_TRUE(session->Warm(dims).ok());
  const SessionMemory memory = session->memory();
  EXPECT_EQ(memory.weights, 0u);  // the pack stands for them
  EXPECT_GE(memory.packed, 64u * 64 * 4);
  EXPECT_EQ(memory.contexts, 1u);
  EXPECT_EQ(memory.arena, session->arena_bytes());
  EXPECT_EQ(memory.total(), memory.weights + memory.packed + memory.arena);
  session->Trim();
  EXPECT_EQ(session->memory().contexts, 0u);
  Tensor x(DType::f32, {8, 64});
  for (float& v : x.as<float>()) v = 0.5f;
  const ConstView views[] = {std::as_const(x).view()};
  const auto y = session->Run(views);
  ASSERT_TRUE(y.ok());
  EXPECT_EQ(session->memory().contexts, 1u);

  const auto portable = Session::FromBytes(bytes, {.portable_kernels = true}).value();
  const auto same = portable->Run(views);
  ASSERT_TRUE(same.ok());
  for (size_t i = 0; i < 8 * 64; ++i)
    EXPECT_NEAR((*same)[0].as<float>()[i], (*y)[0].as<float>()[i], 1e-4);
  EXPECT_NE(portable->Explain().find("portable"), std::string::npos);
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

// A convolution, a pool, a matrix product and a softmax, as a classifier has them.
constexpr char kClassifier[] = R"(graph "g"(x: f32[N,2,8,8]) -> (p) {
  const w_dims: i64[4] = [4, 2, 3, 3]
  const v_dims: i64[2] = [64, 10]
  w = ConstantOfShape(w_dims)
  v = ConstantOfShape(v_dims)
  c: f32[N,4,8,8] = Conv(x, w) {pads = [1,1,1,1]}
  r: f32[N,4,8,8] = Relu(c)
  m: f32[N,4,4,4] = MaxPool(r) {kernel_shape = [2,2], strides = [2,2]}
  f: f32[N,64] = Flatten(m)
  g: f32[N,10] = MatMul(f, v)
  p: f32[N,10] = Softmax(g)
})";

// A batch that is computed a row at a time.
constexpr const char* kImages = R"(graph "g"(x: f32[N,8,96,96]) -> (p) {
  const w_dims: i64[4] = [8, 8, 1, 1]
  w = ConstantOfShape(w_dims)
  c = Conv(x, w)
  r = Relu(c)
  p = GlobalMaxPool(r)
})";

// 10,000 runs by four callers.
void ExpectNoAllocation(const char* model, const Dims& x_dims, const Dims& y_dims) {
  constexpr int kCallers = 4;
  const auto session =
      MakeSession(ParseText(model).value(), {.threads = 2, .contexts = kCallers}).value();
  const Dims warm[] = {x_dims};
  ASSERT_TRUE(session->Warm(warm).ok());
  std::atomic<int> failed{0};
  std::barrier ready(kCallers + 1), done(kCallers + 1);
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&] {
      const Tensor x(DType::f32, x_dims);
      Tensor y(DType::f32, y_dims);
      const ConstView inputs[] = {x.view()};
      const View outputs[] = {y.view()};
      ready.arrive_and_wait();
      ready.arrive_and_wait();
      for (int i = 0; i < 2'500; ++i)
        if (!session->RunInto(inputs, outputs).ok()) ++failed;
      done.arrive_and_wait();
    });
  }
  ready.arrive_and_wait();  // the callers hold their tensors
  const int64_t before = AllocationCount();
  ready.arrive_and_wait();
  done.arrive_and_wait();
  const int64_t after = AllocationCount();
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(after, before);
}

TEST(SessionTest, WarmRunsAllocateNothing) {
  ExpectNoAllocation(kClassifier, {3, 2, 8, 8}, {3, 10});
}

TEST(SessionTest, WarmRunsInSlicesAllocateNothing) {
  const auto session = MakeSession(ParseText(kImages).value(), {.threads = 2}).value();
  const Dims warm[] = {{4, 8, 96, 96}};
  ASSERT_TRUE(session->Warm(warm).ok());
  ASSERT_NE(session->Explain().find("4 slices of the batch"), std::string::npos);
  ExpectNoAllocation(kImages, {4, 8, 96, 96}, {4, 8, 1, 1});
}

TEST(SessionTest, MissingFilesAreNamed) {
  EXPECT_EQ(Session::Load("/nonexistent.onnx").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Session::FromBytes("junk").status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace minim
