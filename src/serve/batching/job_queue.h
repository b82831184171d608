// JobQueue: what waits in front of a model, grouped by what may run together. In a group the level
// of priority decides, then what is due first, then what came first. Every tenth row, while lower
// levels wait, ignores the levels: none starves.
// Costs: a push or take looks at a few jobs, however many wait; so does TakeDead, which looks for
// cancelled jobs in turns.
// Threads: none of its own; whoever holds it guards it.
#pragma once

#include <array>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "serve/batching/policy.h"
#include "serve/batching/sorted_jobs.h"

namespace minim::serve {

class JobQueue {
 public:
  JobQueue() = default;
  ~JobQueue();
  JobQueue(const JobQueue&) = delete;
  JobQueue& operator=(const JobQueue&) = delete;

  void Push(JobPtr job);
  bool empty() const { return by_leave_.empty(); }
  /// Rows waiting, late ones included.
  int64_t rows() const { return rows_; }
  static bool IsLate(const QueuedJob& job) { return job.level == kLate; }
  int64_t late_rows() const { return level_rows_[kLate]; }
  /// Rows waiting at a level, 0 to kPriorityLevels - 1, that are not late.
  int64_t level_rows(int level) const { return level_rows_[static_cast<size_t>(level)]; }

  /// Removes what is past its deadline, and what it finds cancelled among the next few jobs.
  std::vector<JobPtr> TakeDead(TimePoint now);
  /// Removes the longest late, as many as have `rows` rows.
  std::vector<JobPtr> TakeLate(int64_t rows);
  std::vector<JobPtr> TakeAll();
  /// The earliest deadline of all; nothing if no job has one.
  std::optional<TimePoint> NextDeadline() const;

  struct Choice {
    std::vector<JobPtr> batch;    // empty: nothing is due
    std::vector<JobPtr> dropped;  // will not run: cancelled ones, met on the way
    TimePoint until{};            // look again before this
    ReleaseReason reason = ReleaseReason::kIdle;
  };
  /// What the policy is told besides the queue.
  struct Outlook {
    double rows_per_second = 0;
    int instances = 1;
    const LatencyModel* latency = nullptr;
    /// For how long a late job may still wait for its turn.
    Duration late_limit = Duration::max();
    /// Rising, from 1: what the policy chooses is rounded down to one of them. Empty: any will do.
    std::span<const int64_t> sizes;
  };
  /// Asks the policy about each group, the one with the first job first.
  Choice Take(const BatchPolicy& policy, const BatchOptions& bounds, const Outlook& outlook,
              TimePoint now);

 private:
  static constexpr int kLate = kPriorityLevels;  // one level more, behind the others
  static constexpr size_t kLevels = kPriorityLevels + 1;

  // Jobs of one kind.
  struct Group {
    bool alone = false;
    size_t kind = 0;
    uint32_t used_levels = 0;  // a bit for each that is not empty
    int64_t rows = 0;          // without late ones
    int64_t late_rows = 0;
    std::array<SortedJobs, kLevels> levels;
    bool empty() const { return used_levels == 0; }
  };
  // A group's turn is that of its first job.
  struct Turn {
    int level;
    TimePoint due;
    uint64_t sequence;
    Group* group;
  };
  class Order;

  static bool Later(const Turn& a, const Turn& b);
  Group& GroupFor(const QueuedJob& job);
  void Link(QueuedJob& job);
  void Unlink(QueuedJob& job);
  JobPtr Remove(QueuedJob& job);
  void DropIdleGroups();
  Order OrderOf(const Group& group) const;
  void Defer(Group& group, int64_t count, const Outlook& outlook);
  void DeferHopeless(Group& group, const BatchOptions& bounds, const Outlook& outlook,
                     TimePoint now);
  void MakeLate(QueuedJob& job, const Outlook& outlook);
  QueueView ViewOf(const Group& group, const BatchPolicy& policy, const BatchOptions& bounds,
                   const Outlook& outlook);
  void TakeRows(Group& group, int64_t rows, Choice& choice);
  bool AskGroup(Group& group, const BatchPolicy& policy, const BatchOptions& bounds,
                const Outlook& outlook, TimePoint now, Choice& choice);
  void FindTurns();

  std::list<Group> groups_;
  size_t idle_groups_ = 0;  // those that are empty
  std::unordered_multimap<size_t, Group*> by_kind_;
  SortedJobs by_leave_;  // every job, by when it leaves unanswered; they are owned from here
  size_t sweep_ = 0;     // where in it to look for cancelled jobs next
  uint64_t next_sequence_ = 0;
  int64_t rows_ = 0;
  std::array<int64_t, kLevels> level_rows_{};
  double credit_ = 0;  // rows of any level that may go first
  // Kept for their memory.
  std::vector<Turn> turns_;  // a heap, the next one first
  std::vector<Waiting> head_;
};

}  // namespace minim::serve
