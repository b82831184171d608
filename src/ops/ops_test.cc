// Generated tests: every sample of every op is parsed, inferred and evaluated; gradients are
// checked against central differences in f64.
#include <gtest/gtest.h>

#include <cmath>

#include "core/dtype.h"
#include "core/philox.h"
#include "graph/text.h"
#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"
#include "ops/samples.h"

namespace minim {
namespace {

class OpTest : public testing::TestWithParam<const OpDef*> {};

TEST_P(OpTest, HasSamplesAndOneDefinition) {
  const OpDef& op = *GetParam();
  // Samples are tensors; what only the host evaluates has its tests in host_ops_test.cc.
  EXPECT_NE(SampleLines(op).empty(), op.reference || op.expand);
  EXPECT_FALSE(op.reference && op.expand);
  EXPECT_TRUE(op.reference || op.expand || op.host);
  EXPECT_TRUE(static_cast<bool>(op.infer));
}

TEST_P(OpTest, ReferenceMatchesInference) {
  for (const std::string& line : SampleLines(*GetParam())) {
    const auto sample = ParseSample(*GetParam(), line, 1);
    ASSERT_TRUE(sample.ok()) << sample.status().message();
    const auto outputs = EvaluateGraph(sample->graph, sample->inputs);
    ASSERT_TRUE(outputs.ok()) << line << ": " << outputs.status().message();
    for (size_t i = 0; i < outputs->size(); ++i) {
      const TensorType& type = sample->graph.type(sample->graph.outputs[i]);
      EXPECT_EQ((*outputs)[i].dtype(), type.dtype) << line;
      if (!type.Static()) continue;
      EXPECT_EQ((*outputs)[i].dims(), type.dims()) << line;
    }
  }
}

// What is left to decide may be an error, never a crash; what is computed fits the inferred type.
TEST_P(OpTest, TensorsWithoutElements) {
  for (const std::string& line : SampleLines(*GetParam())) {
    const auto sample = ParseSample(*GetParam(), line, 1);
    ASSERT_TRUE(sample.ok()) << sample.status().message();
    for (const Sample& variant : EmptyVariants(*sample)) {
      const auto outputs = EvaluateGraph(variant.graph, variant.inputs);
      if (!outputs.ok()) {
        EXPECT_NE(outputs.status().code(), StatusCode::kInternal) << variant.text;
        continue;
      }
      for (size_t i = 0; i < outputs->size(); ++i) {
        const TensorType& type = variant.graph.type(variant.graph.outputs[i]);
        EXPECT_EQ((*outputs)[i].dtype(), type.dtype) << variant.text;
        if (!type.Static()) continue;
        EXPECT_EQ((*outputs)[i].dims(), type.dims()) << variant.text;
      }
    }
  }
}

// Where inference lets a small type through, the reference must cope with it.
TEST_P(OpTest, SmallTypesAreRefusedOrComputed) {
  for (const std::string& line : SampleLines(*GetParam())) {
    const auto sample = ParseSample(*GetParam(), line, 1);
    ASSERT_TRUE(sample.ok()) << sample.status().message();
    for (const Sample& variant : SmallVariants(*sample)) {
      const auto outputs = EvaluateGraph(variant.graph, variant.inputs);
      if (outputs.ok()) continue;
      EXPECT_NE(outputs.status().code(), StatusCode::kInternal) << variant.text;
    }
  }
}

// The gradient of sum(output * cotangent) for a sample in f64, by the op's rule.
struct Checked {
  Graph graph;  // outputs: one gradient per differentiable input
  std::vector<int> inputs;
};

Result<Checked> GradientGraph(const OpDef& op, const Sample& sample,
                              const std::vector<Tensor>& cotangents) {
  Checked checked{.graph = sample.graph};
  Graph& graph = checked.graph;
  const Node node = graph.nodes[0];
  std::vector<ValueId> grads(node.outputs.size(), kNoValue);
  size_t next = 0;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    const Tensor& cotangent = cotangents[next++];
    if (cotangent.dtype() == DType::f64) grads[i] = graph.AddConstant("", cotangent);
  }
  GradContext context(graph, node, grads);
  MINIM_TRY(op.gradient(context));
  if (!context.status().ok()) return Internal("{}", context.status().message());
  graph.outputs.clear();
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] != graph.inputs[i] || context.input_grads()[k] == kNoValue) continue;
      graph.outputs.push_back(context.input_grads()[k]);
      checked.inputs.push_back(static_cast<int>(i));
    }
  }
  return checked;
}

