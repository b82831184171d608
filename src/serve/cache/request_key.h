// The cache key of a request: a keyed hash of everything that decides the answer.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "minim/tensor.h"
#include "serve/cache/siphash.h"

namespace minim::serve {

struct KeyParts {
  std::string_view model;
  std::string_view version;
  std::string_view tier;
  /// Differs between two loads of the same version, so that a reload invalidates.
  uint64_t generation = 0;
  /// ModelFileDigest of the tier's file.
  std::string_view content;
  std::span<const std::string> input_names;
  std::span<const ConstView> inputs;
  std::span<const std::string> outputs;
};

Digest128 RequestKey(const Digest128& secret, const KeyParts& parts);

/// The same for every server that runs the same file, whatever was loaded when: SHA-256, 32 bytes.
/// Empty without a content.
std::string SharedRequestKey(const KeyParts& parts);

/// A secret for this process. Reads the system's random source.
Digest128 RandomSecret();

}  // namespace minim::serve
