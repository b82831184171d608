// Passes on small graphs: what they change, what they leave alone, and that answers stay.
#include "passes/passes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/builder.h"
#include "ops/samples.h"
#include "passes/testing/pass_test.h"

namespace minim {
namespace {

TEST(FoldConstantsTest, FoldsArithmeticAndShapesOfStaticValues) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2,3]) -> (z) {
    const a: f32[3] = [1, 2, 3]
    b = Add(a, a)
    s = Shape(x)
    y = Reshape(x, s)
    z = Mul(y, b) })");
  EXPECT_EQ(OpsOf(Apply(FoldConstants, graph)), Ops({"Reshape", "Mul"}));
  const Graph left_alone = Parse(R"(graph "g"(x: f32[2]) -> (y) { y = Relu(x) })");
  EXPECT_EQ(OpsOf(Apply(FoldConstants, left_alone)), Ops({"Relu"}));
}

TEST(InlineBranchesTest, AConstantConditionLeavesOneBranch) {
  const auto graph_with = [](std::string_view condition) {
    return Parse(fmt::format(R"(graph "g"(x: f32[2], s: f32) -> (y) {{
      {}
      y = If(c, x) {{captures=1,
        then_branch=graph "t"(x: f32[2]) -> (a) {{ a = Neg(x) }},
        else_branch=graph "e"(x: f32[2]) -> (b) {{ const k: f32 = [2] b = Mul(x, k) }}}} }})",
                             condition));
  };
  const Graph known = graph_with("const c: bool = [0]");
  EXPECT_EQ(OpsOf(Apply(InlineBranches, known)), Ops({"Mul", "Identity"}));
  const Graph open = graph_with("c = Greater(s, s)");
  EXPECT_EQ(OpsOf(Apply(InlineBranches, open)), Ops({"Greater", "If"}));
}

TEST(EliminateDeadCodeTest, KeepsOnlyWhatOutputsNeed) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2]) -> (y) {
    const unused: f32 = [1]
    dead = Neg(x)
    y = Relu(x) })");
  const Graph after = Apply(EliminateDeadCode, graph);
  EXPECT_EQ(OpsOf(after), Ops({"Relu"}));
  EXPECT_TRUE(after.constants.empty());
}

TEST(SimplifyTest, OutputsKeepTheirNames) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2]) -> (y) {
    a = Identity(x) b = Relu(a) c = Cast(b) {to=f32} y = Identity(c) })");
  const Graph after = Apply(Simplify, graph);
  EXPECT_EQ(OpsOf(after), Ops({"Relu"}));
  EXPECT_EQ(after.value(after.outputs[0]).name, "y");
  const Graph passed = Parse(R"(graph "g"(x: f32[2]) -> (y) { y = Identity(x) })");
  EXPECT_EQ(OpsOf(Apply(Simplify, passed)), Ops({"Identity"}));
}

TEST(SimplifyTest, DropoutGoesUnlessItsMaskIsRead) {
  const Graph unread = Parse(R"(graph "g"(x: f32[4]) -> (y) {
    d: f32[4], mask: bool[4] = Dropout(x)
    y = Neg(d) })");
  EXPECT_EQ(OpsOf(Apply(Simplify, unread)), Ops({"Neg"}));
  const Graph read = Parse(R"(graph "g"(x: f32[4]) -> (d, mask) {
    d: f32[4], mask: bool[4] = Dropout(x) })");
  EXPECT_EQ(OpsOf(Apply(Simplify, read)), Ops({"Dropout"}));
}

