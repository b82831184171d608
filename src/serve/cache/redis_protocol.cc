#include "serve/cache/redis_protocol.h"

#include <hiredis/hiredis.h>

#include <charconv>
#include <vector>

namespace minim::serve {
namespace {

constexpr size_t kLongestLine = 4096;  // of errors and numbers
constexpr std::string_view kEnd = "\r\n";

Status Unexpected(std::string_view bytes) {
  return DataLoss("redis: unexpected reply, its first byte is 0x{:02x}",
                  static_cast<unsigned char>(bytes.front()));
}

Result<RedisReply> Taken(const redisReply& reply) {
  switch (reply.type) {
    case REDIS_REPLY_NIL: return RedisReply{};
    case REDIS_REPLY_INTEGER:
      return RedisReply{.kind = RedisReply::Kind::kNumber, .number = reply.integer};
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      return RedisReply{.kind = RedisReply::Kind::kText, .text = {reply.str, reply.len}};
    case REDIS_REPLY_ERROR:
      return RedisReply{.kind = RedisReply::Kind::kError, .text = {reply.str, reply.len}};
    default: return DataLoss("redis: a reply of type {}", reply.type);
  }
}

}  // namespace

std::string RedisCommand(std::initializer_list<std::string_view> arguments) {
  std::vector<const char*> texts;
  std::vector<size_t> sizes;
  for (const std::string_view argument : arguments) {
    texts.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  char* command = nullptr;
  const int size =
      redisFormatCommandArgv(&command, static_cast<int>(texts.size()), texts.data(), sizes.data());
  MINIM_CHECK(size > 0);
  std::string bytes(command, static_cast<size_t>(size));
  redisFreeCommand(command);
  return bytes;
}

Result<size_t> RedisReplySize(std::string_view bytes, size_t most) {
  if (bytes.empty()) return size_t{0};
  if (std::string_view("+-:$").find(bytes.front()) == std::string_view::npos)
    return Unexpected(bytes);
  const size_t line = bytes.substr(0, kLongestLine).find(kEnd);
  if (line == std::string_view::npos) {
    if (bytes.size() < kLongestLine) return size_t{0};
    return DataLoss("redis: a line of more than {} bytes", kLongestLine);
  }
  const size_t head = line + kEnd.size();
  if (bytes.front() == '+' || bytes.front() == '-') return head;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(bytes.data() + 1, bytes.data() + line, number);
  if (error != std::errc() || end != bytes.data() + line)
    return DataLoss("redis: '{}' is no number", bytes.substr(1, std::min<size_t>(line - 1, 32)));
  if (bytes.front() == ':' || number == -1) return head;
  if (number < 0 || static_cast<uint64_t>(number) > most)
    return DataLoss("redis: a value of {} bytes, expected at most {}", number, most);
  const size_t size = head + static_cast<size_t>(number) + kEnd.size();
  if (bytes.size() < size) return size_t{0};
  if (bytes.substr(size - kEnd.size(), kEnd.size()) != kEnd)
    return DataLoss("redis: a value of {} bytes has no end", number);
  return size;
}

RedisReader::RedisReader(size_t most) : most_(most), reader_(redisReaderCreate()) {
  MINIM_CHECK(reader_ != nullptr);
}

RedisReader::~RedisReader() { redisReaderFree(reader_); }

void RedisReader::Feed(std::string_view bytes) {
  if (at_ == bytes_.size()) bytes_.clear(), at_ = 0;
  bytes_.append(bytes);
}

Result<std::optional<RedisReply>> RedisReader::Next() {
  const std::string_view left = std::string_view(bytes_).substr(at_);
  MINIM_TRY(const size_t size, RedisReplySize(left, most_));
  if (size == 0) {
    bytes_.erase(0, at_);
    at_ = 0;
    return std::optional<RedisReply>();
  }
  at_ += size;
  void* made = nullptr;
  if (redisReaderFeed(reader_, left.data(), size) != REDIS_OK ||
      redisReaderGetReply(reader_, &made) != REDIS_OK || made == nullptr)
    return DataLoss("redis: a reply that cannot be read");
  const std::unique_ptr<void, void (*)(void*)> owner(made, freeReplyObject);
  MINIM_TRY(RedisReply reply, Taken(*static_cast<const redisReply*>(made)));
  return std::optional(std::move(reply));
}

}  // namespace minim::serve
