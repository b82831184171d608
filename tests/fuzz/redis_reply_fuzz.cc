// Replies of a server that claims to be Redis: read or refused, never more memory than was sent.
#include <cstdint>

#include "serve/cache/redis_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMost = 1 << 16;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  minim::serve::RedisReader reader(kMost);
  for (size_t at = 0; at < size; at += 7) {  // as a socket might cut them
    reader.Feed(bytes.substr(at, 7));
    while (true) {
      const auto reply = reader.Next();
      if (!reply.ok()) return 0;
      if (!reply->has_value()) break;
      if ((*reply)->text.size() > size) __builtin_trap();
    }
  }
  return 0;
}
