#include "serve/http/encoding.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

TEST(EncodingTest, RoundTrips) {
  const std::string text(5000, 'a');
  for (const char* coding : {"gzip", "deflate"}) {
    const std::string packed = EncodeContent(coding, text);
    ASSERT_FALSE(packed.empty());
    EXPECT_LT(packed.size(), 200u);
    EXPECT_EQ(*DecodeContent(coding, packed, 5000), text);
  }
  EXPECT_EQ(EncodeContent("gzip", "x"), "") << "would not shrink";
  EXPECT_EQ(*DecodeContent("", "plain", 100), "plain");
  EXPECT_EQ(*DecodeContent("Identity", "plain", 100), "plain");
}

TEST(EncodingTest, DeflateWithoutWrappingIsUnderstood) {
  const std::string wrapped = EncodeContent("deflate", std::string(5000, 'a'));
  EXPECT_EQ(*DecodeContent("deflate", wrapped.substr(2, wrapped.size() - 6), 5000),
            std::string(5000, 'a'));
}

TEST(EncodingTest, BombsAndDamageAreRefused) {
  const std::string bomb = EncodeContent("gzip", std::string(32 << 20, '\0'));
  ASSERT_LT(bomb.size(), 200000u);
  EXPECT_EQ(DecodeContent("gzip", bomb, 1 << 20).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(DecodeContent("gzip", bomb.substr(0, 100), 1 << 26).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(DecodeContent("gzip", "nonsense", 100).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(DecodeContent("gzip", "", 100).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(DecodeContent("br", "x", 100).status().code(), StatusCode::kUnsupported);
}

TEST(EncodingTest, TheClientChooses) {
  EXPECT_EQ(ChooseCoding(""), "");
  EXPECT_EQ(ChooseCoding("br"), "");
  EXPECT_EQ(ChooseCoding("deflate, gzip;q=0.5"), "gzip");
  EXPECT_EQ(ChooseCoding("deflate, gzip;q=0"), "deflate");
  EXPECT_EQ(ChooseCoding("gzip;q=0.0"), "");
}

}  // namespace
}  // namespace minim::serve
