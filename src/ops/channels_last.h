// What ops share that take their channels last under an attribute.
#pragma once

#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {

/// The permutation from [N,..,C] to [N,C,..].
inline std::vector<int64_t> ChannelsFirst(int rank) {
  std::vector<int64_t> perm = {0, rank - 1};
  for (int i = 1; i + 1 < rank; ++i) perm.push_back(i);
  return perm;
}

/// And back.
inline std::vector<int64_t> ChannelsLast(int rank) {
  std::vector<int64_t> perm = {0};
  for (int i = 2; i < rank; ++i) perm.push_back(i);
  perm.push_back(1);
  return perm;
}

inline bool IsChannelsLast(const Attributes& a) { return a.Int("channels_last", 0) != 0; }

inline Attributes WithoutLayout(Attributes attributes) {
  attributes.Erase("channels_last");
  return attributes;
}

}  // namespace minim::ops