TEST(SimplifyTest, AveragesOfWholeImagesAreGlobal) {
  const auto ops = [](const std::string& attributes) {
    return OpsOf(Apply(Simplify, Parse(fmt::format(
                                     R"(graph "g"(x: f32[2,3,4,5]) -> (y) {{
      y = AveragePool(x) {{{}}} }})",
                                     attributes))));
  };
  const Ops global = {"GlobalAveragePool"}, pool = {"AveragePool"};
  EXPECT_EQ(ops("kernel_shape=[4,5], strides=[2,3], ceil_mode=1"), global);
  EXPECT_EQ(ops("kernel_shape=[4,5], auto_pad=\"VALID\", count_include_pad=1"), global);
  EXPECT_EQ(ops("kernel_shape=[4,4]"), pool);
  EXPECT_EQ(ops("kernel_shape=[4,5], pads=[0,1,0,0]"), pool);
  EXPECT_EQ(ops("kernel_shape=[4,5], pads=[2,2,1,2], dilations=[2,2]"), pool);
}

TEST(SimplifyTest, SumsOfTwoAreAdditions) {
  const Graph graph = Parse(R"(graph "g"(x: f32[4], z: f32[1]) -> (y) {
    a = Sum(x) b = Sum(a, z) y = Sum(a, b, z) })");
  EXPECT_EQ(OpsOf(Apply(Simplify, graph)), Ops({"Add", "Sum"}));
}

TEST(FoldBatchNormTest, BecomesOneConvolution) {
  const Graph graph = Parse(R"(graph "g"(x: f32[1,1,4,4]) -> (y) {
    const w: f32[2,1,1,1] = [0.5, -2]
    const s: f32[2] = [1.5, 0.5]
    const b: f32[2] = [0.1, 0.2]
    const m: f32[2] = [0.3, -0.4]
    const v: f32[2] = [1.0, 4.0]
    c = Conv(x, w)
    y = BatchNormalization(c, s, b, m, v) })");
  EXPECT_EQ(OpsOf(Apply(FoldBatchNorm, graph, 1e-6)), Ops({"Conv"}));
}

TEST(LowerBatchNormTest, BecomesAScaleAndAShiftUnlessItLearns) {
  const std::string text = R"(graph "g"(x: f32[2,2,3,2]) -> (y) {{
    const s: f32[2] = [1.5, 0.5]
    const b: f32[2] = [0.1, 0.2]
    const m: f32[2] = [0.3, -0.4]
    const v: f32[2] = [1.0, 4.0]
    y = BatchNormalization(x, s, b, m, v) {} }})";
  const Graph graph = Parse(fmt::format(fmt::runtime(text), "{epsilon=0.5}"));
  EXPECT_EQ(OpsOf(Apply(LowerBatchNorm, graph, 1e-6)), Ops({"Mul", "Add"}));
  const Graph learns = Parse(fmt::format(fmt::runtime(text), "{training_mode=1}"));
  EXPECT_EQ(OpsOf(Apply(LowerBatchNorm, learns)), Ops({"BatchNormalization"}));
  const Graph open = Parse(R"(graph "g"(x: f32[2,2,3], s: f32[2]) -> (y) {
    y = BatchNormalization(x, s, s, s, s) })");
  Graph same = open;
  EXPECT_FALSE(*LowerBatchNorm(same, {}));
}

TEST(FoldBatchNormTest, ScalesAndShiftsOfChannelsFoldToo) {
  const Graph conv = Parse(R"(graph "g"(x: f32[1,1,4,4]) -> (y) {
    const w: f32[2,1,1,1] = [0.5, -2]
    const k: f32[2,1,1] = [1.5, 0.5]
    const a: f32[1,2,1,1] = [0.1, 0.2]
    c = Conv(x, w) m = Mul(k, c) y = Add(m, a) })");
  EXPECT_EQ(OpsOf(Apply(FoldBatchNorm, conv, 1e-6)), Ops({"Conv"}));
  const Graph norm = Parse(R"(graph "g"(x: f32[1,2,2,2]) -> (y) {
    const s: f32[2] = [1.5, 0.5]
    const b: f32[2] = [0.1, 0.2]
    const m: f32[2] = [0.3, -0.4]
    const v: f32[2] = [1.0, 4.0]
    const k: f32[2,1,1] = [1.5, 0.5]
    n = BatchNormalization(x, s, b, m, v) o = Mul(n, k) y = Add(o, k) })");
  EXPECT_EQ(OpsOf(Apply(FoldBatchNorm, norm, 1e-6)), Ops({"BatchNormalization"}));
  const Graph columns = Parse(R"(graph "g"(x: f32[1,1,4,2]) -> (y) {
    const w: f32[2,1,1,1] = [0.5, -2]
    const k: f32[2] = [1.5, 0.5]
    c = Conv(x, w) y = Mul(c, k) })");
  EXPECT_EQ(OpsOf(Apply(FoldBatchNorm, columns, 1e-6)), Ops({"Conv", "Mul"}));
}

