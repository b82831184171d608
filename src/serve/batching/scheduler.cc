#include "serve/batching/scheduler.h"

#include <algorithm>
#include <cmath>

namespace minim::serve {
namespace {

constexpr double kRateSeconds = 0.5;  // over which arrivals are averaged
constexpr double kLowShare = 0.1;     // of the rows, that lower levels get at least
// Of the rows, those that may be answered late: so few that the 99th percentile is in time.
constexpr double kLateShare = 0.008;
constexpr double kMaxLateCredit = 64;
constexpr int kLateTargets = 10;  // latency targets after which a late request is given up
constexpr Duration kMaxDuration = std::chrono::hours(24);
constexpr int64_t kMaxRows = int64_t{1} << 20;

// A job without a deadline takes its turn as if it had this one.
constexpr Duration kPatience = std::chrono::seconds(60);

std::chrono::milliseconds RetryAfter(Duration delay) {
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(delay),
                  std::chrono::milliseconds(1));
}

Status CheckRange(std::string_view field, int64_t found, int64_t least, int64_t most) {
  if (found >= least && found <= most) return {};
  return InvalidArgument("{}: found {}, expected {} to {}", field, found, least, most);
}

Status CheckRange(std::string_view field, Duration found, Duration least) {
  if (found >= least && found <= kMaxDuration) return {};
  return InvalidArgument("{}: found {} ms, expected {} to {}", field, ToSeconds(found) * 1e3,
                         ToSeconds(least) * 1e3, ToSeconds(kMaxDuration) * 1e3);
}

}  // namespace

Status CheckBatchSettings(const BatchSettings& settings) {
  const BatchOptions& bounds = settings.bounds;
  MINIM_TRY(CheckRange("max_batch", bounds.max_batch, 1, kMaxRows));
  MINIM_TRY(CheckRange("min_batch", bounds.min_batch, 1, bounds.max_batch));
  MINIM_TRY(CheckRange("window_ms", bounds.window, Duration::zero()));
  MINIM_TRY(CheckRange("max_wait_ms", bounds.max_wait, Duration::zero()));
  MINIM_TRY(CheckRange("latency_target_ms", bounds.latency_target, std::chrono::microseconds(1)));
  return CheckRange("max_queue_rows", settings.max_queue_rows, 1, kMaxRows * 64);
}

void ArrivalRate::Add(int64_t rows, TimePoint now) {
  per_second_ = At(now) + static_cast<double>(rows) / kRateSeconds;
  last_ = now;
}

double ArrivalRate::At(TimePoint now) const {
  return per_second_ * std::exp(-ToSeconds(now - last_) / kRateSeconds);
}

BatchScheduler::BatchScheduler(BatchSettings settings, int instances)
    : settings_(std::move(settings)),
      bounds_(settings_.bounds),
      ends_(static_cast<size_t>(instances), TimePoint::min()),
      running_(ends_.size()),
      free_at_(ends_) {}

void BatchScheduler::Configure(const BatchSettings& settings) {
  settings_ = settings;
  SetSending(sending_);
}

void BatchScheduler::SetSending(Duration sending) {
  sending_ = std::min(sending, settings_.bounds.latency_target / 2);
  bounds_ = settings_.bounds;
  bounds_.latency_target -= sending_;
}

bool BatchScheduler::idle() const {
  return std::ranges::find(ends_, TimePoint::min()) != ends_.end();
}

int64_t BatchScheduler::RowsBefore(size_t level) const {
  int64_t rows = 0;
  for (size_t l = 0; l <= level; ++l) rows += queue_.level_rows(static_cast<int>(l));
  return rows;
}

// When the job would be answered. Higher levels that are still to come overtake it, but leave the
// lower ones their share; those leave the higher ones the rest.
TimePoint BatchScheduler::Predict(const QueuedJob& job, size_t level, TimePoint now) {
  const auto own = static_cast<double>(job.rows);
  double higher_rate = 0;
  for (size_t l = 0; l < level; ++l) higher_rate += accepted_[l].At(now);
  const double capacity = static_cast<double>(pace_.rows) * static_cast<double>(ends_.size()) /
                          std::max(pace_.run_seconds, 1e-9);
  const double busy = std::min(higher_rate / capacity, 1 - kLowShare);
  const auto before = static_cast<double>(RowsBefore(level));
  const auto same = static_cast<double>(queue_.level_rows(static_cast<int>(level)));
  const double others = static_cast<double>(queue_.rows() - queue_.late_rows()) - before;
  double rows = (before + own) / (1 - busy);
  if (level > 0) rows = std::min(rows, (same + own) / kLowShare);
  rows += std::min(others, rows * kLowShare);
  free_at_ = ends_;
  std::sort(free_at_.begin(), free_at_.end());
  return PredictAnswer({rows, free_at_}, pace_, latency_, now);
}

Status BatchScheduler::CheckRoom(const QueuedJob& job, TimePoint now) {
  int64_t over = queue_.rows() + job.rows - settings_.max_queue_rows;
  // The late make room for those who may still be in time.
  if (over > 0 && queue_.late_rows() > 0) {
    for (JobPtr& late : queue_.TakeLate(over)) pushed_out_.push_back(std::move(late));
    over = queue_.rows() + job.rows - settings_.max_queue_rows;
  }
  if (over <= 0 || queue_.empty()) return {};
  return ResourceExhausted("{} rows wait already, {} at most: slow down or add instances",
                           queue_.rows(), settings_.max_queue_rows)
      .WithRetryAfter(RetryAfter(
          PredictAnswer({static_cast<double>(over), ends_}, pace_, latency_, now) - now));
}

