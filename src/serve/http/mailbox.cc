#include "serve/http/mailbox.h"

#include <boost/asio/post.hpp>

namespace minim::serve {

namespace asio = boost::asio;

struct Mailbox::Letter {
  std::shared_ptr<Exchange> exchange;
  HttpResponse response;
};

Mailbox::Mailbox(std::shared_ptr<asio::io_context> context) : context_(std::move(context)) {}
Mailbox::~Mailbox() = default;

void Mailbox::Deliver(std::shared_ptr<Exchange> exchange, HttpResponse response) {
  if (context_->get_executor().running_in_this_thread()) {
    exchange->response = std::move(response);
    exchange->wake.cancel();
    return;
  }
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    first = letters_.empty();
    letters_.push_back({std::move(exchange), std::move(response)});
  }
  // Weak: the context must not own what owns it.
  if (first)
    asio::post(*context_, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->Empty();
    });
}

void Mailbox::Empty() {
  {
    std::lock_guard lock(mutex_);
    opened_.swap(letters_);
  }
  for (Letter& letter : opened_) {
    letter.exchange->response = std::move(letter.response);
    letter.exchange->wake.cancel();
  }
  opened_.clear();
}

}  // namespace minim::serve
