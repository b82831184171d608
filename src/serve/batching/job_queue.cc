#include "serve/batching/job_queue.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "serve/batching/rows.h"

namespace minim::serve {
namespace {

constexpr double kLowShare = 0.1;  // of the rows, for lower levels while they wait
constexpr double kMaxCredit = 64;  // so that a long lull of theirs is not paid back at once
constexpr size_t kSweep = 64;      // jobs looked at for cancellation at a time
constexpr size_t kIdleGroups = 8;  // kinds remembered although nothing of theirs waits

bool IsCancelled(const QueuedJob& queued) {
  return queued.job.cancelled && queued.job.cancelled->load(std::memory_order_relaxed);
}

bool MayMerge(const QueuedJob& a, const QueuedJob& b) {
  for (size_t i = 0; i < a.job.inputs.size(); ++i)
    if (!SameRowType(a.job.inputs[i].view(), b.job.inputs[i].view())) return false;
  return true;
}

// As far as `enough`.
int64_t RowsOf(const SortedJobs& jobs, int64_t enough) {
  int64_t rows = 0;
  for (size_t i = 0; i < jobs.size() && rows < enough; ++i) rows += jobs[i].job->rows;
  return rows;
}

int64_t RoundedDown(int64_t rows, std::span<const int64_t> sizes) {
  const auto above = std::ranges::upper_bound(sizes, rows);
  return above == sizes.begin() ? rows : above[-1];
}

// Equal for jobs that may merge.
size_t KindOf(const QueuedJob& queued) {
  size_t kind = 0;
  const auto mix = [&kind](uint64_t value) {
    kind = (kind ^ value) * 0x9E3779B97F4A7C15u;
    kind ^= kind >> 32;
  };
  for (const Tensor& input : queued.job.inputs) {
    mix(static_cast<uint64_t>(input.dtype()));
    for (int i = 1; i < input.dims().rank(); ++i) mix(static_cast<uint64_t>(input.dims()[i]));
  }
  return kind;
}

}  // namespace

bool JobQueue::Later(const Turn& a, const Turn& b) {
  return std::tie(a.level, a.due, a.sequence) > std::tie(b.level, b.due, b.sequence);
}

// The jobs of a group in the order in which they run, for as long as the group stays as it is.
class JobQueue::Order {
 public:
  /// `highest`, `lowest`: the levels of any group that wait.
  Order(const Group& group, double credit, int highest, int lowest)
      : group_(group), credit_(credit), highest_(highest), lowest_(lowest) {}

  QueuedJob* Next() {
    int level = NextLevel(0);
    if (level > kLate) return nullptr;
    if (level < kLate && credit_ >= 1) level = FirstDueLevel(level);
    QueuedJob* job = At(level);
    ++at_[static_cast<size_t>(level)];
    if (lowest_ > highest_ && level < kLate) {
      const auto rows = static_cast<double>(job->rows);
      credit_ += level > highest_ ? -rows : kLowShare * rows;
      credit_ = std::clamp(credit_, -kMaxCredit, kMaxCredit);
    }
    return job;
  }
  double credit() const { return credit_; }

 private:
  int NextLevel(int level) const {
    while (level <= kLate &&
           at_[static_cast<size_t>(level)] == group_.levels[static_cast<size_t>(level)].size())
      ++level;
    return level;
  }
  QueuedJob* At(int level) const {
    const auto l = static_cast<size_t>(level);
    return group_.levels[l][at_[l]].job;
  }
  int FirstDueLevel(int top) const {
    int first = top;
    for (int level = NextLevel(top + 1); level < kLate; level = NextLevel(level + 1))
      if (At(level)->due < At(first)->due) first = level;
    return first;
  }

