// ContextPool: idle execution contexts, handed out and taken back without a lock.
// Threads: any number. Lifetime: outlives its leases.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "exec/cpu/executable.h"

namespace minim {

class ContextPool {
 public:
  ContextPool() = default;
  ContextPool(const ContextPool&) = delete;
  ContextPool& operator=(const ContextPool&) = delete;
  ~ContextPool() {
    for (auto& slot : slots_) delete slot.load();
  }

  /// A context of one's own until the lease ends. A new one is made when none is idle.
  class Lease {
   public:
    explicit Lease(ContextPool& pool) : pool_(pool), context_(pool.Take()) {}
    ~Lease() { pool_.Return(std::move(context_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ExecContext& operator*() const { return *context_; }

   private:
    ContextPool& pool_;
    std::unique_ptr<ExecContext> context_;
  };

  /// Contexts that nobody uses now.
  size_t idle() const {
    size_t count = 0;
    for (const auto& slot : slots_) count += slot.load(std::memory_order_relaxed) != nullptr;
    return count;
  }
  void DropIdle() {
    for (auto& slot : slots_) delete slot.exchange(nullptr, std::memory_order_acquire);
  }

 private:
  std::unique_ptr<ExecContext> Take() {
    for (auto& slot : slots_) {
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      if (ExecContext* context = slot.exchange(nullptr, std::memory_order_acquire))
        return std::unique_ptr<ExecContext>(context);
    }
    return std::make_unique<ExecContext>();
  }

  void Return(std::unique_ptr<ExecContext> context) {
    for (auto& slot : slots_) {
      ExecContext* empty = nullptr;
      if (!slot.compare_exchange_strong(empty, context.get(), std::memory_order_release)) continue;
      (void)context.release();
      return;
    }  // more callers at once than slots: this one's context goes
  }

  std::array<std::atomic<ExecContext*>, 64> slots_{};
};

}  // namespace minim
