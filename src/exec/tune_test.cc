#include "exec/tune.h"

#include <gtest/gtest.h>

#include "core/philox.h"
#include "exec/cpu/bind.h"
#include "exec/cpu/executable.h"
#include "exec/program.h"
#include "graph/text.h"
#include "ops/infer.h"

namespace minim {
namespace {

std::string Constant(const std::string& name, const Dims& dims, uint64_t seed) {
  std::string text = fmt::format("const {}: f32{} = [", name, dims.ToString());
  const Philox random(seed);
  for (int64_t i = 0; i < dims.Elements(); ++i)
    text += fmt::format("{}{:.3f}", i ? ", " : "", random.Uniform(static_cast<uint64_t>(i)) - 0.5);
  return text + "]\n";
}

// A 3x3 convolution, which tiles and direct products compute, and a product.
Graph Net() {
  auto graph = ParseText(fmt::format(R"(graph "g"(x: f32[4,8,20,20]) -> (y) {{
    {}{}
    a = Conv(x, w) {{pads=[1,1,1,1]}} b = Relu(a)
    c = Conv(b, w) {{pads=[1,1,1,1]}} d = Relu(c)
    g = GlobalAveragePool(d) f = Flatten(g) y = Gemm(f, v) }})",
                                     Constant("w", {8, 8, 3, 3}, 1), Constant("v", {8, 5}, 2)));
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_TRUE(InferGraph(*graph).ok());
  return *std::move(graph);
}

Tensor Images() {
  Tensor x(DType::f32, {4, 8, 20, 20});
  const Philox random(3);
  for (int64_t i = 0; i < x.size(); ++i)
    x.as<float>()[i] = random.Uniform(static_cast<uint64_t>(i)) - 0.5f;
  return x;
}

Tensor Answer(const Graph& graph, std::shared_ptr<Runtime> runtime, const Tensor& x,
              std::string* explained) {
  const auto executable = Executable::Build(graph, runtime, 1);
  EXPECT_TRUE(executable.ok()) << executable.status().message();
  Tensor y(DType::f32, {4, 5});
  const void* inputs[] = {x.data()};
  void* outputs[] = {y.data()};
  ExecContext context;
  EXPECT_TRUE((*executable)->Run(context, {.inputs = inputs, .outputs = outputs}).ok());
  *explained = (*executable)->Explain();
  return y;
}

// Whatever a tuning file asks for, the answer is right and the choice is said; what no row is
// called is as if nothing had been measured.
TEST(TuneTest, EveryRowThatFitsGivesTheAnswer) {
  const Graph graph = Net();
  const Tensor x = Images();
  const auto runtime = Runtime::Default().value();
  const Runtime plain(*runtime, Tuning());
  std::string explained;
  const Tensor expected = Answer(graph, std::make_shared<Runtime>(plain), x, &explained);
  EXPECT_EQ(explained.find("as measured"), std::string::npos);
  size_t tried = 0;
  for (const Node& node : graph.nodes) {
    if (Has(FindOp(node)->traits, OpTrait::kAlias)) continue;  // nothing runs
    Runtime asked(*runtime, Tuning());
    for (const std::string_view row : RowsFor(graph, node, asked, 1)) {
      Tuning tuning;
      tuning.SetRow(StepSignature(graph, node, 1), row);
      const Tensor y = Answer(graph, std::make_shared<Runtime>(plain, tuning), x, &explained);
      EXPECT_NE(explained.find("as measured"), std::string::npos) << node.op << " " << row;
      for (int64_t i = 0; i < y.size(); ++i)
        EXPECT_NEAR(y.as<float>()[i], expected.as<float>()[i], 1e-5) << node.op << " " << row;
      ++tried;
    }
  }
  EXPECT_GT(tried, graph.nodes.size());
  Tuning unknown;
  unknown.SetRow(StepSignature(graph, graph.nodes[0], 1), "RowOfAnotherVersion");
  const Tensor y = Answer(graph, std::make_shared<Runtime>(plain, unknown), x, &explained);
  EXPECT_EQ(explained.find("as measured"), std::string::npos);
  EXPECT_EQ(y.as<float>()[0], expected.as<float>()[0]);
}

// Every step of the compiled graph is looked at, and what is found answers as before.
TEST(TuneTest, WhatIsFoundAnswersAsBefore) {
  const auto runtime = std::make_shared<Runtime>(*Runtime::Default().value(), Tuning());
  const Tensor x = Images();
  const ConstView views[] = {x.view()};
  for (const int threads : {1, 2}) {
    Program program(Net(), runtime, {.threads = threads});
    ExecContext context;
    const auto expected = program.Run(context, views);
    ASSERT_TRUE(expected.ok()) << expected.status().message();
    const auto report = program.Tune(views, 0.05);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_GE(report->found.steps(), 3u);
    EXPECT_EQ(report->found.batches(), 1u);
    EXPECT_LE(report->measured_us, report->model_us);
    EXPECT_EQ(report->text.empty(), report->measured_us == report->model_us) << report->text;
    Program tuned(Net(), std::make_shared<Runtime>(*runtime, report->found), {.threads = threads});
    const auto y = tuned.Run(context, views);
    ASSERT_TRUE(y.ok()) << y.status().message();
    for (int64_t i = 0; i < 20; ++i)
      EXPECT_NEAR((*y)[0].as<float>()[i], (*expected)[0].as<float>()[i], 1e-5);
  }
}

TEST(TuneTest, ShapesThatDependOnValuesAreNotMeasured) {
  auto graph = ParseText("graph \"g\"(x: f32[4]) -> (y) { y = NonZero(x) }").value();
  ASSERT_TRUE(InferGraph(graph).ok());
  Program program(std::move(graph), Runtime::Default().value(), {});
  const Tensor x(DType::f32, {4});
  const ConstView views[] = {x.view()};
  EXPECT_EQ(program.Tune(views, 0.01).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