TEST(FuseEpilogueTest, AddedValuesMoveIntoConvolutions) {
  const Graph graph = Parse(R"(graph "g"(x: f32[1,2,3,3]) -> (y) {
    const w: f32[2,2,1,1] = [0.5, -2, 1, 3]
    c = Conv(x, w) z = Neg(x) a = Add(z, c) y = Relu(a) })");
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, graph, 1e-6)), Ops({"Neg", "FusedConv"}));
  const Graph broadcast = Parse(R"(graph "g"(x: f32[1,2,3,3], z: f32[2,1,3]) -> (y) {
    const w: f32[2,2,1,1] = [0.5, -2, 1, 3]
    c = Conv(x, w) y = Add(c, z) })");
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, broadcast)), Ops({"Conv", "Add"}));
  const Graph gelu = Parse(R"(graph "g"(x: f32[1,2,3,3]) -> (y) {
    const w: f32[2,2,1,1] = [0.5, -2, 1, 3]
    c = Conv(x, w) y = Gelu(c) })");
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, gelu)), Ops({"Conv", "Gelu"}));  // products only
}

TEST(FuseEpilogueTest, BiasAndActivationMoveIn) {
  const Graph graph = Parse(R"(graph "g"(x: f32[3,2]) -> (y) {
    const w: f32[2,2] = [1, 2, 3, 4]
    const b: f32[2] = [0.5, -0.5]
    m = MatMul(x, w) a = Add(m, b) y = Relu(a) })");
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, graph, 1e-6)), Ops({"FusedGemm"}));
  const Graph shared = Parse(R"(graph "g"(x: f32[3,2]) -> (y, m) {
    const w: f32[2,2] = [1, 2, 3, 4]
    const b: f32[2] = [0.5, -0.5]
    m = MatMul(x, w) y = Add(m, b) })");
  EXPECT_EQ(OpsOf(Apply(FuseEpilogue, shared)), Ops({"MatMul", "Add"}));
}

TEST(FuseTransposeTest, ProductsReadTheirOperandsEitherWay) {
  const Graph graph = Parse(
      "graph \"g\"(a: f32[2,4,3], b: f32[2,5,4], c: f32[5,3]) -> (z) {\n"
      "p: f32[2,3,4] = Transpose(a) {perm=[0,2,1]}\n"
      "q: f32[2,4,5] = Transpose(b) {perm=[0,2,1]}\n"
      "y: f32[2,3,5] = MatMul(p, q)\n"
      "t: f32[3,5] = Transpose(c)\n"
      "n: f32[3,3] = Gemm(t, c, _)\n"
      "s: f32[3,5] = MatMul(n, t)\n"
      "z: f32[2,3,5] = Add(y, s) }");
  Graph fused = Apply(FuseTranspose, graph, 1e-6);
  fused = Apply(EliminateDeadCode, fused, 1e-6);
  EXPECT_EQ(OpsOf(fused), Ops({"FusedMatMul", "Gemm", "FusedMatMul", "Add"}));
  const auto flops = [](const Graph& g) {
    int64_t sum = 0;
    for (const Node& node : g.nodes) {
      const OpDef* def = FindOp(node.domain, node.op);
      std::vector<TensorType> inputs, outputs;
      for (ValueId id : node.inputs) inputs.push_back(id == kNoValue ? TensorType{} : g.type(id));
      for (ValueId id : node.outputs) outputs.push_back(g.type(id));
      if (def->flops) sum += def->flops(inputs, outputs, node.attributes);
    }
    return sum;
  };
  EXPECT_EQ(flops(fused), 2 * (2 * 3 * 5 * 4 + 3 * 3 * 5 + 3 * 5 * 3));
  EXPECT_EQ(flops(fused), flops(graph));
}

