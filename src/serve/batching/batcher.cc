#include "serve/batching/batcher.h"

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "serve/batching/runner.h"

namespace minim::serve {
namespace {

Status WhyDead(const QueuedJob& queued, TimePoint now) {
  if (queued.job.cancelled && *queued.job.cancelled)
    return Cancelled("the client went away before its turn");
  if (now < queued.job.deadline)
    return ResourceExhausted("the request missed its turn under load; slow down or add instances");
  return DeadlineExceeded(
      "the request waited past its timeout; raise the timeout or add instances");
}

}  // namespace

class Batcher::Impl : public std::enable_shared_from_this<Batcher::Impl> {
 public:
  Impl(std::shared_ptr<const Model> model, BatcherOptions options)
      : warm_budget_(options.warm_budget),
        on_callers_thread_(options.on_callers_thread),
        instances_(options.instances),
        runner_(std::move(model), std::move(options.on_run)),
        scheduler_({options.policy, options.bounds, options.max_queue_rows}, options.instances) {}

  void Start() {
    for (int i = 0; i < instances_; ++i)
      threads_.emplace_back([self = shared_from_this()] { self->Work(); });
    threads_.emplace_back([self = shared_from_this()] { self->Reap(); });
  }

  void Stop() {
    std::vector<JobPtr> waiting;
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      waiting = scheduler_.TakeAll();
    }
    wake_.notify_all();
    reaper_wake_.notify_all();
    for (const JobPtr& queued : waiting)
      queued->job.done({Unavailable("the model is being unloaded; try again"), {}});
    for (std::thread& thread : threads_) {
      // The last owner may be a callback on one of these threads; it ends by itself.
      if (thread.get_id() == std::this_thread::get_id()) {
        thread.detach();
      } else {
        thread.join();
      }
    }
    threads_.clear();
  }

  Status CheckInTime(TimePoint since) const {
    std::lock_guard lock(mutex_);
    return scheduler_.CheckInTime(since, Clock::now());
  }
  Status Submit(BatchJob job);
  Status Warm();

  Status Configure(const BatchSettings& settings) {
    MINIM_TRY(CheckBatchSettings(settings));
    {
      std::lock_guard lock(mutex_);
      scheduler_.Configure(settings);
    }
    wake_.notify_all();  // what waited for the old window may be due
    return {};
  }
  BatchSettings settings() const {
    std::lock_guard lock(mutex_);
    return scheduler_.settings();
  }
  void Sent(Duration after) { sending_.Observe(after); }
  bool batchable() const { return runner_.batchable(); }
  int64_t queued_rows() const {
    std::lock_guard lock(mutex_);
    return scheduler_.queued_rows();
  }
  Duration ExpectedLatency(int64_t rows) const {
    std::lock_guard lock(mutex_);
    return scheduler_.latency().Estimate(rows);
  }

 private:
  void Work();
  void Reap();
  bool AnswerDead(std::unique_lock<std::mutex>& lock);
  void Answer(std::vector<JobPtr> dead, std::unique_lock<std::mutex>& lock);
  bool RunNext(std::unique_lock<std::mutex>& lock, TimePoint& until);
  void Run(JobQueue::Choice choice, std::unique_lock<std::mutex>& lock);

  const Duration warm_budget_;
  const Duration on_callers_thread_;
  const int instances_;
  BatchRunner runner_;
  std::vector<std::thread> threads_;
  SendingTime sending_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable reaper_wake_;
  BatchScheduler scheduler_;              // guarded by mutex_
  TimePoint reap_at_ = TimePoint::max();  // guarded by mutex_
  bool stop_ = false;                     // guarded by mutex_
};

Status Batcher::Impl::Submit(BatchJob job) {
  auto queued = std::make_unique<QueuedJob>();
  queued->arrival = Clock::now();
  queued->may_slice = batchable();
  if (batchable()) {
    queued->rows = job.inputs[0].dims()[0];
    if (queued->rows < 1)
      return InvalidArgument("found {} rows, expected at least 1", queued->rows);
    for (const Tensor& input : job.inputs) queued->may_slice &= input.dims()[0] == queued->rows;
  }
  queued->alone = !queued->may_slice || !job.may_batch;
  queued->job = std::move(job);
  const TimePoint deadline = queued->job.deadline;
  const int64_t rows = queued->rows;
  std::unique_lock lock(mutex_);
  if (stop_) return Unavailable("the model is being unloaded; try again");
  scheduler_.SetSending(sending_.High());
  const bool first = scheduler_.empty() && scheduler_.idle();
  // A refused job, and what it owns, goes after the lock.
  MINIM_TRY(scheduler_.Submit(queued, queued->arrival));
  const LatencyModel& latency = scheduler_.latency();
  TimePoint until;
  if (first && !latency.empty() && latency.High(rows) < on_callers_thread_ &&
      RunNext(lock, until)) {
    const bool more = !scheduler_.empty();
    lock.unlock();
    if (more) wake_.notify_one();  // while it ran, nobody else was told
    return {};
  }
  const bool sooner = deadline < reap_at_;
  lock.unlock();
  wake_.notify_one();
  if (sooner) reaper_wake_.notify_one();
  return {};
}

