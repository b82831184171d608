#include "serve/cache/redis_protocol.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

using Kind = RedisReply::Kind;

TEST(RedisProtocolTest, CommandsMayHoldAnyBytes) {
  EXPECT_EQ(RedisCommand({"GET", std::string_view("a\0\r\n", 4)}),
            std::string("*2\r\n$3\r\nGET\r\n$4\r\na\0\r\n\r\n", 23));
  EXPECT_EQ(RedisCommand({"SET", "k", ""}), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
}

TEST(RedisProtocolTest, RepliesComeOutHoweverTheyAreCut) {
  const std::string stream = "+OK\r\n$3\r\na\r\n\r\n$-1\r\n:-2\r\n-OOM no\r\n$0\r\n\r\n";
  for (size_t step = 1; step <= stream.size(); ++step) {
    RedisReader reader(16);
    std::vector<RedisReply> replies;
    for (size_t at = 0; at < stream.size(); at += step) {
      reader.Feed(std::string_view(stream).substr(at, step));
      while (true) {
        const auto reply = reader.Next();
        ASSERT_TRUE(reply.ok()) << reply.status().message();
        if (!reply->has_value()) break;
        replies.push_back(**reply);
      }
    }
    ASSERT_EQ(replies.size(), 6u) << step;
    EXPECT_EQ(replies[0].text, "OK");
    EXPECT_EQ(replies[1].text, "a\r\n");
    EXPECT_EQ(replies[2].kind, Kind::kNil);
    EXPECT_EQ(replies[3].number, -2);
    EXPECT_EQ(replies[4].kind, Kind::kError);
    EXPECT_EQ(replies[4].text, "OOM no");
    EXPECT_EQ(replies[5].kind, Kind::kText);
    EXPECT_EQ(replies[5].text, "");
  }
}

TEST(RedisProtocolTest, WhatNobodyAskedForIsRefusedBeforeMemoryIsTaken) {
  for (const std::string& bad :
       {std::string("*2147483647\r\n"), std::string("$17\r\n"), std::string("$-2\r\n"),
        std::string("$99999999999999999999\r\n"), std::string("$1x\r\n"), std::string(":\r\n"),
        std::string("HTTP/1.1 400\r\n"), std::string("$1\r\nabc"), "-" + std::string(5000, 'e')}) {
    RedisReader reader(16);
    reader.Feed(bad);
    EXPECT_EQ(reader.Next().status().code(), StatusCode::kDataLoss) << bad.substr(0, 20);
  }
}

}  // namespace
}  // namespace minim::serve
