// The server over real sockets: framing, limits, timeouts, keep-alive, drain.
#include "serve/http/http_server.h"

#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <thread>

#include "serve/http/encoding.h"
#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

using std::chrono::milliseconds;

HttpServerOptions SmallLimits() {
  HttpServerOptions options;
  options.max_body_bytes = 100000;
  options.header_timeout = milliseconds(300);
  options.body_timeout = milliseconds(300);
  return options;
}

// Echoes "method target body"; "/later" answers when the test says so.
class HttpServerTest : public testing::Test {
 protected:
  void Start(HttpServerOptions options = SmallLimits()) {
    auto server = HttpServer::Start(options, [this](HttpRequest request, ResponseCallback done) {
      Handle(std::move(request), std::move(done));
    });
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(server).value();
  }
  void Handle(HttpRequest request, ResponseCallback done) {
    HttpResponse response{.content_type = "text/plain"};
    response.body = request.method + " " + request.target + " " + request.body;
    if (!request.target.starts_with("/later")) return done(std::move(response));
    std::lock_guard lock(mutex_);
    later_.push_back([done, response] { done(response); });
    cancelled_ = request.cancelled;
  }
  size_t Waiting() {
    std::lock_guard lock(mutex_);
    return later_.size();
  }
  void AnswerLater() {
    std::vector<std::function<void()>> later;
    {
      std::lock_guard lock(mutex_);
      later.swap(later_);
    }
    for (auto& answer : later) answer();
  }
  bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 500 && !condition(); ++i) std::this_thread::sleep_for(milliseconds(10));
    return condition();
  }
  std::string Ask(const std::string& wire) {
    RawClient client(server_->port());
    EXPECT_TRUE(client.Send(wire));
    return client.ReadResponse();
  }

  std::unique_ptr<HttpServer> server_;
  std::mutex mutex_;
  std::vector<std::function<void()>> later_;  // guarded by mutex_
  std::shared_ptr<std::atomic<bool>> cancelled_;
};