void Batcher::Impl::Answer(std::vector<JobPtr> dead, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  const TimePoint now = Clock::now();
  for (const JobPtr& queued : dead)
    queued->job.done({WhyDead(*queued, now), {.queue = now - queued->arrival}});
  dead.clear();  // its callbacks may own more than they say: not under the lock
  lock.lock();
}

bool Batcher::Impl::AnswerDead(std::unique_lock<std::mutex>& lock) {
  std::vector<JobPtr> dead = scheduler_.TakeDead(Clock::now());
  if (dead.empty()) return false;
  Answer(std::move(dead), lock);
  return true;
}

void Batcher::Impl::Run(JobQueue::Choice choice, std::unique_lock<std::mutex>& lock) {
  const int instance = scheduler_.Begin(choice.batch, Clock::now());
  const int64_t max_rows = scheduler_.settings().bounds.max_batch;
  const bool more = !scheduler_.empty();
  lock.unlock();
  if (more) wake_.notify_one();
  const auto outcome = runner_.Run({std::move(choice.batch), choice.reason, max_rows});
  lock.lock();
  scheduler_.End(instance, outcome.time, outcome.typical, Clock::now());
}

// Runs what the scheduler wants to run now. False if that is nothing, before `until` at least; or
// until a caller's thread, which has the instance, says so.
bool Batcher::Impl::RunNext(std::unique_lock<std::mutex>& lock, TimePoint& until) {
  until = TimePoint::max();
  if (!scheduler_.idle()) return false;
  auto choice = scheduler_.Next(Clock::now());
  until = choice.until;
  if (!choice.dropped.empty()) Answer(std::move(choice.dropped), lock);
  if (choice.batch.empty()) return false;
  Run(std::move(choice), lock);
  return true;
}

void Batcher::Impl::Work() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    TimePoint until;
    if (AnswerDead(lock) || RunNext(lock, until)) continue;
    if (until == TimePoint::max()) {
      wake_.wait(lock);
    } else {
      wake_.wait_until(lock, until);
    }
  }
}

// Deadlines fire on time even while every instance is busy.
void Batcher::Impl::Reap() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (AnswerDead(lock)) continue;
    reap_at_ = scheduler_.NextDeadline().value_or(TimePoint::max());
    if (reap_at_ == TimePoint::max()) {
      reaper_wake_.wait(lock);
    } else {
      reaper_wake_.wait_until(lock, reap_at_);
    }
  }
}

Status Batcher::Impl::Warm() {
  const TimePoint start = Clock::now();
  const int64_t cap = batchable() ? settings().bounds.max_batch : 1;
  std::set<int64_t> sizes = {cap};
  for (int64_t rows = 1; rows < cap; rows *= 2) {
    sizes.insert(rows);
    if (rows > 1 && rows + rows / 2 < cap) sizes.insert(rows + rows / 2);
  }
  for (const int64_t rows : sizes) MINIM_TRY(runner_.Warm(rows));
  for (int64_t rows = 1; rows < cap && Clock::now() - start < warm_budget_; ++rows)
    if (sizes.insert(rows).second) MINIM_TRY(runner_.Warm(rows));
  const bool all = static_cast<int64_t>(sizes.size()) == cap;
  std::lock_guard lock(mutex_);
  scheduler_.SetSizes(all ? std::vector<int64_t>() : std::vector(sizes.begin(), sizes.end()));
  return {};
}

Batcher::Batcher(std::shared_ptr<const Model> model, BatcherOptions options)
    : impl_(std::make_shared<Impl>(std::move(model), std::move(options))) {
  impl_->Start();
}

Batcher::~Batcher() { impl_->Stop(); }

Status Batcher::Warm() { return impl_->Warm(); }
Status Batcher::CheckInTime(TimePoint since) const { return impl_->CheckInTime(since); }
Status Batcher::Submit(BatchJob job) { return impl_->Submit(std::move(job)); }
void Batcher::Stop() { impl_->Stop(); }
Status Batcher::Configure(const BatchSettings& settings) { return impl_->Configure(settings); }
BatchSettings Batcher::settings() const { return impl_->settings(); }
void Batcher::Sent(Duration after) { impl_->Sent(after); }
bool Batcher::batchable() const { return impl_->batchable(); }
int64_t Batcher::queued_rows() const { return impl_->queued_rows(); }
Duration Batcher::ExpectedLatency(int64_t rows) const { return impl_->ExpectedLatency(rows); }

}  // namespace minim::serve
