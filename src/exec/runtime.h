// Runtime: what every plan of a process shares: the instruction-set level, the thread pool and the
// packed weights.
// Threads: may be used concurrently. Lifetime: shared; sessions keep it alive.
#pragma once

#include <memory>

#include "kernels/kernel.h"

namespace minim {

class Runtime {
 public:
  /// `workers` threads besides the callers.
  Runtime(Isa isa, int workers)
      : isa_(isa), pool_(std::make_unique<ThreadPool>(workers)), packs_(MakePackStore()) {}

  /// The level of MINIM_ISA or the CPU, one worker less than there are cores. Made on first use;
  /// later calls return the same one while anyone holds it.
  static Result<std::shared_ptr<Runtime>> Default();

  Isa isa() const { return isa_; }
  ThreadPool& pool() { return *pool_; }
  PackStore& packs() { return *packs_; }

 private:
  Isa isa_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<PackStore> packs_;
};

}  // namespace minim