  const Group& group_;
  double credit_;
  const int highest_, lowest_;
  std::array<size_t, kLevels> at_{};
};

JobQueue::Order JobQueue::OrderOf(const Group& group) const {
  int highest = kLate, lowest = -1;
  for (int level = 0; level < kLate; ++level) {
    if (level_rows(level) == 0) continue;
    highest = std::min(highest, level);
    lowest = level;
  }
  return {group, credit_, highest, lowest};
}

JobQueue::~JobQueue() { TakeAll(); }

JobQueue::Group& JobQueue::GroupFor(const QueuedJob& job) {
  const size_t kind = job.alone ? ~size_t{0} : KindOf(job);
  const auto [begin, end] = by_kind_.equal_range(kind);
  for (auto it = begin; it != end; ++it) {
    Group& group = *it->second;
    if (group.alone != job.alone) continue;
    if (job.alone || group.empty()) return group;  // an empty one takes any kind of its hash
    const auto level = static_cast<size_t>(std::countr_zero(group.used_levels));
    if (MayMerge(*group.levels[level].front().job, job)) return group;
  }
  if (idle_groups_ > kIdleGroups) DropIdleGroups();
  Group& group = groups_.emplace_back();
  group.alone = job.alone;
  group.kind = kind;
  by_kind_.emplace(kind, &group);
  ++idle_groups_;
  return group;
}

void JobQueue::DropIdleGroups() {
  std::erase_if(by_kind_, [](const auto& item) { return item.second->empty(); });
  groups_.remove_if([](const Group& group) { return group.empty(); });
  idle_groups_ = 0;
}

// Into its group's level.
void JobQueue::Link(QueuedJob& job) {
  Group& group = *static_cast<Group*>(job.group);
  const auto level = static_cast<size_t>(job.level);
  if (group.empty()) --idle_groups_;
  group.levels[level].Insert(job.due, &job);
  group.used_levels |= 1u << level;
  (job.level == kLate ? group.late_rows : group.rows) += job.rows;
  level_rows_[level] += job.rows;
}

void JobQueue::Unlink(QueuedJob& job) {
  Group& group = *static_cast<Group*>(job.group);
  const auto level = static_cast<size_t>(job.level);
  group.levels[level].Erase(job.due, &job);
  if (group.levels[level].empty()) group.used_levels &= ~(1u << level);
  if (group.empty()) ++idle_groups_;
  (job.level == kLate ? group.late_rows : group.rows) -= job.rows;
  level_rows_[level] -= job.rows;
}

void JobQueue::Push(JobPtr job) {
  const uint64_t priority = job->job.priority == 0 ? kDefaultPriority : job->job.priority;
  job->level = static_cast<int>(std::min<uint64_t>(priority, kPriorityLevels)) - 1;
  job->sequence = next_sequence_++;
  job->leaves = job->job.deadline;
  job->group = &GroupFor(*job);
  rows_ += job->rows;
  Link(*job);
  by_leave_.Insert(job->leaves, job.get());
  (void)job.release();
}

JobPtr JobQueue::Remove(QueuedJob& job) {
  Unlink(job);
  by_leave_.Erase(job.leaves, &job);
  rows_ -= job.rows;
  return JobPtr(&job);
}

std::vector<JobPtr> JobQueue::TakeDead(TimePoint now) {
  std::vector<JobPtr> dead;
  while (!empty() && by_leave_.front().key <= now) dead.push_back(Remove(*by_leave_.front().job));
  for (size_t looked = std::min(kSweep, by_leave_.size()); looked > 0; --looked) {
    if (sweep_ >= by_leave_.size()) sweep_ = 0;
    QueuedJob& job = *by_leave_[sweep_].job;
    if (IsCancelled(job)) {
      dead.push_back(Remove(job));
    } else {
      ++sweep_;
    }
    if (empty()) break;
  }
  return dead;
}

std::vector<JobPtr> JobQueue::TakeLate(int64_t rows) {
  std::vector<JobPtr> taken;
  for (auto group = groups_.begin(); group != groups_.end() && rows > 0; ++group) {
    SortedJobs& late = group->levels[kLate];
    while (!late.empty() && rows > 0) {
      rows -= late.front().job->rows;
      taken.push_back(Remove(*late.front().job));
    }
  }
  return taken;
}

std::vector<JobPtr> JobQueue::TakeAll() {
  std::vector<JobPtr> all;
  for (size_t i = 0; i < by_leave_.size(); ++i) all.emplace_back(by_leave_[i].job);
  by_leave_.clear();
  by_kind_.clear();
  groups_.clear();
  idle_groups_ = 0;
  rows_ = 0;
  level_rows_ = {};
  return all;
}

std::optional<TimePoint> JobQueue::NextDeadline() const {
  if (empty() || by_leave_.front().key == TimePoint::max()) return std::nullopt;
  return by_leave_.front().key;
}

// Looks at no more jobs than a batch could take: beyond that the queue is full for every policy.
QueueView JobQueue::ViewOf(const Group& group, const BatchPolicy& policy,
                           const BatchOptions& bounds, const Outlook& outlook) {
  QueueView view{.rows = group.rows,
                 .oldest_arrival = TimePoint::max(),
                 .late_rows = group.late_rows,
                 .rows_per_second = outlook.rows_per_second,
                 .instances = outlook.instances,
                 .latency = outlook.latency};
  if (!policy.keeps_target) view.rows += std::exchange(view.late_rows, 0);
  const int64_t enough = policy.keeps_target ? 2 * bounds.max_batch : bounds.max_batch;
  head_.clear();
  Order order = OrderOf(group);
  int64_t seen = 0;
  for (QueuedJob* job = order.Next(); job != nullptr && seen < enough; job = order.Next()) {
    seen += job->rows;
    view.oldest_arrival = std::min(view.oldest_arrival, job->arrival);
    if (job->level == kLate) continue;
    view.due = std::min(view.due, job->due);
    if (policy.keeps_target) head_.push_back({job->rows, job->due});
  }
  view.head = head_;
  return view;
}

// The first job of each group decides; levels count unless it is the lower ones' turn.
void JobQueue::FindTurns() {
  turns_.clear();
  for (Group& group : groups_) {
    if (group.empty()) continue;
    const QueuedJob* first = OrderOf(group).Next();
    const bool any_level = credit_ >= 1 && first->level < kLate;
    turns_.push_back({any_level ? 0 : first->level, first->due, first->sequence, &group});
  }
  std::make_heap(turns_.begin(), turns_.end(), Later);
}

// The first `count` of the group in its order become late.
void JobQueue::Defer(Group& group, int64_t count, const Outlook& outlook) {
  std::vector<QueuedJob*> late;
  Order order = OrderOf(group);
  for (int64_t i = 0; i < count; ++i) late.push_back(order.Next());
  for (QueuedJob* job : late) MakeLate(*job, outlook);
}

void JobQueue::MakeLate(QueuedJob& job, const Outlook& outlook) {
  Unlink(job);
  job.level = kLate;
  Link(job);
  if (outlook.late_limit == Duration::max()) return;
  const TimePoint limit = job.due + outlook.late_limit;
  if (job.leaves <= limit) return;
  by_leave_.Erase(job.leaves, &job);
  job.leaves = limit;
  by_leave_.Insert(limit, &job);
}

// Whole requests in their order, as long as they fit; always at least one.
void JobQueue::TakeRows(Group& group, int64_t rows, Choice& choice) {
  std::vector<QueuedJob*> taken;
  Order order = OrderOf(group);
  for (QueuedJob* job = order.Next(); job != nullptr; job = order.Next()) {
    const bool cancelled = IsCancelled(*job);
    if (!cancelled && rows < job->rows && !taken.empty()) break;
    if (!cancelled) rows -= job->rows;
    taken.push_back(job);
    credit_ = order.credit();
  }
  for (QueuedJob* job : taken)
    (IsCancelled(*job) ? choice.dropped : choice.batch).push_back(Remove(*job));
}

// What cannot be in time even in the run that comes next becomes late: it must not make that run
// smaller.
void JobQueue::DeferHopeless(Group& group, const BatchOptions& bounds, const Outlook& outlook,
                             TimePoint now) {
  int64_t before = 0;
  for (size_t level = 0; level < kLate; ++level) {
    SortedJobs& jobs = group.levels[level];
    while (!jobs.empty()) {
      const int64_t rows = std::min(bounds.max_batch, before + jobs.front().job->rows);
      if (now + outlook.latency->High(rows) <= jobs.front().key) break;
      MakeLate(*jobs.front().job, outlook);
    }
    if (!jobs.empty()) before += RowsOf(jobs, bounds.max_batch);
  }
}

// True if something was taken.
bool JobQueue::AskGroup(Group& group, const BatchPolicy& policy, const BatchOptions& bounds,
                        const Outlook& outlook, TimePoint now, Choice& choice) {
  BatchDecision decision{.rows = 1, .reason = ReleaseReason::kAlone};
  if (policy.keeps_target && !outlook.latency->empty()) DeferHopeless(group, bounds, outlook, now);
  while (!group.alone) {
    decision = policy.next(bounds, ViewOf(group, policy, bounds, outlook), now);
    if (decision.skip > 0) Defer(group, decision.skip, outlook);
    if (decision.skip == 0 || decision.rows > 0) break;
  }
  choice.reason = decision.reason;
  choice.until = std::min(choice.until, decision.until);
  if (decision.rows > 0) TakeRows(group, RoundedDown(decision.rows, outlook.sizes), choice);
  return decision.rows > 0;
}

JobQueue::Choice JobQueue::Take(const BatchPolicy& policy, const BatchOptions& bounds,
                                const Outlook& outlook, TimePoint now) {
  Choice choice{.until = TimePoint::max()};
  FindTurns();
  for (; !turns_.empty(); turns_.pop_back()) {
    std::pop_heap(turns_.begin(), turns_.end(), Later);
    if (AskGroup(*turns_.back().group, policy, bounds, outlook, now, choice)) break;
  }
  return choice;
}

}  // namespace minim::serve
