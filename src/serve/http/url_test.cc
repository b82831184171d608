#include "serve/http/url.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using Segments = std::vector<std::string>;

TEST(UrlTest, Segments) {
  EXPECT_EQ(*PathSegments("/v2/models/m/infer?x=1/2"), (Segments{"v2", "models", "m", "infer"}));
  EXPECT_EQ(*PathSegments("/"), Segments{});
  EXPECT_EQ(*PathSegments("/v2/"), (Segments{"v2"}));
  EXPECT_EQ(*PathSegments("/a//b"), (Segments{"a", "", "b"}));
  EXPECT_EQ(*PathSegments("http://host:1/v2"), (Segments{"v2"}));
  EXPECT_EQ(*PathSegments("http://host"), Segments{});
  EXPECT_EQ(*PathSegments("/v2/models/a%20b%C3%A9/%2e%2e%2Fx"),
            (Segments{"v2", "models", "a b\xC3\xA9", "../x"}));
  EXPECT_EQ((*PathSegments("/a%00b"))[0], std::string("a\0b", 3));
}

TEST(UrlTest, BrokenTargetsAreRefused) {
  for (const char* bad : {"", "v2", "*", "/%", "/%4", "/%zz", "/a%2"})
    EXPECT_FALSE(PathSegments(bad).ok()) << bad;
}

}  // namespace
}  // namespace minim::serve
