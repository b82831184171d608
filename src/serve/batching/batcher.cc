#include "serve/batching/batcher.h"

#include <cmath>
#include <condition_variable>
#include <mutex>
#include <new>
#include <set>
#include <thread>

#include "serve/batching/job_queue.h"
#include "serve/batching/rows.h"

namespace minim::serve {
namespace {

constexpr double kRateSeconds = 0.5;  // over which arrivals are averaged
constexpr size_t kMaxKnownDims = 4096;

// The arrivals of late as an exponentially fading sum.
class ArrivalRate {
 public:
  void Add(int64_t rows, TimePoint now) {
    per_second_ = At(now) + static_cast<double>(rows) / kRateSeconds;
    last_ = now;
  }
  double At(TimePoint now) const {
    return per_second_ *
           std::exp(-std::chrono::duration<double>(now - last_).count() / kRateSeconds);
  }

 private:
  double per_second_ = 0;
  TimePoint last_;
};

std::vector<ConstView> ViewsOf(const std::vector<Tensor>& tensors) {
  std::vector<ConstView> views;
  for (const Tensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

std::vector<int64_t> Flat(const std::vector<Dims>& all) {
  std::vector<int64_t> flat;
  for (const Dims& dims : all) {
    flat.push_back(dims.rank());
    flat.insert(flat.end(), dims.begin(), dims.end());
  }
  return flat;
}

// Joins the inputs of several jobs, input by input.
std::vector<Tensor> JoinInputs(const std::vector<QueuedJob>& batch) {
  std::vector<Tensor> joined;
  std::vector<const Tensor*> parts(batch.size());
  for (size_t i = 0; i < batch[0].job.inputs.size(); ++i) {
    for (size_t j = 0; j < batch.size(); ++j) parts[j] = &batch[j].job.inputs[i];
    joined.push_back(ConcatRows(parts));
  }
  return joined;
}

Status CheckRows(const Model& model, const std::vector<Tensor>& outputs, int64_t rows) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].dims().rank() == 0 || outputs[i].dims()[0] != rows)
      return Internal(
          "output '{}' has dims {} for a batch of {} rows: the model mixes rows, ask "
          "for \"use_batching\": false",
          model.outputs()[i].name, outputs[i].dims().ToString(), rows);
  }
  return {};
}

Status WhyDead(const QueuedJob& queued) {
  if (queued.job.cancelled && *queued.job.cancelled)
    return Cancelled("the client went away before its turn");
  return DeadlineExceeded(
      "the request waited past its timeout; raise the timeout or add instances");
}

}  // namespace

class Batcher::Impl : public std::enable_shared_from_this<Batcher::Impl> {
 public:
  Impl(std::shared_ptr<const Model> model, BatcherOptions options)
      : model_(std::move(model)), options_(std::move(options)), batchable_(IsBatchable(*model_)) {}

  void Start() {
    for (int i = 0; i < options_.instances; ++i)
      threads_.emplace_back([self = shared_from_this()] { self->Work(); });
    threads_.emplace_back([self = shared_from_this()] { self->Reap(); });
  }

  void Stop() {
    std::vector<QueuedJob> waiting;
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      waiting = queue_.TakeAll();
    }
    wake_.notify_all();
    reaper_wake_.notify_all();
    for (QueuedJob& queued : waiting)
      Answer(queued, {Unavailable("the model is being unloaded; try again"), {}});
    for (std::thread& thread : threads_) {
      // The last owner may be a callback on one of these threads; it ends by itself.
      if (thread.get_id() == std::this_thread::get_id()) {
        thread.detach();
      } else {
        thread.join();
      }
    }
  }

  Status Submit(BatchJob job);
  Status Warm();
  bool batchable() const { return batchable_; }
  int64_t queued_rows() const {
    std::lock_guard lock(mutex_);
    return queue_.rows();
  }

 private:
  static void Answer(QueuedJob& queued, BatchResult result) { queued.job.done(std::move(result)); }
  void Work();
  void Reap();
  bool AnswerDead(std::unique_lock<std::mutex>& lock);
  void WaitForWork(std::unique_lock<std::mutex>& lock, TimePoint until);
  void RunBatch(std::vector<QueuedJob> batch);
  void RunOne(QueuedJob& queued, TimePoint taken);
  void AnswerParts(std::vector<QueuedJob>& batch, const std::vector<Tensor>& outputs,
                   BatchTimes times, TimePoint taken);
  Result<std::vector<Tensor>> RunModel(const std::vector<Tensor>& inputs, int64_t rows,
                                       BatchTimes& times);
  Result<std::vector<Tensor>> RunSliced(const QueuedJob& queued, BatchTimes& times);
  bool FirstWith(const std::vector<int64_t>& dims);

  const std::shared_ptr<const Model> model_;
  const BatcherOptions options_;
  const bool batchable_;
  std::vector<std::thread> threads_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable reaper_wake_;
  JobQueue queue_;                             // guarded by mutex_
  LatencyModel latency_;                       // guarded by mutex_
  ArrivalRate rate_;                           // guarded by mutex_
  TimePoint reap_at_ = TimePoint::max();       // guarded by mutex_
  bool stop_ = false;                          // guarded by mutex_
  std::set<std::vector<int64_t>> known_dims_;  // guarded by mutex_
};

