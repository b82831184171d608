#include "exec/program.h"

#include <gtest/gtest.h>

#include "graph/text.h"

namespace minim {
namespace {

std::unique_ptr<Program> ProgramOf(std::string_view text) {
  auto graph = ParseText(text);
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  return std::make_unique<Program>(*std::move(graph), Runtime::Default().value(), ProgramOptions{});
}

TEST(ProgramTest, CompilesABindingPerShape) {
  auto program = ProgramOf(R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Relu(x) })");
  ExecContext context;
  for (int64_t n : {1, 3, 1}) {
    Tensor x(DType::f32, {n, 2});
    x.as<float>()[0] = -1;
    x.as<float>()[1] = 2;
    const ConstView views[] = {x.view()};
    const auto y = program->Run(context, views);
    ASSERT_TRUE(y.ok()) << y.status().message();
    EXPECT_EQ((*y)[0].dims(), Dims({n, 2}));
    EXPECT_EQ((*y)[0].as<float>()[0], 0);
    EXPECT_EQ((*y)[0].as<float>()[1], 2);
  }
}

TEST(ProgramTest, WrongInputsAreNamed) {
  auto program = ProgramOf(R"(graph "g"(x: f32[N,2]) -> (y) { y: f32[N,2] = Relu(x) })");
  ExecContext context;
  const Tensor wrong(DType::f32, {1, 3}), ints(DType::i64, {1, 2});
  const ConstView wrong_views[] = {wrong.view()}, int_views[] = {ints.view()};
  EXPECT_NE(program->Run(context, wrong_views).status().message().find("'x'"), std::string::npos);
  EXPECT_NE(program->Run(context, int_views).status().message().find("expected f32"),
            std::string::npos);
  EXPECT_FALSE(program->Run(context, {}).ok());
}

}  // namespace
}  // namespace minim
