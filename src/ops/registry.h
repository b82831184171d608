// The list of ops that CMake generates from minim_op() lines.
#pragma once

#include "ops/op_def.h"

namespace minim::ops {

std::vector<OpDef> MakeAllOps();

inline void Append(std::vector<OpDef>& all, OpDef def) { all.push_back(std::move(def)); }
inline void Append(std::vector<OpDef>& all, std::vector<OpDef> defs) {
  for (OpDef& def : defs) all.push_back(std::move(def));
}

}  // namespace minim::ops