Status Batcher::Impl::Submit(BatchJob job) {
  QueuedJob queued{.arrival = Clock::now()};
  queued.may_slice = batchable_;
  if (batchable_) {
    queued.rows = job.inputs[0].dims()[0];
    for (const Tensor& input : job.inputs) queued.may_slice &= input.dims()[0] == queued.rows;
  }
  queued.alone = !queued.may_slice || !job.may_batch;
  queued.job = std::move(job);
  const TimePoint deadline = queued.job.deadline;
  std::unique_lock lock(mutex_);
  if (stop_) return Unavailable("the model is being unloaded; try again");
  if (!queue_.empty() && queue_.rows() + queued.rows > options_.max_queue_rows)
    return ResourceExhausted("{} rows wait already, {} at most: slow down or add instances",
                             queue_.rows(), options_.max_queue_rows);
  rate_.Add(queued.rows, queued.arrival);
  queue_.Push(std::move(queued));
  const bool sooner = deadline < reap_at_;
  lock.unlock();
  wake_.notify_one();
  if (sooner) reaper_wake_.notify_one();
  return {};
}

bool Batcher::Impl::AnswerDead(std::unique_lock<std::mutex>& lock) {
  std::vector<QueuedJob> dead = queue_.TakeDead(Clock::now());
  if (dead.empty()) return false;
  lock.unlock();
  for (QueuedJob& queued : dead)
    Answer(queued, {WhyDead(queued), {.queue = Clock::now() - queued.arrival}});
  dead.clear();  // its callbacks may own more than they say: not under the lock
  lock.lock();
  return true;
}

void Batcher::Impl::WaitForWork(std::unique_lock<std::mutex>& lock, TimePoint until) {
  if (until == TimePoint::max()) {
    wake_.wait(lock);
  } else {
    wake_.wait_until(lock, until);
  }
}

void Batcher::Impl::Work() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (AnswerDead(lock)) continue;
    if (queue_.empty()) {
      wake_.wait(lock);
      continue;
    }
    const TimePoint now = Clock::now();
    auto choice = queue_.Take(options_, latency_, rate_.At(now), now);
    if (choice.batch.empty()) {
      WaitForWork(lock, choice.until);
      continue;
    }
    const bool more = !queue_.empty();
    lock.unlock();
    if (more) wake_.notify_one();
    RunBatch(std::move(choice.batch));
    lock.lock();
  }
}

// Deadlines fire on time even while every instance is busy.
void Batcher::Impl::Reap() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (AnswerDead(lock)) continue;
    reap_at_ = queue_.NextDeadline().value_or(TimePoint::max());
    if (reap_at_ == TimePoint::max()) {
      reaper_wake_.wait(lock);
    } else {
      reaper_wake_.wait_until(lock, reap_at_);
    }
  }
}

void Batcher::Impl::RunBatch(std::vector<QueuedJob> batch) {
  const TimePoint taken = Clock::now();
  if (batch.size() == 1) return RunOne(batch[0], taken);
  BatchTimes times;
  for (const QueuedJob& queued : batch) times.batch_rows += queued.rows;
  const std::vector<Tensor> inputs = JoinInputs(batch);
  times.input = Clock::now() - taken;
  auto outputs = RunModel(inputs, times.batch_rows, times);
  if (outputs.ok() && CheckRows(*model_, *outputs, times.batch_rows).ok())
    return AnswerParts(batch, *outputs, times, taken);
  // One of them may be the cause: the others must not suffer for it.
  for (QueuedJob& queued : batch) RunOne(queued, taken);
}

void Batcher::Impl::RunOne(QueuedJob& queued, TimePoint taken) {
  BatchTimes times{.queue = taken - queued.arrival, .batch_rows = queued.rows};
  const bool above_cap = queued.may_slice && queued.rows > options_.bounds.max_batch;
  auto outputs =
      above_cap ? RunSliced(queued, times) : RunModel(queued.job.inputs, queued.rows, times);
  Answer(queued, {std::move(outputs), times});
}

