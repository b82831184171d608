#include "core/thread_pool.h"

#include <algorithm>
#include <chrono>

namespace minim {
namespace {

constexpr auto kSpinTime = std::chrono::microseconds(100);

void Pause() { __builtin_ia32_pause(); }

}  // namespace

struct ThreadPool::Job {
  FunctionRef<void(int)> piece;
  int pieces;
  std::atomic<int> next{0};
  std::atomic<int> helpers{0};  // workers inside RunPieces; raised under mutex_
  int seats;                    // workers that may still join; guarded by mutex_
  Job* following = nullptr;     // guarded by mutex_
};

ThreadPool::ThreadPool(int workers) {
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { WorkerLoop(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::RunPieces(Job& job) {
  for (int i = job.next.fetch_add(1, std::memory_order_relaxed); i < job.pieces;
       i = job.next.fetch_add(1, std::memory_order_relaxed)) {
    job.piece(i);
  }
}

void ThreadPool::ParallelFor(int pieces, int threads, FunctionRef<void(int)> piece) {
  const int helpers = std::min({threads - 1, pieces - 1, workers()});
  Job job{.piece = piece, .pieces = pieces, .seats = helpers};
  if (helpers <= 0) return RunPieces(job);
  bool anyone_asleep = false;
  {
    std::lock_guard lock(mutex_);
    job.following = jobs_;
    jobs_ = &job;
    open_jobs_.fetch_add(1, std::memory_order_release);
    anyone_asleep = sleepers_ > 0;
  }
  if (anyone_asleep) helpers > 1 ? wake_.notify_all() : wake_.notify_one();
  RunPieces(job);
  {
    std::lock_guard lock(mutex_);
    Job** link = &jobs_;
    while (*link != &job) link = &(*link)->following;
    *link = job.following;
    open_jobs_.fetch_sub(1, std::memory_order_release);
  }
  while (job.helpers.load(std::memory_order_acquire) > 0) Pause();
}

bool ThreadPool::RunOneJob() {
  Job* job = nullptr;
  {
    std::lock_guard lock(mutex_);
    for (job = jobs_; job != nullptr; job = job->following) {
      if (job->seats > 0 && job->next.load(std::memory_order_relaxed) < job->pieces) break;
    }
    if (job == nullptr) return false;
    --job->seats;
    job->helpers.fetch_add(1, std::memory_order_relaxed);
  }
  RunPieces(*job);
  job->helpers.fetch_sub(1, std::memory_order_release);  // the job may be gone after this line
  return true;
}

void ThreadPool::WorkerLoop() {
  auto idle_since = std::chrono::steady_clock::now();
  while (!stop_.load(std::memory_order_relaxed)) {
    if (open_jobs_.load(std::memory_order_acquire) > 0 && RunOneJob()) {
      idle_since = std::chrono::steady_clock::now();
      continue;
    }
    if (std::chrono::steady_clock::now() - idle_since < kSpinTime) {
      Pause();
      continue;
    }
    std::unique_lock lock(mutex_);
    ++sleepers_;
    wake_.wait(lock, [this] {
      if (stop_) return true;
      for (Job* job = jobs_; job != nullptr; job = job->following) {
        if (job->seats > 0) return true;
      }
      return false;
    });
    --sleepers_;
    idle_since = std::chrono::steady_clock::now();
  }
}

}  // namespace minim
