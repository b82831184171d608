// How answers come back to the thread that serves their connections. Internal to http/.
#pragma once

#include <utility>  // first: Boost 1.74 uses std::exchange without including it

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "serve/http/message.h"

namespace minim::serve {

/// Where the answer to one request arrives; touched on its connection's thread only.
struct Exchange {
  explicit Exchange(boost::asio::io_context& context)
      : wake(context, boost::asio::steady_timer::time_point::max()) {}
  boost::asio::steady_timer wake;
  std::optional<HttpResponse> response;
};

/// Answers on their way to the thread that serves their connections, if they come from another. A
/// batch that is done wakes that thread once, not once for every answer. Threads: Deliver from any.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  explicit Mailbox(std::shared_ptr<boost::asio::io_context> context);
  ~Mailbox();

  void Deliver(std::shared_ptr<Exchange> exchange, HttpResponse response);
  boost::asio::io_context& context() { return *context_; }

 private:
  struct Letter;
  void Empty();

  // First, so that it goes last: the exchanges' timers need it.
  const std::shared_ptr<boost::asio::io_context> context_;
  std::mutex mutex_;
  std::vector<Letter> letters_;  // guarded by mutex_
  std::vector<Letter> opened_;   // of the context's thread: keeps its room
};

}  // namespace minim::serve
