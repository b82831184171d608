#include "serve/http/framing.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

constexpr uint64_t kMaxBody = 1000;

struct HeadRow {
  const char* what;
  int version;
  std::vector<std::pair<std::string, std::string>> fields;
  int status;  // 0: accepted
  uint64_t length = 0;
  bool chunked = false;
  bool keep_alive = true;
};

const HeadRow kHeads[] = {
    {"plain", 11, {{"Host", "x"}}, 0},
    {"no Host", 11, {}, 400},
    {"two Hosts", 11, {{"Host", "x"}, {"host", "y"}}, 400},
    {"1.0 needs no Host", 10, {}, 0, 0, false, false},
    {"1.0 keep-alive", 10, {{"Connection", "Keep-Alive"}}, 0},
    {"version 2.0", 20, {{"Host", "x"}}, 505},
    {"length", 11, {{"Host", "x"}, {"Content-Length", "12"}}, 0, 12},
    {"two lengths", 11, {{"Host", "x"}, {"Content-Length", "2"}, {"Content-Length", "3"}}, 400},
    {"two equal lengths",
     11,
     {{"Host", "x"}, {"Content-Length", "2"}, {"Content-Length", "2"}},
     400},
    {"a list of lengths", 11, {{"Host", "x"}, {"Content-Length", "2, 2"}}, 400},
    {"signed length", 11, {{"Host", "x"}, {"Content-Length", "+2"}}, 400},
    {"negative length", 11, {{"Host", "x"}, {"Content-Length", "-2"}}, 400},
    {"hex length", 11, {{"Host", "x"}, {"Content-Length", "0x2"}}, 400},
    {"empty length", 11, {{"Host", "x"}, {"Content-Length", ""}}, 400},
    {"too long", 11, {{"Host", "x"}, {"Content-Length", "1001"}}, 413},
    {"beyond 2^64", 11, {{"Host", "x"}, {"Content-Length", "18446744073709551617"}}, 413},
    {"chunked", 11, {{"Host", "x"}, {"Transfer-Encoding", "Chunked"}}, 0, 0, true},
    {"chunked in 1.0", 10, {{"Transfer-Encoding", "chunked"}}, 400},
    {"chunked and length",
     11,
     {{"Host", "x"}, {"Transfer-Encoding", "chunked"}, {"Content-Length", "2"}},
     400},
    {"unknown coding", 11, {{"Host", "x"}, {"Transfer-Encoding", "xchunked"}}, 501},
    {"gzip coding", 11, {{"Host", "x"}, {"Transfer-Encoding", "gzip, chunked"}}, 501},
    {"two codings",
     11,
     {{"Host", "x"}, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
     501},
    {"close", 11, {{"Host", "x"}, {"Connection", "TE, close"}}, 0, 0, false, false},
    {"continue", 11, {{"Host", "x"}, {"Expect", "100-Continue"}}, 0},
    {"other expectation", 11, {{"Host", "x"}, {"Expect", "200-ok"}}, 417},
};

TEST(FramingTest, Heads) {
  for (const HeadRow& row : kHeads) {
    HttpHead head{.method = "POST", .target = "/", .version = row.version};
    for (const auto& [name, value] : row.fields) head.headers.Add(name, value);
    FramingError error;
    const auto framing = DecideFraming(head, kMaxBody, error);
    ASSERT_EQ(framing.has_value(), row.status == 0) << row.what << ": " << error.message;
    if (!framing) {
      EXPECT_EQ(error.http_status, row.status) << row.what;
      EXPECT_FALSE(error.message.empty());
      continue;
    }
    EXPECT_EQ(framing->length, row.length) << row.what;
    EXPECT_EQ(framing->chunked, row.chunked) << row.what;
    EXPECT_EQ(framing->keep_alive, row.keep_alive) << row.what;
  }
}

struct ChunkRow {
  const char* what;
  std::string wire;
  int status;  // 0: accepted, 1: more is needed
  std::string body;
  std::string rest;
};

const ChunkRow kChunks[] = {
    {"simple", "3\r\nabc\r\n0\r\n\r\n", 0, "abc", ""},
    {"two and the next request", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\nGET", 0, "abc", "GET"},
    {"extension", "3;x=y\r\nabc\r\n0\r\n\r\n", 0, "abc", ""},
    {"trailers are dropped", "0\r\nA: b\r\nC: d\r\n\r\n", 0, "", ""},
    {"upper-case hex", "A\r\n0123456789\r\n0\r\n\r\n", 0, "0123456789", ""},
    {"unfinished", "3\r\nab", 1, "", ""},
    {"no size", "\r\nabc", 400, "", ""},
    {"negative size", "-1\r\n", 400, "", ""},
    {"not hex", "xyz\r\n", 400, "", ""},
    {"0x", "0x3\r\nabc\r\n", 400, "", ""},
    {"beyond 2^64", "10000000000000003\r\nabc", 413, "", ""},
    {"too large", "3e9\r\n", 413, "", ""},
    {"too large in sum", "3e8\r\n" + std::string(1000, 'x') + "\r\n1\r\n", 413, "", ""},
    {"size too small", "2\r\nabc\r\n0\r\n\r\n", 400, "", ""},
    {"lone line feed", "3\nabc\r\n", 400, "", ""},
    {"long size line", "3;" + std::string(500, 'x'), 400, "", ""},
    {"long trailer", "0\r\nA: " + std::string(70000, 'x') + "\r\n\r\n", 400, "", ""},
    {"many trailers",
     "0\r\n" +
         [] {
           std::string many;
           for (int i = 0; i < 5000; ++i) many += "A: b\r\n";
           return many;
         }() +
         "\r\n",
     400, "", ""},
    {"trailer without colon", "0\r\nnonsense\r\n\r\n", 400, "", ""},
};

// The verdict must not depend on how the network cuts the bytes.
TEST(ChunkDecoderTest, Table) {
  for (const ChunkRow& row : kChunks) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{1} << 20}) {
      ChunkDecoder decoder(kMaxBody);
      std::string body, rest;
      bool good = true;
      for (size_t at = 0; at < row.wire.size() && good; at += piece) {
        std::string_view input = std::string_view(row.wire).substr(at, piece);
        good = decoder.Feed(input, body);
        rest += input;
      }
      const int status = !good ? decoder.error().http_status : decoder.done() ? 0 : 1;
      EXPECT_EQ(status, row.status) << row.what << ", pieces of " << piece;
      if (status != 0) continue;
      EXPECT_EQ(body, row.body) << row.what;
      EXPECT_EQ(rest, row.rest) << row.what;
    }
  }
}

}  // namespace
}  // namespace minim::serve
