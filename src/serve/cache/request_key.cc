#include "serve/cache/request_key.h"

#include <random>

#include "serve/cache/sha256.h"

namespace minim::serve {
namespace {

// Of what servers keep, and of how: another number where either changes.
constexpr uint64_t kSharedForm = 1;

template <typename Hash>
void AddRequest(Hash& hash, const KeyParts& parts) {
  hash.UpdateFramed(parts.model);
  hash.UpdateFramed(parts.version);
  hash.UpdateFramed(parts.tier);
  hash.UpdateNumber(parts.inputs.size());
  for (size_t i = 0; i < parts.inputs.size(); ++i) {
    const ConstView& input = parts.inputs[i];
    hash.UpdateFramed(parts.input_names[i]);
    hash.UpdateNumber(static_cast<uint64_t>(input.dtype));
    hash.UpdateNumber(static_cast<uint64_t>(input.dims.rank()));
    for (const int64_t size : input.dims) hash.UpdateNumber(static_cast<uint64_t>(size));
    hash.UpdateFramed({static_cast<const char*>(input.data), input.bytes()});
  }
  hash.UpdateNumber(parts.outputs.size());
  for (const std::string& output : parts.outputs) hash.UpdateFramed(output);
}

}  // namespace

Digest128 RequestKey(const Digest128& secret, const KeyParts& parts) {
  SipHash128 hash(secret);
  hash.UpdateNumber(parts.generation);
  AddRequest(hash, parts);
  return hash.Finish();
}

std::string SharedRequestKey(const KeyParts& parts) {
  if (parts.content.empty()) return {};
  Sha256 hash;
  hash.UpdateNumber(kSharedForm);
  hash.UpdateFramed(parts.content);
  AddRequest(hash, parts);
  return hash.Finish();
}

Digest128 RandomSecret() {
  std::random_device random;
  const auto word = [&] { return (static_cast<uint64_t>(random()) << 32) | random(); };
  Digest128 secret;
  secret.low = word();
  secret.high = word();
  return secret;
}

}  // namespace minim::serve