std::string Post(const std::string& target, const std::string& body,
                 const std::string& fields = "") {
  return "POST " + target + " HTTP/1.1\r\nHost: x\r\n" + fields +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST_F(HttpServerTest, ARequestCountsFromItsArrivalNotFromWhenItIsRead) {
  constexpr milliseconds kBusy(200);
  std::atomic<std::chrono::nanoseconds> waited{};
  std::atomic<bool> busy{false};
  const auto handle = [&](HttpRequest request, ResponseCallback done) {
    if (request.target == "/busy") busy = true;
    while (busy) std::this_thread::sleep_for(milliseconds(1));
    if (request.target == "/waits") waited = std::chrono::steady_clock::now() - request.received;
    done({});
  };
  HttpServerOptions options = SmallLimits();
  options.threads = 1;
  auto server = HttpServer::Start(options, handle);
  ASSERT_TRUE(server.ok());
  RawClient waits((*server)->port()), other((*server)->port());
  ASSERT_TRUE(waits.Send(Post("/first", "")));
  ASSERT_EQ(StatusOf(waits.ReadResponse()), 200);
  ASSERT_TRUE(other.Send(Post("/busy", "")));
  ASSERT_TRUE(Eventually([&] { return busy.load(); }));
  ASSERT_TRUE(waits.Send(Post("/waits", "")));
  std::this_thread::sleep_for(kBusy);
  busy = false;
  EXPECT_EQ(StatusOf(waits.ReadResponse()), 200);
  EXPECT_GT(waited.load(), kBusy / 2);
  EXPECT_EQ(StatusOf(other.ReadResponse()), 200);
  // One behind another of the same client waits for that, not for the server.
  ASSERT_TRUE(waits.Send(Post("/busy", "") + Post("/waits", "")));
  ASSERT_TRUE(Eventually([&] { return busy.load(); }));
  std::this_thread::sleep_for(kBusy);
  busy = false;
  EXPECT_EQ(StatusOf(waits.ReadResponse()), 200);
  EXPECT_EQ(StatusOf(waits.ReadResponse()), 200);
  EXPECT_LT(waited.load(), kBusy);
}

TEST_F(HttpServerTest, KeepAliveAndPipelining) {
  Start();
  RawClient client(server_->port());
  std::string wire;
  for (int i = 0; i < 50; ++i) wire += Post("/" + std::to_string(i), std::string(i, 'x'));
  ASSERT_TRUE(client.Send(wire));
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(BodyOf(client.ReadResponse()),
              "POST /" + std::to_string(i) + " " + std::string(i, 'x'));
}

struct Probe {
  const char* what;
  std::string wire;
  int status;
};

TEST_F(HttpServerTest, ProbesAreAnsweredAndTheServerGoesOn) {
  Start();
  const std::string chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string tiny_chunks = chunked;
  for (int i = 0; i < 20000; ++i) tiny_chunks += "1\r\nx\r\n";
  const Probe probes[] = {
      {"get", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200},
      {"head", "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200},
      {"1.0", "GET / HTTP/1.0\r\n\r\n", 200},
      {"absolute form", "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 200},
      {"post without a body or a length", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", 200},
      {"one-byte chunks", tiny_chunks + "0\r\n\r\n", 200},
      {"obs-fold", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 200},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"nonsense", "\x16\x03\x01 nonsense\r\n\r\n", 400},
      {"version 2", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400},
      {"space before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"NUL in a field", "GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(1, 0) + "\r\n\r\n", 400},
      {"two lengths",
       "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"length list", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\nab", 400},
      {"negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
      {"smuggling",
       "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: "
       "chunked\r\n\r\n0\r\n\r\n",
       400},
      {"unknown coding",
       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
      {"chunked 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"oversize", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n", 413},
      {"beyond 2^64", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\n",
       400},
      {"chunk beyond", chunked + "fffffffffffffff\r\n", 413},
      {"bad chunk", chunked + "zz\r\n", 400},
      {"huge trailer", chunked + "0\r\nA: " + std::string(100000, 'x') + "\r\n\r\n", 400},
      {"huge header", "GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(50000, 'x') + "\r\n\r\n",
       431},
      {"huge target", "GET /" + std::string(50000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
      {"unknown content coding", Post("/", "x", "Content-Encoding: br\r\n"), 415},
      {"damaged gzip", Post("/", "x", "Content-Encoding: gzip\r\n"), 400},
      {"bomb",
       Post("/", EncodeContent("gzip", std::string(1 << 20, 'x')), "Content-Encoding: gzip\r\n"),
       413},
      {"expectation", "GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417},
  };
  for (const Probe& probe : probes) {
    const std::string response = Ask(probe.wire);
    EXPECT_EQ(StatusOf(response), probe.status) << probe.what << ": " << response;
    if (probe.status != 200) {
      EXPECT_NE(response.find("{\"error\":\""), std::string::npos) << probe.what;
    }
  }
  EXPECT_EQ(StatusOf(Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")), 200);
}

TEST_F(HttpServerTest, AnOversizeBodyIsReadAwaySoThatTheAnswerArrives) {
  Start();
  RawClient client(server_->port());
  client.Send(Post("/", std::string(8 << 20, 'x')));
  const std::string response = client.ReadAll();
  EXPECT_EQ(StatusOf(response), 413);
  EXPECT_NE(response.find("Connection: close"), std::string::npos);
}

TEST_F(HttpServerTest, ExpectContinueIsAnswered) {
  Start();
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.ReadResponse(), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send("abc");
  EXPECT_EQ(BodyOf(client.ReadResponse()), "POST / abc");
}

TEST_F(HttpServerTest, SlowHeadersAndBodiesTimeOut) {
  Start();
  EXPECT_EQ(StatusOf(Ask("GET / HTTP/1.1\r\nHo")), 408);
  EXPECT_EQ(StatusOf(Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")), 408);
  RawClient dripping(server_->port());  // a byte now and then does not help
  for (int i = 0; i < 20; ++i) {
    dripping.Send("G");
    std::this_thread::sleep_for(milliseconds(30));
  }
  EXPECT_EQ(StatusOf(dripping.ReadResponse()), 408);
}

TEST_F(HttpServerTest, CompressedBothWays) {
  Start();
  const std::string text(5000, 'y');
  const std::string response = Ask(Post("/", EncodeContent("deflate", text),
                                        "Content-Encoding: deflate\r\nAccept-Encoding: gzip\r\n"));
  EXPECT_NE(response.find("Content-Encoding: gzip\r\n"), std::string::npos);
  EXPECT_EQ(*DecodeContent("gzip", BodyOf(response), 10000), "POST / " + text);
}

TEST_F(HttpServerTest, AnswersMayComeLaterFromAnotherThread) {
  Start();
  RawClient client(server_->port());
  client.Send(Post("/later", "a") + Post("/now", "b"));
  ASSERT_TRUE(Eventually([&] { return Waiting() == 1; }));
  EXPECT_EQ(StatusOf(Ask(Post("/other", "c"))), 200) << "others are served meanwhile";
  AnswerLater();
  EXPECT_EQ(BodyOf(client.ReadResponse()), "POST /later a");
  EXPECT_EQ(BodyOf(client.ReadResponse()), "POST /now b");
}

TEST_F(HttpServerTest, AClientThatGoesAwayIsNoticed) {
  Start();
  RawClient client(server_->port());
  client.Send(Post("/later", "a"));
  ASSERT_TRUE(Eventually([&] { return Waiting() == 1; }));
  client.Reset();
  EXPECT_TRUE(Eventually([&] {
    std::lock_guard lock(mutex_);
    return cancelled_->load();
  }));
  AnswerLater();
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, DrainLetsRequestsFinish) {
  Start();
  RawClient idle(server_->port()), busy(server_->port());
  idle.Send(Post("/", ""));
  EXPECT_EQ(StatusOf(idle.ReadResponse()), 200);
  busy.Send(Post("/later", "a"));
  ASSERT_TRUE(Eventually([&] { return Waiting() == 1; }));
  EXPECT_FALSE(server_->Drain(milliseconds(50)));
  EXPECT_EQ(idle.ReadAll(), "") << "idle connections are closed";
  EXPECT_FALSE(RawClient(server_->port()).connected()) << "no new ones";
  auto drained = std::async(std::launch::async, [&] { return server_->Drain(milliseconds(5000)); });
  AnswerLater();
  const std::string response = busy.ReadAll();
  EXPECT_EQ(BodyOf(response), "POST /later a");
  EXPECT_NE(response.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(drained.get());
}

TEST_F(HttpServerTest, AnAnswerAfterTheEndIsDropped) {
  // With two threads the socket that is being accepted belongs to the one that has no request.
  for (const int threads : {1, 2}) {
    HttpServerOptions options = SmallLimits();
    options.threads = threads;
    Start(options);
    RawClient client(server_->port());
    client.Send(Post("/later", "a"));
    ASSERT_TRUE(Eventually([&] { return Waiting() == 1; }));
    server_.reset();
    AnswerLater();
  }
}

TEST_F(HttpServerTest, BodiesInProgressAreBounded) {
  HttpServerOptions options = SmallLimits();
  options.max_bodies_bytes = 150000;
  Start(options);
  RawClient holder(server_->port());
  holder.Send(Post("/later", std::string(90000, 'x')));
  ASSERT_TRUE(Eventually([&] { return Waiting() == 1; }));
  EXPECT_EQ(StatusOf(Ask(Post("/", std::string(90000, 'x')))), 503);
  AnswerLater();
  EXPECT_EQ(StatusOf(holder.ReadResponse()), 200);
  EXPECT_TRUE(Eventually([&] { return StatusOf(Ask(Post("/", std::string(90000, 'x')))) == 200; }));
}

TEST_F(HttpServerTest, ManyClientsOverSeveralThreads) {
  HttpServerOptions options = SmallLimits();
  options.threads = 3;
  Start(options);
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&, c] {
      RawClient client(server_->port());
      for (int i = 0; i < 100; ++i) {
        const std::string body = std::to_string(c * 1000 + i);
        ASSERT_TRUE(client.Send(Post("/", body)));
        ASSERT_EQ(BodyOf(client.ReadResponse()), "POST / " + body);
      }
    });
  }
  for (auto& client : clients) client.join();
}

TEST(HttpServerStartTest, BadAddressesAreExplained) {
  EXPECT_FALSE(HttpServer::Start({.address = "nowhere"}, {}).ok());
  auto first = HttpServer::Start({}, {});
  ASSERT_TRUE(first.ok());
  const auto second = HttpServer::Start({.port = (*first)->port()}, {});
  EXPECT_NE(second.status().message().find(std::to_string((*first)->port())), std::string::npos);
}

}  // namespace
}  // namespace minim::serve
