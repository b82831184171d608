#include "exec/program.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/text.h"
#include "passes/passes.h"

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

// The product is one of rows of a matrix, whatever the dims that the file leaves open.
TEST(ProgramTest, ProductsOfOpenDims) {
  for (const char* dims : {"N,T", "N,2", "3,T"}) {
    auto graph = ParseText(fmt::format(R"(graph "g"(x: f32[{0},2]) -> (y) {{
      const w: f32[2,3] = [1, 2, 3, 4, 5, 6]
      const b: f32[3] = [0.5, -0.5, 100]
      m: f32[{0},3] = MatMul(x, w) a: f32[{0},3] = Add(m, b) y: f32[{0},3] = Relu(a) }})",
                                       dims));
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    ASSERT_TRUE(RunPipeline(kLoadPipeline, *graph, {}).ok());
    EXPECT_TRUE(std::any_of(graph->nodes.begin(), graph->nodes.end(),
                            [](const Node& node) { return node.op == "FusedGemm"; }));
    Program program(*std::move(graph), Runtime::Default().value(), ProgramOptions{});
    ExecContext context;
    for (const Dims& x_dims : {Dims{3, 2, 2}, Dims{0, 2, 2}, Dims{3, 0, 2}, Dims{5, 4, 2}}) {
      const bool fits = (dims[0] == 'N' || x_dims[0] == 3) && (dims[2] == 'T' || x_dims[1] == 2);
      if (!fits) continue;
      Tensor x(DType::f32, x_dims);
      for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = static_cast<float>(i % 7 - 3);
      const ConstView views[] = {x.view()};
      const auto y = program.Run(context, views);
      ASSERT_TRUE(y.ok()) << y.status().message();
      ASSERT_EQ((*y)[0].dims(), Dims({x_dims[0], x_dims[1], 3}));
      for (int64_t i = 0; i < x.size(); i += 2) {
        const float first = x.as<float>()[i], second = x.as<float>()[i + 1];
        const float* row = (*y)[0].as<float>().data() + i / 2 * 3;
        EXPECT_EQ(row[0], std::max(0.0f, first + 4 * second + 0.5f));
        EXPECT_EQ(row[1], std::max(0.0f, 2 * first + 5 * second - 0.5f));
        EXPECT_EQ(row[2], std::max(0.0f, 3 * first + 6 * second + 100));
      }
    }
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
  EXPECT_FALSE(program->Run(context, std::span<const ConstView>()).ok());
}

// Compiled as a caller would, with and without the pass: the same bytes.
std::vector<Tensor> WithAndWithout(const char* pass, const std::string& text, const Tensor& x) {
  std::vector<Tensor> answers;
  for (const char* skip : {"", pass}) {
    ProgramOptions options;
    options.skip_passes = {skip};
    Program program(ParseText(text).value(), Runtime::Default().value(), options);
    ExecContext context;
    const ConstView views[] = {x.view()};
    auto y = program.Run(context, views);
    EXPECT_TRUE(y.ok()) << y.status().message();
    answers.push_back(std::move((*y)[0]));
  }
  return answers;
}

TEST(ProgramTest, LayoutsChangeNoAnswer) {
  std::string weights;
  for (int i = 0; i < 96 * 96 * 9; ++i)
    weights += fmt::format("{}{}", i ? "," : "", i * 7 % 23 - 11);
  const std::string text = fmt::format(R"(graph "g"(x: u8[2,96,9,7]) -> (y) {{
    const s: f32 = [0.02]
    const t: f32 = [0.5]
    const z: u8 = [120]
    const none: i8 = [0]
    const w: i8[96,96,3,3] = [{}]
    a = QLinearConv(x, s, z, w, s, none, t, z) {{pads=[1,1,1,1]}}
    b = MaxPool(a) {{kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}}
    c = QLinearConv(b, t, z, w, s, none, t, z) {{pads=[1,1,1,1]}}
    d = Concat(b, c) {{axis=1}}
    y = Flatten(d) }})",
                                       weights);
  Tensor x(DType::u8, {2, 96, 9, 7});
  for (int64_t i = 0; i < x.size(); ++i) x.as<uint8_t>()[i] = static_cast<uint8_t>(i * 37 % 251);
  const std::vector<Tensor> answers = WithAndWithout("assign-layouts", text, x);
  const auto a = answers[0].as<uint8_t>(), b = answers[1].as<uint8_t>();
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  EXPECT_NE(*std::min_element(a.begin(), a.end()), *std::max_element(a.begin(), a.end()));
}

