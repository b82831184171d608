// Models that ask for more than a machine has: an error that says so, little memory, no crash.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "graph/text.h"
#include "session/session_impl.h"

namespace minim {
namespace {

struct Hostile {
  const char* name;
  const char* body;  // from x: f32[2] to y
  const char* message;
};

const Hostile kHostile[] = {
    {"ConstantOfShape",
     "const s: i64[1] = [1099511627776] c = ConstantOfShape(s) "
     "r = ReduceSum(c) {keepdims=0} y = Add(x, r)",
     "half of main memory"},
    {"Expand",
     "const s: i64[2] = [1099511627776, 2] e = Expand(x, s) y = ReduceSum(e) {keepdims=0}",
     "f32[1099511627776,2]"},
    {"ExpandThatWraps",
     "const s: i64[3] = [1099511627776, 1099511627776, 2] e = Expand(x, s) "
     "y = ReduceSum(e) {keepdims=0}",
     "more than 2^64 bytes"},
    {"Tile", "const s: i64[1] = [1099511627776] e = Tile(x, s) y = ReduceSum(e) {keepdims=0}",
     "half of main memory"},
    {"TileThatWraps",
     "const s: i64[1] = [4611686018427387908] e = Tile(x, s) y = ReduceSum(e) {keepdims=0}",
     "more than 2^64 bytes"},
    {"PadThatWraps",
     "const s: i64[2] = [9223372036854775807, 9223372036854775807] e = Pad(x, s) "
     "y = ReduceSum(e) {keepdims=0}",
     "more than 2^64 bytes"},
    {"ZeroBesideHuge",
     "const s: i64[3] = [0, 4611686018427387908, 4] r = ConstantOfShape(s) "
     "e = ReduceSum(r) {keepdims=0} y = Add(x, e)",
     "more than 2^64 bytes"},
    {"Pad", "const s: i64[2] = [1099511627776, 0] e = Pad(x, s) y = ReduceSum(e) {keepdims=0}",
     "half of main memory"},
    {"Range",
     "const a: i64 = [0] const b: i64 = [1099511627776] const c: i64 = [1] "
     "e = Range(a, b, c) f = Cast(e) {to=1} r = ReduceSum(f) {keepdims=0} y = Add(x, r)",
     "half of main memory"},
    {"OneHot",
     "const d: i64 = [1099511627776] const v: f32[2] = [0, 1] i = Cast(x) {to=7} "
     "e = OneHot(i, d, v) y = ReduceSum(e) {keepdims=0}",
     "half of main memory"},
    {"RandomNormal",
     "e = RandomNormal() {shape=[1099511627776]} r = ReduceSum(e) {keepdims=0} "
     "y = Add(x, r)",
     "half of main memory"},
    {"Resize",
     "const r: i64[4] = [1, 1, 1, 2] const s: i64[4] = [1, 1, 1048576, 1048576] "
     "q = Reshape(x, r) e = Resize(q, _, _, s) y = ReduceSum(e) {keepdims=0}",
     "half of main memory"},
};

class HostileModelTest : public testing::TestWithParam<Hostile> {};

int64_t PeakKiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

Status RunOnce(const std::string& text) {
  MINIM_TRY(Graph graph, ParseText(text));
  MINIM_TRY(const auto session, MakeSession(std::move(graph), {}));
  const Tensor x = Tensor::From<float>({2}, {1, 2});
  const ConstView views[] = {x.view()};
  return session->Run(views).status();
}

TEST_P(HostileModelTest, IsRefusedWithItsReason) {
  const int64_t before = PeakKiB();
  const Status status =
      RunOnce(std::string("graph \"g\"(x: f32[2]) -> (y) { ") + GetParam().body + " }");
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  EXPECT_NE(status.message().find(GetParam().message), std::string::npos) << status.message();
  EXPECT_LT(PeakKiB() - before, 64 << 10);
}

INSTANTIATE_TEST_SUITE_P(Asks, HostileModelTest, testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

// Each of 60 sums holds twice what the one before it holds.
TEST(HostileModelTest, DoublingConcats) {
  std::string text = "graph \"g\"(x: f32[2]) -> (y) { c0 = Concat(x, x) {axis=0} ";
  for (int i = 1; i < 60; ++i)
    text += fmt::format("c{0} = Concat(c{1}, c{1}) {{axis=0}} ", i, i - 1);
  const int64_t before = PeakKiB();
  const Status status = RunOnce(text + "y = ReduceSum(c59) {keepdims=0} }");
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  EXPECT_LT(PeakKiB() - before, 64 << 10);
}

// The size comes from the request, not from the file.
TEST(HostileModelTest, ARequestThatNamesAHugeShape) {
  const auto session =
      MakeSession(
          ParseText("graph \"g\"(x: f32[2], s: i64[2]) -> (y) { y = Expand(x, s) }").value(), {})
          .value();
  const Tensor x = Tensor::From<float>({2}, {1, 2});
  const auto ask = [&](int64_t rows) {
    const Tensor s = Tensor::From<int64_t>({2}, {rows, 2});
    const ConstView views[] = {x.view(), s.view()};
    return session->Run(views).status();
  };
  EXPECT_EQ(ask(int64_t{1} << 40).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(ask(3).ok());  // and it goes on
}

}  // namespace
}  // namespace minim