TEST(FuseTransposeTest, OtherPermutationsStay) {
  const Graph graph = Parse(
      "graph \"g\"(a: f32[4,2,3], b: f32[2,4,5]) -> (y) {\n"
      "p: f32[2,3,4] = Transpose(a) {perm=[1,2,0]}\n"
      "y: f32[2,3,5] = MatMul(p, b) }");
  EXPECT_EQ(OpsOf(Apply(FuseTranspose, graph)), Ops({"Transpose", "MatMul"}));
}

TEST(FuseElementwiseTest, TreesBecomeOneNodeAndSharedValuesEndThem) {
  const Graph graph = Parse(R"(graph "g"(x: f32[4], z: f32[1]) -> (y) {
    a = Relu(x) b = Mul(a, z) c = Exp(b) y = Add(c, x) })");
  EXPECT_EQ(OpsOf(Apply(FuseElementwise, graph, 1e-6)), Ops({"FusedElementwise"}));
  const Graph shared = Parse(R"(graph "g"(x: f32[4]) -> (y, w) {
    a = Relu(x) y = Exp(a) w = Neg(a) })");
  EXPECT_EQ(OpsOf(Apply(FuseElementwise, shared)), Ops({"Relu", "Exp", "Neg"}));
}

TEST(FuseElementwiseTest, WhatOnlyTheChainReadsTwiceIsAStepOfIt) {
  const Graph graph = Parse(R"(graph "g"(x: f32[4], z: f32[4]) -> (y) {
    h = Add(x, z) s = Sigmoid(h) y = Mul(h, s) })");
  EXPECT_EQ(OpsOf(Apply(FuseElementwise, graph, 1e-6)), Ops({"FusedElementwise"}));
}

TEST(FuseElementwiseTest, BytesAreStepsOfAChain) {
  const auto graph = [](const char* nodes) {
    return Parse(fmt::format(R"(graph "g"(x: u8[2,3], z: i8[2,3], f: f32[2,3]) -> (y, w) {{
      const s: f32 = [0.02]
      const t: f32[1] = [0.03]
      const a: u8 = [128]
      const b: i8[1] = [-3]
      {} }})",
                             nodes));
  };
  const Graph closed = graph(
      "d = DequantizeLinear(x, s, a) e = DequantizeLinear(z, t, b) c = Add(d, e) "
      "r = Relu(c) y = QuantizeLinear(r, s, a) w = Neg(f)");
  EXPECT_EQ(OpsOf(Apply(FuseElementwise, closed)), Ops({"FusedElementwise", "Neg"}));
  // A residual stays in float for the next sum, and goes on as bytes.
  const Graph open =
      graph("d = DequantizeLinear(x, s, a) y = Add(d, f) w = QuantizeLinear(y, t, b)");
  EXPECT_EQ(OpsOf(Apply(FuseElementwise, open)), Ops({"FusedElementwise"}));
  const Graph rows = graph(
      "const v: f32[3] = [0.1, 0.2, 0.3] d = DequantizeLinear(x, v) y = Neg(d) "
      "w = QuantizeLinear(f, v)");
  EXPECT_EQ(OpsOf(Apply(FuseElementwise, rows)),
            Ops({"DequantizeLinear", "Neg", "QuantizeLinear"}));
}

TEST(FuseEpilogueTest, DimsWithoutNamesMayDiffer) {
  const auto ops = [](const char* shape) {
    Graph graph = Parse(fmt::format(R"(graph "g"(x: f32[{0}], z: f32[{0}]) -> (y) {{
      const w: f32[2,2,1,1] = [1, 2, 3, 4]
      c = Conv(x, w) y = Add(c, z) }})",
                                    shape));
    EXPECT_TRUE(FuseEpilogue(graph, {}).ok());
    return OpsOf(graph);
  };
  EXPECT_EQ(ops("1,2,?,?"), Ops({"Conv", "Add"}));
  EXPECT_EQ(ops("N,2,3,4"), Ops({"FusedConv"}));
}

