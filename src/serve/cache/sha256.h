// SHA-256 for what servers share: clients that choose the bytes cannot make two of one digest.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/file.h"
#include "serve/cache/siphash.h"

struct evp_md_ctx_st;

namespace minim::serve {

/// Streaming form: Update any number of times, then Finish once.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  /// A length prefix keeps ("ab","c") and ("a","bc") apart.
  void UpdateFramed(std::string_view bytes);
  /// Little-endian on every machine.
  void UpdateNumber(uint64_t value);
  /// 32 bytes.
  std::string Finish();

 private:
  evp_md_ctx_st* context_;
};

/// Of all that decides what a model file computes; empty where that is not the file alone (weights
/// in files of their own) or it cannot be read. Takes a second for 1.8 GB.
std::string ModelFileDigest(const Path& file);

}  // namespace minim::serve
