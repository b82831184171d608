// Runtime: what every plan of a process shares: the instruction-set level, the thread pool and the
// packed weights.
// Threads: may be used concurrently. Lifetime: shared; sessions keep it alive.
#pragma once

#include <memory>

#include "exec/tuning.h"
#include "kernels/kernel.h"

namespace minim {

class Runtime {
 public:
  /// `workers` threads besides the callers.
  Runtime(Isa isa, int workers)
      : isa_(isa), pool_(std::make_shared<ThreadPool>(workers)), packs_(MakePackStore()) {}
  /// The same level, threads and tuning; packed weights go through `packs`.
  Runtime(const Runtime& other, std::shared_ptr<PackStore> packs)
      : isa_(other.isa_), pool_(other.pool_), packs_(std::move(packs)), tuning_(other.tuning_) {}
  /// The same level, threads and packed weights, chosen by `tuning`.
  Runtime(const Runtime& other, Tuning tuning)
      : isa_(other.isa_),
        pool_(other.pool_),
        packs_(other.packs_),
        tuning_(std::make_shared<Tuning>(std::move(tuning))) {}

  /// The level of MINIM_ISA or the CPU, one worker less than there are cores, what
  /// TuningFile::DefaultPath() has for the level. Made on first use; later calls return the same
  /// one while anyone holds it. Errors: those of an unknown level and of a broken tuning file.
  static Result<std::shared_ptr<Runtime>> Default();
  /// Portable kernels and no workers, for answers that must not depend on the fast rows.
  static std::shared_ptr<Runtime> Portable();

  Isa isa() const { return isa_; }
  ThreadPool& pool() { return *pool_; }
  PackStore& packs() { return *packs_; }
  const Tuning& tuning() const { return *tuning_; }

 private:
  Isa isa_;
  std::shared_ptr<ThreadPool> pool_;
  std::shared_ptr<PackStore> packs_;
  std::shared_ptr<const Tuning> tuning_ = std::make_shared<Tuning>();
};

}  // namespace minim