TEST(ProgramTest, ShortcutsOfQuantizedConvolutionsAreTheSameBytes) {
  std::string weights;
  for (int i = 0; i < 96 * 96; ++i) weights += fmt::format("{}{}", i ? "," : "", i * 7 % 23 - 11);
  const std::string text = fmt::format(R"(graph "g"(x: u8[2,96,9,7]) -> (y) {{
    const s: f32 = [0.02]
    const t: f32 = [0.5]
    const u: f32 = [0.37]
    const z: u8 = [120]
    const v: u8 = [3]
    const none: i8 = [0]
    const w: i8[96,96,1,1] = [{}]
    a = QLinearConv(x, s, z, w, s, none, t, z)
    b = QLinearConv(a, t, z, w, s, none, s, v)
    c = DequantizeLinear(a, t, z)
    d = DequantizeLinear(b, s, v)
    e = Add(d, c)
    f = Relu(e)
    g = QuantizeLinear(f, u, v)
    h = QLinearConv(g, u, v, w, s, none, t, z)
    i = QLinearConv(a, t, z, w, s, none, u, z)
    j = DequantizeLinear(h, t, z)
    k = DequantizeLinear(i, u, z)
    l = Add(j, k)
    m = QuantizeLinear(l, t, z)
    y = Flatten(m) }})",
                                       weights);
  Tensor x(DType::u8, {2, 96, 9, 7});
  for (int64_t i = 0; i < x.size(); ++i) x.as<uint8_t>()[i] = static_cast<uint8_t>(i * 37 % 251);
  for (const char* without : {"assign-layouts", "fuse-shortcut"}) {
    const std::vector<Tensor> answers = WithAndWithout(without, text, x);
    const auto a = answers[0].as<uint8_t>(), b = answers[1].as<uint8_t>();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << without;
    EXPECT_NE(*std::min_element(a.begin(), a.end()), *std::max_element(a.begin(), a.end()));
  }
}

TEST(ProgramTest, ShortcutsOfUnusualScalesAreTheSameBytes) {
  std::string weights;
  for (int i = 0; i < 96 * 96; ++i) weights += fmt::format("{}{}", i ? "," : "", i * 7 % 23 - 11);
  for (const char* scale : {"0", "1e-30", "1e35", "0.02"}) {
    const std::string text = fmt::format(R"(graph "g"(x: u8[1,96,4,4]) -> (y) {{
    const s: f32 = [0.02]
    const u: f32 = [{}]
    const z: u8 = [120]
    const none: i8 = [0]
    const w: i8[96,96,1,1] = [{}]
    a = QLinearConv(x, s, z, w, s, none, s, z)
    b = QLinearConv(a, s, z, w, s, none, s, z)
    c = DequantizeLinear(a, s, z)
    d = DequantizeLinear(b, s, z)
    e = Add(d, c)
    f = Relu(e)
    g = QuantizeLinear(f, u, z)
    y = Flatten(g) }})",
                                         scale, weights);
    Tensor x(DType::u8, {1, 96, 4, 4});
    for (int64_t i = 0; i < x.size(); ++i) x.as<uint8_t>()[i] = static_cast<uint8_t>(i * 37 % 251);
    const std::vector<Tensor> answers = WithAndWithout("fuse-shortcut", text, x);
    const auto a = answers[0].as<uint8_t>(), b = answers[1].as<uint8_t>();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << scale;
  }
}

TEST(ProgramTest, LayoutsChangeFloatsByRounding) {
  const auto numbers = [](int count, int step) {
    std::string text;
    for (int i = 0; i < count; ++i)
      text += fmt::format("{}{}", i ? "," : "", (i * step % 23 - 11) / 64.0);
    return text;
  };
  const std::string text =
      fmt::format(R"(graph "g"(x: f32[2,96,9,7]) -> (y) {{
    const w: f32[96,96,3,3] = [{}]
    const v: f32[96,96,1,1] = [{}]
    const k: f32[96] = [{}]
    const s: f32[96,1,1] = [{}]
    a = Conv(x, w, k) {{pads=[1,1,1,1]}}
    b = Relu(a)
    c = MaxPool(b) {{kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}}
    d = Conv(c, v, k)
    e = Add(d, c)
    f = Mul(e, s)
    g = Concat(f, c) {{axis=1}}
    y = Flatten(g) }})",
                  numbers(96 * 96 * 9, 7), numbers(96 * 96, 5), numbers(96, 3), numbers(96, 11));
  Tensor x(DType::f32, {2, 96, 9, 7});
  for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = static_cast<float>(i * 37 % 251) / 64;
  const std::vector<Tensor> answers = WithAndWithout("assign-layouts", text, x);
  const auto a = answers[0].as<float>(), b = answers[1].as<float>();
  float most = 0;
  for (const float v : b) most = std::max(most, std::abs(v));
  EXPECT_GT(most, 1);
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], most * 1e-5f);
}

