#include "kernels/cpu/table.h"

#include <gtest/gtest.h>

#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

TEST(TableTest, EveryOpEndsInAPortableRow) {
  for (const KernelRow& row : CpuKernelTable()) {
    const auto rows = CpuKernelTable();
    const auto last = std::find_if(rows.rbegin(), rows.rend(),
                                   [&](const KernelRow& other) { return other.op == row.op; });
    EXPECT_EQ(last->isa, Isa::kPortable) << row.op;
  }
}

TEST(TableTest, RefusalsSayWhy) {
  KernelCase test{.op = "Relu", .inputs = {Uniform({4}, 1)}, .outputs = {Tensor(DType::f32, {4})}};
  BoundCase bound(test, Isa::kPortable);
  ASSERT_TRUE(bound.ok());
  ASSERT_FALSE(bound.bound().refusals.empty());
  EXPECT_NE(bound.bound().refusals[0].find("above the requested level"), std::string::npos);
  test.op = "NoSuchOp";
  EXPECT_EQ(BoundCase(test, Isa::kPortable).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