TEST(ExpandFunctionsTest, NamesakesInOtherDomainsHaveNoKernel) {
  const Graph graph = Parse(R"(graph "g"(x: f32[2,3]) -> (y) {
    const s: f32 = [0.5]
    const z: u8 = [9]
    q = com.microsoft.QuantizeLinear(x, s, z)
    y = DequantizeLinear(q, s, z) })");
  const Graph after = Apply(ExpandFunctions, graph);
  EXPECT_EQ(OpsOf(after), Ops({"QuantizeLinear", "DequantizeLinear"}));
  EXPECT_TRUE(after.nodes[0].domain.empty());
}

TEST(AutodiffTest, SumsGradientsOfSharedValues) {
  Graph graph = Parse(R"(graph "g"(x: f32[3]) -> (l) {
    a = Mul(x, x) b = Add(a, x) l = ReduceSum(b) {keepdims=0} })");
  const auto grads = Autodiff(graph, graph.outputs[0], {graph.inputs[0]});
  ASSERT_TRUE(grads.ok()) << grads.status().message();
  graph.outputs = {(*grads)[0]};
  const std::vector<float> x = {1, -2, 0.5f};
  const auto values = EvaluateGraph(graph, {Tensor::From<float>({3}, std::span<const float>(x))});
  for (int i = 0; i < 3; ++i) EXPECT_FLOAT_EQ((*values)[0].as<float>()[i], 2 * x[i] + 1);
}

TEST(AutodiffTest, OpsWithoutGradientAreNamed) {
  Graph graph =
      Parse(R"(graph "g"(x: f32[3]) -> (l) { h = Hardmax(x) l = ReduceSum(h) {keepdims=0} })");
  const auto grads = Autodiff(graph, graph.outputs[0], {graph.inputs[0]});
  EXPECT_NE(grads.status().message().find("Hardmax"), std::string::npos);
}

TEST(AutocastTest, ProductsRunLowAndTheRestStays) {
  Graph graph =
      Parse(R"(graph "g"(x: f32[2,2], w: f32[2,2]) -> (y) { m = MatMul(x, w) y = Exp(m) })");
  ASSERT_TRUE(Autocast(graph, {.precision = DType::bf16}).ok());
  EXPECT_EQ(OpsOf(graph), Ops({"Cast", "Cast", "MatMul", "Cast", "Exp"}));
  EXPECT_EQ(graph.type(graph.nodes[2].output(0)).dtype, DType::bf16);
  EXPECT_EQ(graph.type(graph.outputs[0]).dtype, DType::f32);
}

TEST(AutocastTest, ARecurrentLayerLowersItsConstantWeightsOnly) {
  Graph graph = Parse(R"(graph "g"(x: f32[2,1,3], w: f32[1,6,3], r: f32[1,6,2]) -> (y) {
    y = GRU(x, w, r) {hidden_size=2}
  })");
  for (int i : {1, 2})
    graph.constants.emplace(graph.inputs[i],
                            Tensor(DType::f32, graph.type(graph.inputs[i]).dims()));
  graph.inputs.resize(1);
  ASSERT_TRUE(Autocast(graph, {.precision = DType::bf16}).ok());
  EXPECT_EQ(OpsOf(graph), Ops({"Cast", "Cast", "Cast", "Cast", "GRU"}));
  const Node& gru = graph.nodes.back();
  EXPECT_EQ(gru.inputs[0], graph.inputs[0]);
  for (int i : {1, 2}) EXPECT_EQ(graph.type(gru.inputs[i]).dtype, DType::f32);
  EXPECT_EQ(graph.type(gru.outputs[0]).dtype, DType::f32);
}

