// HeldConstants: the constants of a program's graph, between compilations held once: where a kernel
// has packed one and nobody reads it any more, the pack stands for it and gives it back when the
// next binding is compiled.
// Threads: may be used concurrently.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "graph/graph.h"
#include "kernels/kernel.h"

namespace minim {

class HeldConstants {
 public:
  explicit HeldConstants(std::map<ValueId, Tensor> constants) : whole_(std::move(constants)) {}

  /// All of them. Tensors that packs stand for are made anew.
  std::map<ValueId, Tensor> All() const;
  /// Lets go of those that only this object refers to and that a pack of `packs` gives back. To be
  /// called when the copies that All() gave are gone.
  void LetGo(PackStore& packs);
  /// Of those that packs do not stand for.
  size_t bytes() const;

 private:
  struct Parked {
    DType dtype;
    Dims dims;
    PackStore::Origin origin;
  };

  mutable std::mutex mutex_;
  std::map<ValueId, Tensor> whole_;         // guarded by mutex_
  std::map<ValueId, Parked> parked_;        // guarded by mutex_
  std::map<ValueId, std::string> digests_;  // guarded by mutex_
};

}  // namespace minim
