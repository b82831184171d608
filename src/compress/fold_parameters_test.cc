#include "compress/fold_parameters.h"

#include <gtest/gtest.h>

#include "graph/text.h"

namespace minim {
namespace {

TEST(FoldParametersTest, FormulasDoNotBecomeParameters) {
  Graph graph = ParseText(R"(graph "g"(x: f32[N,3]) -> (y) {
    const angles: f32[3] = [0, 1, 2]
    const w: f32[3] = [1, 2, 3]
    const steps: i64[3] = [4, 5, 6]
    sines = Sin(angles)
    doubled = Add(w, w)
    floats = Cast(steps) {to=1}
    both = Mul(doubled, sines)
    a = Add(x, sines)
    b = Add(a, both)
    y = Add(b, floats) })")
                    .value();
  graph.literals = {graph.FindValue("angles")};
  const auto folded = FoldParameters(graph);
  ASSERT_TRUE(folded.ok()) << folded.status().message();
  EXPECT_EQ(folded->nodes.size(), 3u);
  const auto literal = [&](const char* name) {
    const ValueId id = folded->FindValue(name);
    EXPECT_NE(folded->constant(id), nullptr) << name;
    return folded->literals.contains(id);
  };
  EXPECT_TRUE(literal("sines"));
  EXPECT_TRUE(literal("floats"));
  EXPECT_FALSE(literal("both"));
}

}  // namespace
}  // namespace minim
