// JobQueue: what waits in front of a model, grouped by what may run together. Data only: the
// batcher around it holds the lock and the clock.
#pragma once

#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "serve/batching/batcher.h"

namespace minim::serve {

struct QueuedJob {
  BatchJob job;
  int64_t rows = 1;
  bool alone = false;      // never with others
  bool may_slice = false;  // every input has `rows` rows
  TimePoint arrival;
};

class JobQueue {
 public:
  void Push(QueuedJob job);
  bool empty() const { return groups_.empty(); }
  int64_t rows() const { return rows_; }

  /// Removes what is cancelled or past its deadline.
  std::vector<QueuedJob> TakeDead(TimePoint now);
  std::vector<QueuedJob> TakeAll();
  /// The earliest deadline of all; nothing if no job has one.
  std::optional<TimePoint> NextDeadline() const;

  struct Choice {
    std::vector<QueuedJob> batch;  // empty: nothing is due
    TimePoint until;               // ... before this
  };
  /// Asks the policy about each group, the one with the oldest request first.
  Choice Take(const BatcherOptions& options, const LatencyModel& latency, double rows_per_second,
              TimePoint now);

 private:
  // Jobs of one kind, in order of arrival. Kinds are few; groups stay in order of their first job.
  using Group = std::deque<QueuedJob>;

  static QueueView ViewOf(const Group& group);
  std::vector<QueuedJob> TakeRows(std::list<Group>::iterator group, int64_t rows);
  void Resort(std::list<Group>::iterator group);

  std::list<Group> groups_;
  int64_t rows_ = 0;
};

}  // namespace minim::serve
