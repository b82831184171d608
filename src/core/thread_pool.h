// ThreadPool: minim's only source of parallelism. A caller hands over numbered pieces of work and
// takes part itself; idle workers spin briefly, then sleep.
// Threads: ParallelFor may be called from any thread at once, also from inside a piece.
// Lifetime: the pool outlives every call; a call returns after its last piece.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "core/function_ref.h"

namespace minim {

class ThreadPool {
 public:
  /// `workers` threads besides the callers; 0 is valid.
  explicit ThreadPool(int workers);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int workers() const { return static_cast<int>(threads_.size()); }

  /// Calls piece(0) .. piece(pieces - 1), each once, on at most `threads` threads, the caller among
  /// them. Allocates nothing.
  void ParallelFor(int pieces, int threads, FunctionRef<void(int)> piece);

 private:
  struct Job;
  void WorkerLoop();
  bool RunOneJob();
  static void RunPieces(Job& job);

  std::mutex mutex_;
  std::condition_variable wake_;
  Job* jobs_ = nullptr;            // guarded by mutex_
  int sleepers_ = 0;               // guarded by mutex_
  std::atomic<int> open_jobs_{0};  // jobs that may still want a worker
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

/// A context's share of a pool: at most `threads` threads, the caller included.
struct ThreadBudget {
  ThreadPool* pool = nullptr;
  int threads = 1;

  void ParallelFor(int pieces, FunctionRef<void(int)> piece) const {
    if (pool == nullptr || threads <= 1 || pieces <= 1) {
      for (int i = 0; i < pieces; ++i) piece(i);
      return;
    }
    pool->ParallelFor(pieces, threads, piece);
  }

  /// Cuts [0, n) into at most `threads` contiguous ranges of at least `grain` items and calls
  /// body(first, last) for each.
  void ParallelRange(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) const {
    if (n <= 0) return;
    const int64_t most = grain > 0 ? (n + grain - 1) / grain : n;
    const int pieces = static_cast<int>(most < threads ? most : threads);
    if (pieces <= 1) return body(0, n);
    ParallelFor(pieces, [&](int i) { body(n * i / pieces, n * (i + 1) / pieces); });
  }
};

}  // namespace minim