double WeightedSum(const std::vector<Tensor>& outputs, const std::vector<Tensor>& weights) {
  double sum = 0;
  for (size_t o = 0; o < outputs.size(); ++o) {
    if (outputs[o].dtype() != DType::f64) continue;
    for (int64_t i = 0; i < outputs[o].size(); ++i)
      sum += outputs[o].as<double>()[i] * weights[o].as<double>()[i];
  }
  return sum;
}

// Zero for the outputs that carry no gradient.
std::vector<Tensor> RandomLike(const std::vector<Tensor>& outputs, int differentiable) {
  std::vector<Tensor> weights;
  uint64_t drawn = 0;
  for (const Tensor& output : outputs) {
    weights.push_back(output.Clone());
    if (output.dtype() != DType::f64) continue;
    const bool flows = differentiable < 0 || static_cast<int>(weights.size()) <= differentiable;
    for (double& w : weights.back().as<double>())
      w = flows ? Philox(7).Uniform(drawn++) * 2 - 1 : 0;
  }
  return weights;
}

void CheckInput(const Sample& sample, int input, const Tensor& gradient,
                const std::vector<Tensor>& weights) {
  const int64_t count = sample.inputs[input].size();
  ASSERT_EQ(gradient.dims(), sample.inputs[input].dims()) << sample.text;
  const int64_t stride = std::max<int64_t>(1, count / 40);  // at most 40 places an input
  for (int64_t i = 0; i < count; i += stride) {
    const double step = 1e-5;
    double sums[2];
    for (int side = 0; side < 2; ++side) {
      std::vector<Tensor> inputs = sample.inputs;
      inputs[input] = inputs[input].Clone();
      inputs[input].as<double>()[i] += side ? -step : step;
      sums[side] = WeightedSum(EvaluateGraph(sample.graph, inputs).value(), weights);
    }
    const double numeric = (sums[0] - sums[1]) / (2 * step);
    const double analytic = gradient.as<double>()[i];
    ASSERT_NEAR(analytic, numeric, 1e-6 * std::max(1.0, std::fabs(numeric)))
        << sample.text << " input " << input << " element " << i;
  }
}

TEST_P(OpTest, GradientMatchesFiniteDifferences) {
  const OpDef& op = *GetParam();
  if (!op.gradient) GTEST_SKIP() << "not differentiable";
  if (op.surrogate_gradient) GTEST_SKIP() << "differs from finite differences by design";
  int checked_inputs = 0;
  for (const std::string& line : SampleLines(op)) {
    const auto sample = ParseSample(op, line, 3, /*widen=*/true);
    ASSERT_TRUE(sample.ok()) << sample.status().message();
    if (sample->inputs.empty() || sample->graph.type(sample->graph.outputs[0]).dtype != DType::f64)
      continue;
    const auto outputs = EvaluateGraph(sample->graph, sample->inputs);
    ASSERT_TRUE(outputs.ok()) << outputs.status().message();
    const std::vector<Tensor> weights = RandomLike(*outputs, op.differentiable_outputs);
    const auto checked = GradientGraph(op, *sample, weights);
    // A rule may refuse rare forms; some sample must still be checked.
    if (checked.status().code() == StatusCode::kUnsupported) continue;
    ASSERT_TRUE(checked.ok()) << line << ": " << checked.status().message();
    const auto gradients = EvaluateGraph(checked->graph, sample->inputs);
    ASSERT_TRUE(gradients.ok()) << line << ": " << gradients.status().message();
    for (size_t i = 0; i < checked->inputs.size(); ++i, ++checked_inputs)
      CheckInput(*sample, checked->inputs[i], (*gradients)[i], weights);
  }
  EXPECT_GT(checked_inputs, 0) << "no sample has a differentiable input";
}

INSTANTIATE_TEST_SUITE_P(All, OpTest, testing::ValuesIn(AllOps()), [](const auto& info) {
  std::string name = info.param->domain + "_" + info.param->name;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

// The one node of `text`, written for an older opset version, lifted to the newest and run.
Result<std::vector<Tensor>> RunLifted(std::string_view text, int version,
                                      const std::vector<Tensor>& inputs) {
  MINIM_TRY(Graph graph, ParseText(text));
  UpgradeContext lift{.graph = graph, .node = graph.nodes[0], .from_version = version};
  MINIM_TRY(FindOp(lift.node)->upgrade(lift));
  graph.nodes = {lift.node};
  MINIM_TRY(InferGraph(graph));
  return EvaluateGraph(graph, inputs);
}

void ExpectLifted(std::string_view text, int version, const Tensor& input,
                  const std::vector<float>& expected) {
  const auto outputs = RunLifted(text, version, {input});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  const auto y = (*outputs)[0].as<float>();
  ASSERT_EQ(y.size(), expected.size()) << text;
  for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-5) << text << " " << i;
}

TEST(UpgradeTest, ResizeOfOpset10TookTheCeilingWhereItShrank) {
  const Tensor x = Tensor::From<float>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  ExpectLifted(R"(graph "g"(x: f32[2,4]) -> (y) {
    const s: f32[2] = [0.6, 0.6] y = Resize(x, s) {mode="nearest"} })",
               10, x, {1, 3});
  ExpectLifted(R"(graph "g"(x: f32[2,4]) -> (y) {
    const s: f32[2] = [0.6, 0.6] y = Resize(x, s) {mode="linear"} })",
               10, x, {1, 2.6666665f});
  ExpectLifted(R"(graph "g"(x: f32[2,4]) -> (y) {
    const s: f32[2] = [1, 1.5] y = Resize(x, s) })",
               10, x, {1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8});
  ExpectLifted(R"(graph "g"(x: f32[2,4]) -> (y) {
    const s: f32[2] = [1.5, 0.6] y = Resize(x, s) })",
               10, x, {1, 3, 1, 3, 5, 7});
}

