#include <gtest/gtest.h>

#include "core/error.h"

namespace minim {
namespace {

Result<int> Half(int n) {
  if (n % 2) return InvalidArgument("{} is odd; pass an even number", n);
  return n / 2;
}

Result<int> Quarter(int n) {
  MINIM_TRY(const int half, Half(n));
  MINIM_TRY(Half(half));
  return half / 2;
}

TEST(StatusTest, TryPassesErrorsOn) {
  EXPECT_EQ(Quarter(12).value(), 3);
  EXPECT_EQ(Quarter(6).status().message(), "3 is odd; pass an even number");
  EXPECT_EQ(Quarter(5).status().code(), StatusCode::kInvalidArgument);
}

TEST(StatusTest, AnnotateKeepsTheCode) {
  const Status status = Annotate(NotFound("gone"), "model.onnx");
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "model.onnx: gone");
  EXPECT_TRUE(Annotate(Status(), "x").ok());
  EXPECT_STREQ(StatusCodeName(StatusCode::kDataLoss), "DATA_LOSS");
}

TEST(StatusTest, ARetryDelayIsKept) {
  using std::chrono::milliseconds;
  const Status status = Annotate(NotFound("x").WithRetryAfter(milliseconds(7)), "y");
  EXPECT_EQ(status.retry_after(), milliseconds(7));
  EXPECT_EQ(Status().retry_after(), milliseconds(0));
  EXPECT_EQ(NotFound("x").WithRetryAfter(std::chrono::hours(100)).retry_after(),
            std::chrono::hours(24));
  EXPECT_EQ(NotFound("x").WithRetryAfter(milliseconds(-7)).retry_after(), milliseconds(0));
}

}  // namespace
}  // namespace minim
