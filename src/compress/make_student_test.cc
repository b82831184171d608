#include <numeric>

#include "compress/distill.h"
#include "compress/prune.h"
#include "compress/testing/small_problems.h"
#include "graph/text.h"

namespace minim {
namespace {

int Count(const Graph& graph, std::string_view op) {
  return static_cast<int>(std::count_if(graph.nodes.begin(), graph.nodes.end(),
                                        [&](const Node& node) { return node.Is(op); }));
}

Graph Plain(const std::vector<int64_t>& units) {
  ModelSpec spec;
  spec.input = {4};
  for (int64_t size : units) {
    spec.layers.push_back({.kind = "linear", .units = size});
    spec.layers.push_back({.kind = "relu"});
  }
  spec.layers.push_back({.kind = "linear", .units = 2});
  return BuildModel(spec, 1).value();
}

TEST(MakeStudentTest, EverySecondLikeLayerGoes) {
  const Graph teacher = Plain({16, 16, 16, 16, 16});
  const auto student = MakeStudent(teacher, {.parameters = 1, .shallower = true});
  ASSERT_TRUE(student.ok()) << student.status().message();
  // Of the four that map 16 to 16 two are left; weights of those stay.
  EXPECT_EQ(Count(*student, "Gemm"), 4);
  EXPECT_EQ(Count(*student, "Relu"), 3);
  EXPECT_NE(student->FindValue("layer2_linear_weight"), kNoValue);
  const ValueId kept = student->FindValue("layer2_linear_weight");
  const ValueId dropped = student->FindValue("layer4_linear_weight");
  EXPECT_NE(student->constant(kept), nullptr);
  EXPECT_TRUE(dropped == kNoValue || student->constant(dropped) == nullptr);
  // It is the network that was never longer.
  Graph by_hand = Plain({16, 16, 16});
  const auto copy = [&](const char* from, const char* to) {
    by_hand.constants.at(by_hand.FindValue(to)) = *teacher.constant(teacher.FindValue(from));
  };
  copy("layer6_linear_weight", "layer4_linear_weight");
  copy("layer10_linear_weight", "layer6_linear_weight");
  const Tensor x = Moons(16).samples;
  EXPECT_LT(Distance(RunGraph(*student, x), RunGraph(by_hand, x)), 1e-5);
}

TEST(MakeStudentTest, ResidualBlocksGoWhole) {
  Graph teacher = ParseText(R"(graph "g"(x: f32[N,8], w1: f32[8,8], w2: f32[8,8], w3: f32[8,8],
      w4: f32[8,8], w5: f32[8,8], w6: f32[8,8], o: f32[8,2]) -> (y) {
    a = MatMul(x, w1)
    b = Relu(a)
    c = MatMul(b, w2)
    d = Add(c, x)
    e = MatMul(d, w3)
    f = Relu(e)
    g = MatMul(f, w4)
    h = Add(g, d)
    i = MatMul(h, w5)
    j = Relu(i)
    k = MatMul(j, w6)
    l = Add(k, h)
    y: f32[N,2] = MatMul(l, o) })")
                      .value();
  for (size_t i = 1; i < teacher.inputs.size(); ++i)
    teacher.constants.emplace(teacher.inputs[i],
                              Tensor(DType::f32, teacher.type(teacher.inputs[i]).dims()));
  teacher.inputs.resize(1);
  const auto student = MakeStudent(teacher, {.parameters = 1, .shallower = true});
  ASSERT_TRUE(student.ok()) << student.status().message();
  EXPECT_EQ(Count(*student, "MatMul"), 5);
  EXPECT_EQ(Count(*student, "Add"), 2);
  for (const char* name : {"w1", "w2", "w5", "w6", "o"})
    EXPECT_NE(student->constant(student->FindValue(name)), nullptr) << name;
}

TEST(MakeStudentTest, ShallowerAndNarrowerTogether) {
  const Graph teacher = Plain({64, 64, 64});
  const auto student = MakeStudent(teacher, {.parameters = 0.3, .shallower = true});
  ASSERT_TRUE(student.ok()) << student.status().message();
  EXPECT_EQ(Count(*student, "Gemm"), 3);
  EXPECT_LE(ParameterCount(*student), 0.3 * ParameterCount(teacher));
  EXPECT_EQ(RunGraph(*student, Moons(8).samples).dims(), Dims({8, 2}));
}

TEST(MakeStudentTest, SaysWhatIsInTheWay) {
  const auto unlike = MakeStudent(Plain({16, 24, 16}), {.parameters = 1, .shallower = true});
  EXPECT_EQ(unlike.status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(MakeStudent(Plain({8, 8}), {.parameters = 0.5}).status().code(),
            StatusCode::kUnsupported);
  EXPECT_EQ(MakeStudent(Plain({16}), {.parameters = 0}).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace minim
