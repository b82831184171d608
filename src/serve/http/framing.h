// Message framing: where a request's body ends. Stricter than the header parser below it, because
// a front proxy and we must never disagree about that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "serve/http/message.h"

namespace minim::serve {

/// The request line's version as 10 * major + minor, and the fields.
struct HttpHead {
  std::string method;
  std::string target;
  int version = 11;
  Headers headers;
};

struct Framing {
  bool chunked = false;
  uint64_t length = 0;
  bool keep_alive = true;
  bool expect_continue = false;
};

struct FramingError {
  int http_status = 400;
  std::string message;
};

/// What follows the head. Fills `error` and returns nothing if the request must be refused.
std::optional<Framing> DecideFraming(const HttpHead& head, uint64_t max_body, FramingError& error);

/// Takes chunked coding apart, piece by piece. Trailers are read and dropped, within a bound.
class ChunkDecoder {
 public:
  explicit ChunkDecoder(uint64_t max_body) : max_body_(max_body) {}

  /// Consumes from `input`, appends to `body`. False: refuse the request, see error().
  bool Feed(std::string_view& input, std::string& body);
  bool done() const { return state_ == State::kDone; }
  const FramingError& error() const { return error_; }

 private:
  enum class State { kSize, kData, kDataEnd, kTrailer, kDone };
  bool Fail(int http_status, std::string message);
  bool FeedLine(std::string_view& input, std::string& body);
  bool TakeLine(const std::string& body);
  bool TakeSize(const std::string& body);

  const uint64_t max_body_;
  State state_ = State::kSize;
  std::string line_;
  uint64_t remaining_ = 0;
  size_t trailer_bytes_ = 0;
  FramingError error_;
};

}  // namespace minim::serve
