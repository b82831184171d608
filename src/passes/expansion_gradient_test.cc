// Ops that are given by expansion have the gradients of what they expand to: checked against
// central differences in f64 on their samples.
#include <gtest/gtest.h>

#include <cmath>

#include "core/philox.h"
#include "ops/builder.h"
#include "ops/infer.h"
#include "ops/reference.h"
#include "ops/samples.h"
#include "passes/passes.h"

namespace minim {
namespace {

std::vector<const OpDef*> ExpandedOps() {
  std::vector<const OpDef*> ops;
  for (const OpDef* op : AllOps())
    if (op->expand && !op->gradient) ops.push_back(op);
  return ops;
}

class ExpansionTest : public testing::TestWithParam<const OpDef*> {};

// The sample in simpler ops alone.
Result<Graph> Expanded(const Sample& sample) {
  Graph graph = sample.graph;
  const PassContext context{.has_kernel = [](std::string_view) { return false; }};
  for (int round = 0; round < 3; ++round) {
    MINIM_TRY(const bool changed, ExpandFunctions(graph, context));
    if (!changed) break;
    MINIM_TRY(InferGraph(graph));
  }
  return graph;
}

// Adds the sum of the f64 outputs, each element with a weight of its own.
ValueId AddLoss(Graph& graph) {
  Builder b(graph);
  const Philox rng(7);
  uint64_t drawn = 0;
  ValueId loss = kNoValue;
  for (ValueId id : std::vector<ValueId>(graph.outputs)) {
    if (graph.type(id).dtype != DType::f64) continue;
    Tensor weights(DType::f64, graph.type(id).dims());
    for (double& w : weights.as<double>()) w = rng.Uniform(drawn++) * 2 - 1;
    const ValueId product = b.Mul(id, b.Constant(std::move(weights)));
    const ValueId sum = b.Emit("ReduceSum", {product}, {{"keepdims", int64_t{0}}});
    loss = loss == kNoValue ? sum : b.Add(loss, sum);
  }
  EXPECT_TRUE(b.status().ok()) << b.status().message();
  return loss;
}

double LossAt(const Graph& graph, const std::vector<Tensor>& inputs) {
  return EvaluateGraph(graph, inputs).value()[0].as<double>()[0];
}

void CheckInput(const std::string& text, const Graph& loss, const std::vector<Tensor>& inputs,
                size_t input, const Tensor& gradient) {
  const int64_t count = gradient.size(), stride = std::max<int64_t>(1, count / 10);
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < count; i += stride) {
    double sums[2];
    for (int side = 0; side < 2; ++side) {
      std::vector<Tensor> moved = inputs;
      moved[input] = inputs[input].Clone();
      moved[input].as<double>()[i] += side ? -kStep : kStep;
      sums[side] = LossAt(loss, moved);
    }
    const double numeric = (sums[0] - sums[1]) / (2 * kStep);
    ASSERT_NEAR(gradient.as<double>()[i], numeric, 1e-6 * std::max(1.0, std::fabs(numeric)))
        << text << " input " << input << " element " << i;
  }
}

// The number of inputs checked.
int CheckSample(const Sample& sample) {
  auto graph = Expanded(sample);
  EXPECT_TRUE(graph.ok()) << sample.text << ": " << graph.status().message();
  std::vector<ValueId> wrt;
  std::vector<size_t> places;
  for (size_t i = 0; graph.ok() && i < graph->inputs.size(); ++i) {
    if (graph->type(graph->inputs[i]).dtype != DType::f64) continue;
    wrt.push_back(graph->inputs[i]);
    places.push_back(i);
  }
  if (wrt.empty()) return 0;
  const ValueId loss = AddLoss(*graph);
  if (loss == kNoValue) return 0;
  graph->outputs = {loss};
  Graph reverse = *graph;
  const auto gradients = Autodiff(reverse, loss, wrt);
  if (gradients.status().code() == StatusCode::kUnsupported) return 0;  // quantized, say
  EXPECT_TRUE(gradients.ok()) << sample.text << ": " << gradients.status().message();
  reverse.outputs.resize(wrt.size());
  Builder builder(reverse);
  for (size_t i = 0; gradients.ok() && i < wrt.size(); ++i) {
    const ValueId gradient = (*gradients)[i];
    reverse.outputs[i] = gradient == kNoValue ? builder.ZerosLike(wrt[i]) : gradient;
  }
  const auto values = EvaluateGraph(reverse, sample.inputs);
  EXPECT_TRUE(values.ok()) << sample.text << ": " << values.status().message();
  for (size_t k = 0; values.ok() && k < places.size(); ++k)
    CheckInput(sample.text, *graph, sample.inputs, places[k], (*values)[k]);
  return static_cast<int>(places.size());
}

TEST_P(ExpansionTest, GradientMatchesFiniteDifferences) {
  int checked = 0;
  for (const std::string& line : SampleLines(*GetParam())) {
    const auto sample = ParseSample(*GetParam(), line, 3, /*widen=*/true);
    if (sample.ok()) checked += CheckSample(*sample);  // some take no f64
  }
  if (checked == 0) GTEST_SKIP() << "not differentiable";
}

INSTANTIATE_TEST_SUITE_P(All, ExpansionTest, testing::ValuesIn(ExpandedOps()),
                         [](const auto& info) {
                           std::string name = info.param->domain + "_" + info.param->name;
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace minim