// What follows a product stays low if all of it is; a scalar constant does not widen, a wide bias
// does.
TEST(AutocastTest, LowValuesStayLowWhereAsked) {
  const Graph chain = Parse(R"(graph "g"(x: f32[2,2], w: f32[2,2], b: f32[2]) -> (y, z) {
    const half: f32 = [0.5]
    m = MatMul(x, w) r = Relu(m) h = Mul(r, half) y = MatMul(h, w) z = Add(m, b) })");
  Graph kept = chain;
  ASSERT_TRUE(Autocast(kept, {.precision = DType::f16, .keep_low = true}).ok());
  ASSERT_TRUE(EliminateDeadCode(kept, {}).ok());
  EXPECT_EQ(OpsOf(kept), Ops({"Cast", "Cast", "MatMul", "Cast", "Relu", "Cast", "Mul", "MatMul",
                              "Cast", "Add"}));
  for (const Node& node : kept.nodes) {
    if (node.Is("Relu") || node.Is("Mul")) {
      EXPECT_EQ(kept.type(node.output(0)).dtype, DType::f16) << node.op;
    }
  }
  EXPECT_EQ(kept.type(kept.nodes.back().output(0)).dtype, DType::f32);
  Graph wide = chain;
  ASSERT_TRUE(Autocast(wide, {.precision = DType::f16}).ok());
  for (const Node& node : wide.nodes) {
    if (node.Is("Relu")) {
      EXPECT_EQ(wide.type(node.output(0)).dtype, DType::f32);
    }
  }
}

TEST(AutocastTest, UsersOverrideTheLists) {
  Graph graph = Parse(R"(graph "g"(x: f32[2,2]) -> (y) {
    m = MatMul(x, x) "first" n = MatMul(m, m) "second" y = Exp(n) })");
  ASSERT_TRUE(
      Autocast(graph, {.precision = DType::f16, .lower = {"Exp"}, .fp32 = {"second"}}).ok());
  for (const Node& node : graph.nodes) {
    if (node.Is("Cast")) continue;
    const DType expected = node.name == "second" ? DType::f32 : DType::f16;
    EXPECT_EQ(graph.type(node.output(0)).dtype, expected) << node.op << " " << node.name;
  }
}

TEST(FoldConstantsTest, VariablesStay) {
  Graph graph = Parse(R"(graph "g"() -> (a, b) {
    const w: f32[2] = [1, 2]
    const c: f32[2] = [3, 4]
    a = Neg(w) b = Neg(c) })");
  PassContext context;
  context.variables = {graph.FindValue("w")};
  ASSERT_TRUE(FoldConstants(graph, context).ok());
  EXPECT_EQ(OpsOf(graph), Ops({"Neg"}));
  EXPECT_EQ(graph.nodes[0].input(0), graph.FindValue("w"));
}

TEST(SpecializeTest, SymbolsMustAgree) {
  const Graph graph = Parse(R"(graph "g"(x: f32[N,2], y: f32[N,2]) -> (z) { z = Add(x, y) })");
  EXPECT_EQ(Specialize(graph, {{3, 2}, {3, 2}})->type(graph.outputs[0]).ToString(), "f32[3,2]");
  EXPECT_NE(Specialize(graph, {{3, 2}, {4, 2}}).status().message().find("'y'"), std::string::npos);
  EXPECT_NE(Specialize(graph, {{3, 1}, {3, 2}}).status().message().find("'x'"), std::string::npos);
}

TEST(PipelineTest, SkipsByNameAndReports) {
  Graph graph = Parse(R"(graph "g"(x: f32[2]) -> (y) { a = Identity(x) y = Relu(a) })");
  PassContext context;
  context.skip = {"simplify"};
  const auto reports = RunPipeline(kLoadPipeline, graph, context);
  ASSERT_TRUE(reports.ok());
  for (const PassReport& report : *reports)
    EXPECT_EQ(report.skipped, report.name == "simplify") << report.name;
  EXPECT_EQ(graph.nodes.size(), 2u);
}

}  // namespace
}  // namespace minim
