#include "serve/http/receive.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <thread>

namespace minim::serve {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class ReceiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(bind(listener, name, size), 0);
    ASSERT_EQ(listen(listener, 1), 0);
    ASSERT_EQ(getsockname(listener, name, &size), 0);
    client_ = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(connect(client_, name, size), 0);
    server_ = accept(listener, nullptr, nullptr);
    close(listener);
    NoteArrivals(server_);
  }
  void TearDown() override {
    close(client_);
    close(server_);
  }
  void Send(std::string_view text) {
    ASSERT_EQ(send(client_, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }

  int client_ = -1, server_ = -1;
  std::array<char, 64> buffer_{};
};

TEST_F(ReceiveTest, SaysWhenTheLastOfItCame) {
  constexpr milliseconds kWait(200);
  Send("first");
  const auto first = steady_clock::now();
  std::this_thread::sleep_for(kWait);
  Send("second");
  std::this_thread::sleep_for(kWait);
  const Received got = ReceiveNow(server_, buffer_);
  ASSERT_EQ(std::string_view(buffer_.data(), 11), "firstsecond");
  EXPECT_EQ(got.bytes, 11);
  EXPECT_GT(got.arrival, first + kWait / 2);
  EXPECT_LT(got.arrival, steady_clock::now() - kWait / 2);
}

TEST_F(ReceiveTest, TellsNothingYetFromTheEnd) {
  errno = 0;
  EXPECT_LT(ReceiveNow(server_, buffer_).bytes, 0);
  EXPECT_EQ(errno, EAGAIN);
  shutdown(client_, SHUT_WR);
  std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(ReceiveNow(server_, buffer_).bytes, 0);
}

}  // namespace
}  // namespace minim::serve
