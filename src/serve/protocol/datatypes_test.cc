#include "serve/protocol/datatypes.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

TEST(DatatypesTest, NamesOfTheProtocol) {
  EXPECT_EQ(KnownDatatypes(),
            "FP64, FP32, FP16, BF16, INT64, INT32, INT16, INT8, UINT64, UINT32, UINT16, UINT8, "
            "BOOL, BYTES");
  EXPECT_EQ(DTypeFromDatatype("FP16"), DType::f16);
  EXPECT_EQ(DTypeFromDatatype("UINT8"), DType::u8);
  EXPECT_EQ(DTypeFromDatatype("BYTES"), DType::string);
  EXPECT_EQ(DTypeFromDatatype("fp32"), std::nullopt);
  EXPECT_EQ(ConfigTypeName(DType::bf16), "TYPE_BF16");
  EXPECT_EQ(ConfigTypeName(DType::string), "TYPE_STRING");
  EXPECT_EQ(DTypeFromDatatype(""), std::nullopt);
  EXPECT_EQ(DatatypeName(DType::f8e4m3fn), "");
  EXPECT_TRUE(CheckTravelsAsJson(DType::f32).ok());
  EXPECT_FALSE(CheckTravelsAsJson(DType::bf16).ok());
}

}  // namespace
}  // namespace minim::serve
