// What samples cannot express: strings, sequences, optionals and sub-graphs, by the reference.
#include <gtest/gtest.h>

#include "graph/text.h"
#include "ops/host.h"
#include "ops/infer.h"

namespace minim {
namespace {

Result<std::vector<HostValue>> Evaluate(std::string_view text, std::vector<HostValue> inputs) {
  MINIM_TRY(Graph graph, ParseText(text));
  MINIM_TRY(InferGraph(graph));
  return EvaluateGraph(graph, std::move(inputs));
}

std::vector<HostValue> Must(std::string_view text, std::vector<HostValue> inputs) {
  auto values = Evaluate(text, std::move(inputs));
  EXPECT_TRUE(values.ok()) << values.status().message();
  return values.ok() ? *values : std::vector<HostValue>(4);
}

Tensor Strings(std::initializer_list<std::string> values) {
  return Tensor::From<std::string>({static_cast<int64_t>(values.size())}, values);
}

Tensor Floats(std::initializer_list<float> values) {
  return Tensor::From<float>({static_cast<int64_t>(values.size())}, values);
}

template <typename T>
std::vector<T> Elements(const HostValue& value) {
  EXPECT_NE(value.tensor(), nullptr);
  if (value.tensor() == nullptr) return {};
  const auto span = value.tensor()->as<T>();
  return {span.begin(), span.end()};
}

using Texts = std::vector<std::string>;
using Numbers = std::vector<float>;

TEST(HostOpsTest, StringsMoveCompareAndCast) {
  const auto values = Must(R"(graph "g"(s: string[4]) -> (r, e, n, t) {
    const shape: i64[2] = [2, 2]
    const b: string[1] = ["b"]
    const i: i64[2] = [3, 0]
    r = Reshape(s, shape)
    e = Equal(s, b)
    g = Gather(s, i)
    n = Concat(g, b) {axis=0}
    f = Shape(s)
    t = Cast(f) {to=string} })",
                           {Strings({"a", "b", "", "d"})});
  EXPECT_EQ(values[0].tensor()->dims(), Dims({2, 2}));
  EXPECT_EQ(Elements<std::string>(values[0]), Texts({"a", "b", "", "d"}));
  EXPECT_EQ(Elements<bool>(values[1]), std::vector<bool>({false, true, false, false}));
  EXPECT_EQ(Elements<std::string>(values[2]), Texts({"d", "a", "b"}));
  EXPECT_EQ(Elements<std::string>(values[3]), Texts({"4"}));
}

TEST(HostOpsTest, CastReadsAndWritesNumbers) {
  const auto values =
      Must(R"(graph "g"(s: string[5], x: f32[4]) -> (f, t) {
    f = Cast(s) {to=f32}
    t = Cast(x) {to=string} })",
           {Strings({"1.5", "-1e3", "NaN", "-INF", "+7"}), Floats({0.1f, 1, -INFINITY, 1e20f})});
  const auto f = Elements<float>(values[0]);
  EXPECT_EQ(f[0], 1.5f);
  EXPECT_EQ(f[1], -1000);
  EXPECT_TRUE(std::isnan(f[2]));
  EXPECT_EQ(f[3], -INFINITY);
  EXPECT_EQ(f[4], 7);
  EXPECT_EQ(Elements<std::string>(values[1]), Texts({"0.1", "1", "-INF", "1e+20"}));
  const auto bad =
      Evaluate(R"(graph "g"(s: string[1]) -> (f) { f = Cast(s) {to=i64} })", {Strings({"12x"})});
  EXPECT_NE(bad.status().message().find("'12x'"), std::string::npos);
}

TEST(HostOpsTest, ArithmeticRefusesStringsAndSequences) {
  for (const char* text : {R"(graph "g"(s: string[2]) -> (y) { y = Relu(s) })",
                           R"(graph "g"(s: string[2]) -> (y) { y = Add(s, s) })",
                           R"(graph "g"(s: seq(f32[2])) -> (y) { y = Reshape(s, s) })"}) {
    const auto graph = ParseText(text);
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    Graph inferred = *graph;
    const Status status = InferGraph(inferred);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("'s'"), std::string::npos) << status.message();
  }
}

TEST(HostOpsTest, SequencesAreBuiltReadAndJoined) {
  const auto values = Must(R"(graph "g"(a: f32[2], b: f32[2]) -> (n, last, joined, stacked, s2) {
    const one: i64 = [1]
    const end: i64 = [-1]
    s = SequenceConstruct(a, b)
    s2 = SequenceInsert(s, a, one)
    s3 = SequenceErase(s2, end)
    n = SequenceLength(s3)
    last = SequenceAt(s2, end)
    joined = ConcatFromSequence(s2) {axis=0}
    stacked = ConcatFromSequence(s2) {axis=1, new_axis=1} })",
                           {Floats({1, 2}), Floats({3, 4})});
  EXPECT_EQ(Elements<int64_t>(values[0]), std::vector<int64_t>({2}));
  EXPECT_EQ(Elements<float>(values[1]), Numbers({3, 4}));
  EXPECT_EQ(Elements<float>(values[2]), Numbers({1, 2, 1, 2, 3, 4}));
  EXPECT_EQ(values[3].tensor()->dims(), Dims({2, 3}));
  EXPECT_EQ(Elements<float>(values[3]), Numbers({1, 1, 3, 2, 2, 4}));
  ASSERT_NE(values[4].sequence(), nullptr);
  EXPECT_EQ(values[4].sequence()->size(), 3u);
  const auto outside = Evaluate(R"(graph "g"(a: f32[2]) -> (y) {
    const two: i64 = [2]
    s = SequenceConstruct(a)
    y = SequenceAt(s, two) })",
                                {Floats({1, 2})});
  EXPECT_NE(outside.status().message().find("position 2"), std::string::npos);
}