void Batcher::Impl::AnswerParts(std::vector<QueuedJob>& batch, const std::vector<Tensor>& outputs,
                                BatchTimes times, TimePoint taken) {
  int64_t first = 0;
  for (QueuedJob& queued : batch) {
    const TimePoint start = Clock::now();
    std::vector<Tensor> rows;
    for (const Tensor& output : outputs)
      rows.push_back(SliceRows(output.view(), first, queued.rows));
    first += queued.rows;
    times.queue = taken - queued.arrival;
    times.output = Clock::now() - start;
    Answer(queued, {std::move(rows), times});
  }
}

// A request above the cap runs in slices, so that the cap bounds memory whatever clients send.
Result<std::vector<Tensor>> Batcher::Impl::RunSliced(const QueuedJob& queued, BatchTimes& times) {
  const int64_t cap = options_.bounds.max_batch;
  std::vector<std::vector<Tensor>> slices;
  for (int64_t first = 0; first < queued.rows; first += cap) {
    const int64_t rows = std::min(cap, queued.rows - first);
    std::vector<Tensor> inputs;
    for (const Tensor& input : queued.job.inputs)
      inputs.push_back(SliceRows(input.view(), first, rows));
    MINIM_TRY(std::vector<Tensor> outputs, RunModel(inputs, rows, times));
    MINIM_TRY(CheckRows(*model_, outputs, rows));
    slices.push_back(std::move(outputs));
  }
  std::vector<Tensor> joined;
  std::vector<const Tensor*> parts(slices.size());
  for (size_t i = 0; i < slices[0].size(); ++i) {
    for (size_t s = 0; s < slices.size(); ++s) parts[s] = &slices[s][i];
    joined.push_back(ConcatRows(parts));
  }
  times.batch_rows = cap;
  return joined;
}

bool Batcher::Impl::FirstWith(const std::vector<int64_t>& dims) {
  std::lock_guard lock(mutex_);
  if (known_dims_.size() >= kMaxKnownDims) known_dims_.clear();
  return known_dims_.insert(dims).second;
}

Result<std::vector<Tensor>> Batcher::Impl::RunModel(const std::vector<Tensor>& inputs, int64_t rows,
                                                    BatchTimes& times) {
  std::vector<Dims> dims;
  for (const Tensor& input : inputs) dims.push_back(input.dims());
  RunReport report{.rows = rows, .cold = FirstWith(Flat(dims))};
  const TimePoint start = Clock::now();
  Result<std::vector<Tensor>> outputs = Internal("the model did not run");
  try {
    outputs = model_->Run(ViewsOf(inputs));
  } catch (const std::bad_alloc&) {
    outputs = ResourceExhausted("not enough memory for a run with {} rows", rows);
  }
  report.time = Clock::now() - start;
  report.ok = outputs.ok();
  times.infer += report.time;
  if (outputs.ok() && outputs->size() != model_->outputs().size())
    outputs = Internal("the model gave {} outputs, it declares {}", outputs->size(),
                       model_->outputs().size());
  if (report.ok && !report.cold) {
    std::lock_guard lock(mutex_);
    latency_.Observe(rows, report.time);
  }
  if (options_.on_run) options_.on_run(report);
  return outputs;
}

Status Batcher::Impl::Warm() {
  const TimePoint start = Clock::now();
  const auto warm = [&](int64_t rows) -> Status {
    const auto dims = DimsForRows(*model_, rows);
    if (!dims || !FirstWith(Flat(*dims))) return {};
    return Annotate(model_->Warm(*dims), fmt::format("preparing a batch of {}", rows));
  };
  const int64_t cap = batchable_ ? options_.bounds.max_batch : 1;
  for (int64_t rows = 1; rows < cap; rows *= 2) MINIM_TRY(warm(rows));
  MINIM_TRY(warm(cap));
  for (int64_t rows = 3; rows < cap && Clock::now() - start < options_.warm_budget; ++rows)
    MINIM_TRY(warm(rows));
  return {};
}

Batcher::Batcher(std::shared_ptr<const Model> model, BatcherOptions options)
    : impl_(std::make_shared<Impl>(std::move(model), std::move(options))) {
  impl_->Start();
}

Batcher::~Batcher() { impl_->Stop(); }

Status Batcher::Warm() { return impl_->Warm(); }
Status Batcher::Submit(BatchJob job) { return impl_->Submit(std::move(job)); }
bool Batcher::batchable() const { return impl_->batchable(); }
int64_t Batcher::queued_rows() const { return impl_->queued_rows(); }

}  // namespace minim::serve
