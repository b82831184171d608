#include "serve/http/message.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

TEST(HttpMessageTest, HeadersIgnoreCase) {
  Headers headers;
  headers.Add("Host", "a");
  headers.Add("HOST", "b");
  EXPECT_EQ(headers.Get("host"), "a");
  EXPECT_EQ(headers.Count("hOsT"), 2);
  EXPECT_EQ(headers.Get("absent"), "");
}

TEST(HttpMessageTest, ListsSplitAtCommas) {
  EXPECT_EQ(SplitList(" gzip , ,deflate;q=0.5,"),
            (std::vector<std::string_view>{"gzip", "deflate;q=0.5"}));
  EXPECT_TRUE(SplitList("").empty());
}

TEST(HttpMessageTest, ErrorsAreJsonWhateverTheMessageHolds) {
  const HttpResponse response = ErrorResponse(Status(StatusCode::kNotFound, "no \"m\"\n\xff"));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.body, "{\"error\":\"no \\\"m\\\"\\n\xEF\xBF\xBD\"}");
}

TEST(HttpMessageTest, EveryCodeHasAStatusAndAPhrase) {
  for (int code = 0; code <= static_cast<int>(StatusCode::kInternal); ++code)
    EXPECT_NE(ReasonPhrase(HttpStatusOf(static_cast<StatusCode>(code))), "Status") << code;
}

TEST(HttpMessageTest, RetryAfterIsInWholeSeconds) {
  const auto header = [](std::chrono::milliseconds delay) {
    Status status(StatusCode::kResourceExhausted, "full");
    return std::string(
        ErrorResponse(std::move(status).WithRetryAfter(delay)).headers.Get("Retry-After"));
  };
  EXPECT_EQ(header(std::chrono::milliseconds(1)), "1");
  EXPECT_EQ(header(std::chrono::milliseconds(2001)), "3");
  EXPECT_EQ(header(std::chrono::milliseconds(0)), "");
}

}  // namespace
}  // namespace minim::serve
