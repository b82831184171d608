#include "serve/http/http_server.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "serve/http/connection.h"

namespace minim::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// One io_context for each thread. Callbacks that are still to come when the server stops own them
// all: the first accepts for the others, so what waits in it needs theirs and goes before them.
class Contexts {
 public:
  explicit Contexts(int count) {
    for (int i = 0; i < count; ++i) list_.push_back(std::make_unique<asio::io_context>(1));
  }
  ~Contexts() {
    for (auto& context : list_) context.reset();
  }

  static std::shared_ptr<asio::io_context> At(const std::shared_ptr<Contexts>& all, int index) {
    return {all, all->list_[static_cast<size_t>(index)].get()};
  }

 private:
  std::vector<std::unique_ptr<asio::io_context>> list_;
};

// A connection stays on its thread, so nothing in it needs a lock.
struct Lane {
  explicit Lane(std::shared_ptr<asio::io_context> owner) : context(std::move(owner)) {}

  const std::shared_ptr<asio::io_context> context;
  const std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>(context);
  asio::executor_work_guard<asio::io_context::executor_type> work{context->get_executor()};
  std::vector<std::weak_ptr<Connection>> connections;  // touched on the lane's thread only
  std::thread thread;

  void Run() {
    for (;;) {
      try {
        context->run();
        return;
      } catch (const std::exception&) {
        // Whatever a connection threw ended that connection; the others go on.
      }
    }
  }

  void Adopt(std::shared_ptr<HttpShared> shared, tcp::socket socket) {
    auto connection = std::make_shared<Connection>(std::move(shared), mailbox, std::move(socket));
    if (connections.size() == connections.capacity())
      std::erase_if(connections, [](const auto& weak) { return weak.expired(); });
    connections.push_back(connection);
    asio::co_spawn(*context, Connection::Serve(std::move(connection)), asio::detached);
  }
};

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpServerOptions options, HttpHandler handler) : shared_(std::make_shared<HttpShared>()) {
    shared_->options = std::move(options);
    shared_->handler = std::move(handler);
    const int count = std::max(1, shared_->options.threads);
    const auto contexts = std::make_shared<Contexts>(count);
    for (int i = 0; i < count; ++i)
      lanes_.push_back(std::make_unique<Lane>(Contexts::At(contexts, i)));
    acceptor_ = std::make_unique<tcp::acceptor>(*lanes_[0]->context);
  }

  ~Impl() {
    for (auto& lane : lanes_) lane->context->stop();
    for (auto& lane : lanes_)
      if (lane->thread.joinable()) lane->thread.join();
    // Coroutines that wait inside a context go with it.
    acceptor_.reset();
    lanes_.clear();
  }

  Status Listen() {
    const HttpServerOptions& options = shared_->options;
    error_code error;
    const auto address = asio::ip::make_address(options.address, error);
    if (error)
      return InvalidArgument("address '{}': expected an IP address such as 127.0.0.1 or ::",
                             options.address);
    const tcp::endpoint endpoint(address, options.port);
    acceptor_->open(endpoint.protocol(), error);
    if (!error) acceptor_->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_->bind(endpoint, error);
    if (!error) acceptor_->listen(4096, error);
    if (error)
      return Unavailable("cannot listen on {}:{}: {}; choose another --port", options.address,
                         options.port, error.message());
    port_ = acceptor_->local_endpoint(error).port();
    asio::co_spawn(*lanes_[0]->context, Accept(), asio::detached);
    for (auto& lane : lanes_) lane->thread = std::thread([&lane = *lane] { lane.Run(); });
    return {};
  }

  bool Drain(std::chrono::milliseconds limit) {
    shared_->draining = true;
    asio::post(*lanes_[0]->context, [this] {
      error_code ignored;
      acceptor_->close(ignored);
    });
    const auto until = std::chrono::steady_clock::now() + limit;
    for (;;) {
      for (auto& lane : lanes_) {
        // Again each time: a connection may have become idle just after the last look.
        asio::post(*lane->context, [&lane = *lane] {
          for (const auto& weak : lane.connections)
            if (const auto connection = weak.lock()) connection->Drain();
        });
      }
      if (shared_->connections == 0) return true;
      if (std::chrono::steady_clock::now() >= until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  uint16_t port() const { return port_; }
  size_t connections() const { return shared_->connections; }

 private:
  asio::awaitable<void> Accept() {
    for (size_t next = 0;; next = (next + 1) % lanes_.size()) {
      Lane& lane = *lanes_[next];
      error_code error;
      tcp::socket socket = co_await acceptor_->async_accept(
          *lane.context, asio::redirect_error(asio::use_awaitable, error));
      if (!acceptor_->is_open()) co_return;
      if (error) {
        // Out of file numbers, most likely: trying again at once would only burn the processor.
        asio::steady_timer pause(*lanes_[0]->context, std::chrono::milliseconds(50));
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      if (shared_->connections >= shared_->options.max_connections) continue;  // closes the socket
      // The socket travels in a shared pointer because handlers of this Boost must be copyable.
      auto moved = std::make_shared<tcp::socket>(std::move(socket));
      asio::dispatch(*lane.context,
                     [&lane, moved, shared = shared_] { lane.Adopt(shared, std::move(*moved)); });
    }
  }

  std::shared_ptr<HttpShared> shared_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::unique_ptr<tcp::acceptor> acceptor_;
  uint16_t port_ = 0;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                      HttpHandler handler) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(handler));
  MINIM_TRY(impl->Listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

uint16_t HttpServer::port() const { return impl_->port(); }
size_t HttpServer::connections() const { return impl_->connections(); }
bool HttpServer::Drain(std::chrono::milliseconds limit) { return impl_->Drain(limit); }

}  // namespace minim::serve