TEST(UpgradeTest, UpsampleBecomesResize) {
  const Tensor x = Tensor::From<float>({1, 3}, {1, 2, 3});
  ExpectLifted(R"(graph "g"(x: f32[1,3]) -> (y) {
    y = Upsample(x) {scales=[1.0,2.0]} })",
               7, x, {1, 1, 2, 2, 3, 3});
  ExpectLifted(R"(graph "g"(x: f32[1,3]) -> (y) {
    const s: f32[2] = [1, 2] y = Upsample(x, s) {mode="linear"} })",
               9, x, {1, 1.5f, 2, 2.5f, 3, 3});
}

TEST(UpgradeTest, OlderDefaultsAreWrittenOut) {
  const Tensor image = Tensor::From<float>({1, 1, 2, 2}, {1, 2, 3, 4});
  ExpectLifted(R"(graph "g"(x: f32[1,1,2,2]) -> (y) {
    const g: f32[1,1,1,2] = [0, 0] y = GridSample(x, g) })",
               16, image, {2.5f});
  ExpectLifted(R"(graph "g"(x: f32[1,1,2,2]) -> (y) {
    const r: f32[1,4] = [0, 0, 1, 1] const i: i64[1] = [0] y = RoiAlign(x, r, i) })",
               10, image, {2.5f});
  ExpectLifted(R"(graph "g"(x: f32[1,2,2,1]) -> (y) { y = DFT(x) })", 17,
               Tensor::From<float>({1, 2, 2, 1}, {1, 2, 3, 4}), {4, 0, 6, 0, -2, 0, -2, 0});
}

// Places that are computed from values must stay inside whatever the values are.
TEST(HostileValuesTest, ReadAndWriteInside) {
  for (const char* text :
       {R"(graph "g"(v: f32[1,5]) -> (y) { const x: f32[1,1,2,2] = [1, 2, 3, 4]
             y = MaxRoiPool(x, v) {pooled_shape=[2,2]} })",
        R"(graph "g"(v: f32[1,4]) -> (y) { const x: f32[1,1,2,2] = [1, 2, 3, 4]
             const i: i64[1] = [0] y = RoiAlign(x, v, i) {output_height=2} })",
        R"(graph "g"(v: f32[1,1,2,2]) -> (y) { const x: f32[1,1,2,2] = [1, 2, 3, 4]
             y = GridSample(x, v) {mode="cubic", padding_mode="reflection"} })",
        R"(graph "g"(v: f32[1,1,2,2]) -> (y) { const x: f32[1,1,2,2] = [1, 2, 3, 4]
             y = GridSample(x, v) {mode="nearest", padding_mode="border"} })",
        R"(graph "g"(v: f32[1,2,1,1]) -> (y) { const x: f32[1,1,1,1] = [1]
             const w: f32[1,1,1,1] = [1] y = DeformConv(x, w, v) })",
        R"(graph "g"(v: f32) -> (y) { const b: i64 = [4] const n: i64 = [8] const r: i64 = [100]
             const l: f32 = [0] y = MelWeightMatrix(b, n, r, l, v) })"}) {
    const auto graph = ParseText(text);
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    for (float value : {NAN, INFINITY, -INFINITY, 1e30f, -1e30f}) {
      Tensor v(DType::f32, graph->type(graph->inputs[0]).dims());
      for (float& element : v.as<float>()) element = value;
      if (graph->nodes[0].op == "MaxRoiPool") v.as<float>()[0] = 0;  // the image
      Graph inferred = *graph;
      ASSERT_TRUE(InferGraph(inferred).ok()) << text;
      (void)EvaluateGraph(inferred, {v});  // an answer or an error
    }
  }
}

}  // namespace
}  // namespace minim