Status BatchScheduler::CheckInTime(TimePoint since, TimePoint now) const {
  if (!settings_.policy.keeps_target || latency_.empty() || late_credit_ > 0) return {};
  const Duration target = ReachableTarget(bounds_, latency_);
  if (now <= since + target) return {};
  return ResourceExhausted(
             "the request waited for {:.1f} ms before its turn to be read, {:.1f} ms are allowed: "
             "slow down, add instances or allow more time",
             ToSeconds(now - since) * 1e3, ToSeconds(target) * 1e3)
      .WithRetryAfter(RetryAfter(now - since - target));
}

Status BatchScheduler::Submit(JobPtr& job, TimePoint now) {
  offered_.Add(job->rows, now);
  MINIM_TRY(CheckInTime(std::min(job->job.since, job->arrival), now));
  MINIM_TRY(CheckRoom(*job, now));
  const uint64_t priority = job->job.priority == 0 ? kDefaultPriority : job->job.priority;
  const size_t level = std::min<uint64_t>(priority, kPriorityLevels) - 1;
  job->due = std::min(job->job.deadline, job->arrival + kPatience);
  if (settings_.policy.keeps_target) {
    const TimePoint since = std::min(job->job.since, job->arrival);
    job->due = std::min(job->due, since + ReachableTarget(bounds_, latency_));
  }
  // With nothing before it, it is let in whatever the model of latency says: that may be wrong, and
  // only runs can tell.
  if (!latency_.empty() && !(idle() && queue_.empty())) {
    const TimePoint answer = Predict(*job, level, now);
    if (answer > job->due)
      return ResourceExhausted(
                 "the answer would come after {:.1f} ms, {:.1f} ms are allowed: slow down, add "
                 "instances or allow more time",
                 ToSeconds(answer - job->arrival) * 1e3,
                 std::max(ToSeconds(job->due - job->arrival), 0.0) * 1e3)
          .WithRetryAfter(RetryAfter(answer - job->due));
  }
  accepted_[level].Add(job->rows, now);
  queue_.Push(std::move(job));
  return {};
}

JobQueue::Choice BatchScheduler::Next(TimePoint now) {
  if (queue_.empty()) return {.until = TimePoint::max()};
  const JobQueue::Outlook outlook{
      .rows_per_second = offered_.At(now),
      .instances = static_cast<int>(ends_.size()),
      .latency = &latency_,
      .late_limit = kLateTargets * settings_.bounds.latency_target,
      .sizes = sizes_,
  };
  auto choice = queue_.Take(settings_.policy, bounds_, outlook, now);
  const auto late = static_cast<double>(queue_.late_rows());
  if (late > std::max(late_credit_, 0.0)) {
    for (JobPtr& job : queue_.TakeLate(static_cast<int64_t>(late - std::max(late_credit_, 0.0))))
      choice.dropped.push_back(std::move(job));
  }
  return choice;
}

std::vector<JobPtr> BatchScheduler::TakeDead(TimePoint now) {
  std::vector<JobPtr> dead = queue_.TakeDead(now);
  for (JobPtr& job : pushed_out_) dead.push_back(std::move(job));
  pushed_out_.clear();
  return dead;
}

std::vector<JobPtr> BatchScheduler::TakeAll() {
  std::vector<JobPtr> all = queue_.TakeAll();
  for (JobPtr& job : pushed_out_) all.push_back(std::move(job));
  pushed_out_.clear();
  return all;
}

int BatchScheduler::Begin(const std::vector<JobPtr>& batch, TimePoint now) {
  const auto idle = std::find(ends_.begin(), ends_.end(), TimePoint::min());
  MINIM_CHECK(idle != ends_.end());
  const auto index = static_cast<size_t>(idle - ends_.begin());
  Instance& instance = running_[index];
  instance.rows = 0;
  instance.promised.clear();
  for (const JobPtr& job : batch) {
    instance.rows += job->rows;
    if (JobQueue::IsLate(*job)) {
      late_credit_ -= static_cast<double>(job->rows);
    } else {
      instance.promised.push_back({job->rows, job->due});
    }
  }
  *idle = now + latency_.Estimate(instance.rows);
  FindPace(now);
  return static_cast<int>(index);
}

void BatchScheduler::FindPace(TimePoint now) {
  const double rate = offered_.At(now) / static_cast<double>(ends_.size());
  pace_ = PaceOf(bounds_, latency_, rate);
}

void BatchScheduler::End(int index, Duration time, bool learn, TimePoint now) {
  const Instance& instance = running_[static_cast<size_t>(index)];
  ends_[static_cast<size_t>(index)] = TimePoint::min();
  for (const Waiting& job : instance.promised)
    late_credit_ += static_cast<double>(job.rows) * (now > job.due ? -1 : kLateShare);
  late_credit_ = std::min(late_credit_, kMaxLateCredit);
  if (learn) latency_.Observe(instance.rows, time);
  FindPace(now);
}

}  // namespace minim::serve