TEST(HostOpsTest, SplitToSequenceKeepsOrDropsTheAxis) {
  const auto values = Must(R"(graph "g"(x: f32[5]) -> (chunks, ones, given) {
    const two: i64 = [2]
    const sizes: i64[2] = [4, 1]
    chunks = SplitToSequence(x, two)
    ones = SplitToSequence(x) {keepdims=0}
    given = SplitToSequence(x, sizes) })",
                           {Floats({1, 2, 3, 4, 5})});
  EXPECT_EQ(values[0].sequence()->size(), 3u);
  EXPECT_EQ(Elements<float>(values[0].sequence()->back()), Numbers({5}));
  EXPECT_EQ(values[1].sequence()->front().tensor()->dims(), Dims());
  EXPECT_EQ(values[2].sequence()->front().tensor()->dims(), Dims({4}));
}

TEST(HostOpsTest, OptionalsHoldSomethingOrNothing) {
  const auto values = Must(R"(graph "g"(x: f32[1]) -> (full, empty, y) {
    a = Optional(x)
    b = Optional() {type=type f32[1]}
    full = OptionalHasElement(a)
    empty = OptionalHasElement(b)
    y = OptionalGetElement(a) })",
                           {Floats({7})});
  EXPECT_EQ(Elements<bool>(values[0]), std::vector<bool>({true}));
  EXPECT_EQ(Elements<bool>(values[1]), std::vector<bool>({false}));
  EXPECT_EQ(Elements<float>(values[2]), Numbers({7}));
}

constexpr char kIf[] = R"(graph "g"(c: bool, x: f32[2]) -> (y) {
  y = If(c, x) {captures=1,
    then_branch=graph "t"(x: f32[2]) -> (a) { a = Neg(x) },
    else_branch=graph "e"(x: f32[2]) -> (b) { b = Identity(x) }} })";

TEST(HostOpsTest, IfRunsOneBranch) {
  const Tensor x = Floats({1, -2});
  EXPECT_EQ(Elements<float>(Must(kIf, {Tensor::Scalar<bool>(true), x})[0]), Numbers({-1, 2}));
  EXPECT_EQ(Elements<float>(Must(kIf, {Tensor::Scalar<bool>(false), x})[0]), Numbers({1, -2}));
}

// Doubles v until the trips are done or v passes the limit; scans every value.
constexpr char kLoop[] = R"(graph "g"(m: i64, v: f32[1], limit: f32[1]) -> (last, all) {
  last, all = Loop(m, _, v, limit) {captures=1,
    body=graph "b"(i: i64, c: bool, v: f32[1], limit: f32[1]) -> (again, w, s) {
      w = Add(v, v)
      less = Less(w, limit)
      again = Squeeze(less)
      s = Identity(w)
    }} })";

TEST(HostOpsTest, LoopCarriesScansAndStops) {
  const auto by_trips = Must(kLoop, {Tensor::Scalar<int64_t>(3), Floats({1}), Floats({99})});
  EXPECT_EQ(Elements<float>(by_trips[0]), Numbers({8}));
  EXPECT_EQ(Elements<float>(by_trips[1]), Numbers({2, 4, 8}));
  EXPECT_EQ(by_trips[1].tensor()->dims(), Dims({3, 1}));
  const auto by_limit = Must(kLoop, {Tensor::Scalar<int64_t>(30), Floats({1}), Floats({10})});
  EXPECT_EQ(Elements<float>(by_limit[1]), Numbers({2, 4, 8, 16}));
  const auto never = Must(kLoop, {Tensor::Scalar<int64_t>(0), Floats({1}), Floats({10})});
  EXPECT_EQ(Elements<float>(never[0]), Numbers({1}));
  EXPECT_EQ(never[1].tensor()->dims()[0], 0);
}

TEST(HostOpsTest, ScanRunsForwardAndBackward) {
  const auto values = Must(R"(graph "g"(sum: f32, x: f32[3]) -> (total, sums) {
    total, sums = Scan(sum, x) {num_scan_inputs=1, scan_input_directions=[1],
      scan_output_directions=[1],
      body=graph "b"(s: f32, e: f32) -> (t, o) { t = Add(s, e) o = Identity(t) }} })",
                           {Tensor::Scalar<float>(0), Floats({1, 2, 4})});
  EXPECT_EQ(Elements<float>(values[0]), Numbers({7}));
  EXPECT_EQ(Elements<float>(values[1]), Numbers({7, 6, 4}));
}

TEST(HostOpsTest, StringOpsFollowPythonAndRe2) {
  const auto values = Must(R"(graph "g"(s: string[3]) -> (parts, counts, both, low, match) {
    const suffix: string[1] = ["!"]
    parts, counts = StringSplit(s)
    both = StringConcat(s, suffix)
    low = StringNormalizer(s) {case_change_action="UPPER", stopwords=["x"]}
    match = RegexFullMatch(s) {pattern="[a-z ]+"} })",
                           {Strings({" a  b ", "x", "é"})});
  EXPECT_EQ(Elements<std::string>(values[0]), Texts({"a", "b", "x", "", "é", ""}));
  EXPECT_EQ(Elements<int64_t>(values[1]), std::vector<int64_t>({2, 1, 1}));
  EXPECT_EQ(Elements<std::string>(values[2]), Texts({" a  b !", "x!", "é!"}));
  EXPECT_EQ(Elements<std::string>(values[3]), Texts({" A  B ", "É"}));
  EXPECT_EQ(Elements<bool>(values[4]), std::vector<bool>({true, true, false}));
}

}  // namespace
}  // namespace minim