// Nothing to run on the host, yet an output that no buffer of numbers can take.
TEST(ProgramTest, StringsPassThroughBesideNumbers) {
  auto program = ProgramOf(R"(graph "g"(t: string[N], x: f32[2]) -> (t, y) { y = Neg(x) })");
  ExecContext context;
  const HostValue inputs[] = {Tensor::Scalar<std::string>("v").Reshaped({1}),
                              Tensor::From<float>({2}, {1, 2})};
  const auto results = program->Run(context, std::span<const HostValue>(inputs));
  ASSERT_TRUE(results.ok()) << results.status().message();
  EXPECT_EQ((*results)[0].tensor()->as<std::string>()[0], "v");
  EXPECT_EQ((*results)[1].tensor()->as<float>()[1], -2);
  auto constant = ProgramOf(R"(graph "g"(x: f32[2]) -> (c, y) {
    const c: string[1] = ["w"]
    y = Neg(x) })");
  Tensor c(DType::f32, {1}), y(DType::f32, {2});
  const ConstView views[] = {inputs[1].tensor()->view()};
  const View buffers[] = {c.view(), y.view()};
  EXPECT_EQ(constant->RunInto(context, views, buffers).code(), StatusCode::kUnsupported);
}

// Static nodes before, inside and after a loop whose trip count comes with the run.
constexpr char kLoop[] = R"(graph "g"(m: i64, x: f32[N]) -> (y, all) {
  a = Relu(x)
  last, all = Loop(m, _, a, x) {captures=1,
    body=graph "b"(i: i64, c: bool, v: f32[N], x: f32[N]) -> (c2, w, s) {
      c2 = Identity(c) w = Add(v, x) s = Mul(w, w) }}
  y = Neg(last) })";

TEST(ProgramTest, LoopsRunCompiledBodies) {
  auto program = ProgramOf(kLoop);
  ExecContext context;
  for (int64_t trips : {0, 3}) {
    const Tensor m = Tensor::Scalar<int64_t>(trips), x = Tensor::From<float>({2}, {1, -2});
    const ConstView views[] = {m.view(), x.view()};
    const auto results = program->Run(context, views);
    ASSERT_TRUE(results.ok()) << results.status().message();
    EXPECT_EQ((*results)[0].as<float>()[0], static_cast<float>(-1 - trips));
    EXPECT_EQ((*results)[0].as<float>()[1], static_cast<float>(2 * trips));
    EXPECT_EQ((*results)[1].dims()[0], trips);
  }
  EXPECT_NE(program->Explain().find("Loop on the host"), std::string::npos);
}

TEST(ProgramTest, SequencesAndStringsComeAndGo) {
  auto program = ProgramOf(R"(graph "g"(s: seq(f32[?]), t: string[N]) -> (y, u, s2) {
    const at: i64 = [0]
    const word: string[1] = ["w"]
    first = SequenceAt(s, at)
    y = Relu(first)
    u = Concat(t, word) {axis=0}
    s2 = SequenceInsert(s, y) })");
  ExecContext context;
  const HostValue inputs[] = {Sequence{Tensor::From<float>({3}, {-1, 0, 2})},
                              Tensor::From<std::string>({1}, {"v"})};
  const auto results = program->Run(context, std::span<const HostValue>(inputs));
  ASSERT_TRUE(results.ok()) << results.status().message();
  EXPECT_EQ((*results)[0].tensor()->as<float>()[2], 2);
  EXPECT_EQ((*results)[1].tensor()->as<std::string>()[1], "w");
  EXPECT_EQ((*results)[2].sequence()->size(), 2u);
  const HostValue wrong[] = {Tensor::Scalar<float>(1), Tensor::Scalar<std::string>("v")};
  EXPECT_NE(program->Run(context, std::span<const HostValue>(wrong)).status().message().find("'s'"),
            std::string::npos);
}

}  // namespace
}  // namespace minim
