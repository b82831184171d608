// The part of Redis's protocol (RESP2) that a cache speaks: commands out, short replies in.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

struct redisReader;

namespace minim::serve {

/// Arguments may hold any bytes.
std::string RedisCommand(std::initializer_list<std::string_view> arguments);

struct RedisReply {
  enum class Kind { kNil, kText, kNumber, kError };
  Kind kind = Kind::kNil;
  std::string text;  // of kText and kError
  int64_t number = 0;
};

/// The bytes of the first reply in `bytes`; 0 while some are missing. What comes is checked before
/// memory is reserved for it: values of at most `most` bytes, no arrays, as no command asks for
/// one. Errors: kDataLoss for anything else.
Result<size_t> RedisReplySize(std::string_view bytes, size_t most);

/// Replies out of a stream of bytes.
/// Threads: one at a time.
class RedisReader {
 public:
  explicit RedisReader(size_t most);
  ~RedisReader();
  RedisReader(const RedisReader&) = delete;
  RedisReader& operator=(const RedisReader&) = delete;

  void Feed(std::string_view bytes);
  /// The next reply, or nothing until there is more. Errors: those of RedisReplySize; the stream
  /// cannot be read on then.
  Result<std::optional<RedisReply>> Next();

 private:
  const size_t most_;
  std::string bytes_;
  size_t at_ = 0;  // of bytes_; what is before it was read
  redisReader* reader_;
};

}  // namespace minim::serve
