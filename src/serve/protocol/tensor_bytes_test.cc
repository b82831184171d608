#include "serve/protocol/tensor_bytes.h"

#include <gtest/gtest.h>

#include <vector>

namespace minim::serve {
namespace {

using Shape = std::vector<int64_t>;

TEST(TensorBytesTest, RoundTripsNumbersAndStrings) {
  const Tensor numbers = Tensor::From<int16_t>({2, 2}, {1, -2, 3, 0x4142});
  const Tensor strings =
      Tensor::From<std::string>({3}, {"", std::string("a\0b", 3), std::string(70, 'x')});
  for (const Tensor& tensor : {numbers, strings, Tensor(DType::f64, {0, 3}), Tensor(DType::f32, {}),
                               Tensor(DType::string, {0})}) {
    std::string bytes;
    AppendBinary(tensor, bytes);
    EXPECT_EQ(bytes.size(), BinarySize(tensor));
    const auto dims = tensor.dims().span();
    const auto back = TensorFromBytes(tensor.dtype(), dims, bytes);
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(back->dims(), tensor.dims());
    std::string again;
    AppendBinary(*back, again);
    EXPECT_EQ(again, bytes);
  }
}

TEST(TensorBytesTest, HostileShapesAndLengthsAreRefused) {
  const auto bytes = [](const char* text, size_t size) { return std::string(text, size); };
  const struct {
    DType dtype;
    Shape shape;
    std::string bytes;
    const char* names;
  } rows[] = {
      {DType::f32, {-1}, "abcd", "not negative"},
      {DType::f32, {2}, "abcd", "needs 8"},
      {DType::f32, {1}, "abcde", "needs 4"},
      {DType::f32, {}, "", "needs 4"},
      {DType::f32, {int64_t{1} << 62, 4}, "abcd", "more elements"},
      {DType::f32, {int64_t{1} << 32, int64_t{1} << 32}, "abcd", "more elements"},
      {DType::f32, Shape(9, 1), "abcd", "9 sizes"},
      {DType::u8, {int64_t{1} << 40}, "abcd", "more elements"},
      {DType::bool_, {2}, bytes("\1\2", 2), "BOOL byte is 2"},
      {DType::string, {1}, "abc", "ends before"},
      {DType::string, {2}, bytes("\0\0\0\0", 4), "ends before"},
      {DType::string, {1}, bytes("\2\0\0\0a", 5), "only 1 follow"},
      {DType::string, {1}, bytes("\xff\xff\xff\xff", 4), "only 0 follow"},
      {DType::string, {1}, bytes("\0\0\0\0x", 5), "1 bytes are left"},
      {DType::string, {0}, "x", "1 bytes are left"},
      {DType::string, {1 << 30}, "abcd", "more elements"},
      {DType::string, {(1 << 20) + 1}, std::string(5 << 20, '\0'), "1048576 strings"},
  };
  for (const auto& row : rows) {
    const Status status = TensorFromBytes(row.dtype, row.shape, row.bytes).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.names;
    EXPECT_NE(status.message().find(row.names), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace minim::serve
