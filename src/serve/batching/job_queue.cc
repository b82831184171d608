#include "serve/batching/job_queue.h"

#include <algorithm>

#include "serve/batching/rows.h"

namespace minim::serve {
namespace {

bool MayMerge(const QueuedJob& a, const QueuedJob& b) {
  if (a.alone || b.alone) return false;
  for (size_t i = 0; i < a.job.inputs.size(); ++i)
    if (!SameRowType(a.job.inputs[i].view(), b.job.inputs[i].view())) return false;
  return true;
}

bool Dead(const QueuedJob& queued, TimePoint now) {
  return queued.job.deadline <= now || (queued.job.cancelled && *queued.job.cancelled);
}

}  // namespace

void JobQueue::Push(QueuedJob job) {
  rows_ += job.rows;
  for (Group& group : groups_) {
    if (MayMerge(group.front(), job)) return group.push_back(std::move(job));
  }
  groups_.emplace_back().push_back(std::move(job));
}

std::vector<QueuedJob> JobQueue::TakeDead(TimePoint now) {
  std::vector<QueuedJob> dead;
  for (auto group = groups_.begin(); group != groups_.end();) {
    const auto alive = std::stable_partition(group->begin(), group->end(),
                                             [&](const QueuedJob& q) { return Dead(q, now); });
    for (auto it = group->begin(); it != alive; ++it) {
      rows_ -= it->rows;
      dead.push_back(std::move(*it));
    }
    group->erase(group->begin(), alive);
    group = group->empty() ? groups_.erase(group) : std::next(group);
  }
  return dead;
}

std::vector<QueuedJob> JobQueue::TakeAll() {
  std::vector<QueuedJob> all;
  for (Group& group : groups_)
    for (QueuedJob& queued : group) all.push_back(std::move(queued));
  groups_.clear();
  rows_ = 0;
  return all;
}

std::optional<TimePoint> JobQueue::NextDeadline() const {
  TimePoint next = TimePoint::max();
  for (const Group& group : groups_)
    for (const QueuedJob& queued : group) next = std::min(next, queued.job.deadline);
  if (next == TimePoint::max()) return std::nullopt;
  return next;
}

QueueView JobQueue::ViewOf(const Group& group) {
  QueueView view{.oldest_arrival = group.front().arrival};
  for (const QueuedJob& queued : group) {
    view.rows += queued.rows;
    if (queued.job.deadline != TimePoint::max())
      view.oldest_deadline =
          std::min(view.oldest_deadline.value_or(TimePoint::max()), queued.job.deadline);
  }
  return view;
}

JobQueue::Choice JobQueue::Take(const BatcherOptions& options, const LatencyModel& latency,
                                double rows_per_second, TimePoint now) {
  Choice choice{.until = TimePoint::max()};
  for (auto group = groups_.begin(); group != groups_.end(); ++group) {
    if (group->front().alone) return {.batch = TakeRows(group, group->front().rows)};
    QueueView view = ViewOf(*group);
    view.latency = latency;
    view.rows_per_second = rows_per_second;
    const BatchDecision decision = options.policy.next(options.bounds, view, now);
    if (decision.rows > 0) return {.batch = TakeRows(group, decision.rows)};
    choice.until = std::min(choice.until, decision.until);
  }
  return choice;
}

// Whole requests from the front, as long as they fit; always at least one.
std::vector<QueuedJob> JobQueue::TakeRows(std::list<Group>::iterator group, int64_t rows) {
  std::vector<QueuedJob> taken;
  while (!group->empty() && (taken.empty() || group->front().rows <= rows)) {
    rows -= group->front().rows;
    rows_ -= group->front().rows;
    taken.push_back(std::move(group->front()));
    group->pop_front();
  }
  if (group->empty()) {
    groups_.erase(group);
  } else {
    Resort(group);
  }
  return taken;
}

// What is left of a group stands behind the groups that have waited longer, or a busy kind would
// starve the others.
void JobQueue::Resort(std::list<Group>::iterator group) {
  auto place = std::next(group);
  while (place != groups_.end() && place->front().arrival <= group->front().arrival) ++place;
  groups_.splice(place, groups_, group);
}

}  // namespace minim::serve
