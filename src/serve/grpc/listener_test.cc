#include "serve/grpc/listener.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "serve/testing/raw_client.h"

namespace minim::serve {
namespace {

// Answers "hi" and closes.
void Greet(int fd) {
  EXPECT_EQ(::send(fd, "hi", 2, MSG_NOSIGNAL), 2);
  ::close(fd);
}

TEST(ListenerTest, HandsConnectionsOverUntilItStops) {
  auto listener = Listener::Start({}, Greet);
  ASSERT_TRUE(listener.ok()) << listener.status().message();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(RawClient((*listener)->port()).ReadAll(), "hi");
  (*listener)->Stop();
  EXPECT_FALSE(RawClient((*listener)->port()).connected());
}

TEST(ListenerTest, WrongAddressesAndTakenPortsAreExplained) {
  EXPECT_EQ(Listener::Start({.address = "localhost"}, Greet).status().code(),
            StatusCode::kInvalidArgument);
  auto first = Listener::Start({}, Greet);
  ASSERT_TRUE(first.ok());
  const Status taken = Listener::Start({.port = (*first)->port()}, Greet).status();
  EXPECT_EQ(taken.code(), StatusCode::kUnavailable);
  EXPECT_NE(taken.message().find("already in use"), std::string::npos) << taken.message();
}

// The process's own limit is lowered: gRPC's listener would be deaf afterwards.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t most) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{most, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

int NextDescriptor() {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(fd);
  return fd;
}

TEST(ListenerTest, ShedsNearTheLimitOfDescriptorsAndRecovers) {
  auto listener = Listener::Start({.spare_descriptors = 8}, Greet);
  ASSERT_TRUE(listener.ok());
  {
    const FewDescriptors few(static_cast<rlim_t>(NextDescriptor()) + 8);
    RawClient client((*listener)->port());
    EXPECT_TRUE(client.connected());
    EXPECT_EQ(client.ReadAll(), "") << "closed at once";
  }
  EXPECT_EQ(RawClient((*listener)->port()).ReadAll(), "hi");
}

TEST(ListenerTest, OutlivesHavingNoDescriptorAtAll) {
  auto listener = Listener::Start({.spare_descriptors = 0}, Greet);
  ASSERT_TRUE(listener.ok());
  {
    const FewDescriptors few(static_cast<rlim_t>(NextDescriptor()) + 1);
    RawClient client((*listener)->port());  // takes the last one
    EXPECT_TRUE(client.connected());
    EXPECT_EQ(client.ReadAll(), "") << "let in and out again";
  }
  EXPECT_EQ(RawClient((*listener)->port()).ReadAll(), "hi");
}

}  // namespace
}  // namespace minim::serve
