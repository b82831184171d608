// SortedJobs: jobs by a time, then in order of arrival. Nearly all come at the back and leave near
// the front, so it is an array with a free front: cheap to walk, and empty it costs no memory.
#pragma once

#include <algorithm>
#include <vector>

#include "serve/batching/job.h"

namespace minim::serve {

class SortedJobs {
 public:
  struct Entry {
    TimePoint key;
    uint64_t sequence;
    QueuedJob* job;
    bool operator<(const Entry& other) const {
      return key != other.key ? key < other.key : sequence < other.sequence;
    }
  };

  bool empty() const { return size() == 0; }
  size_t size() const { return entries_.size() - first_; }
  const Entry& operator[](size_t i) const { return entries_[first_ + i]; }
  const Entry& front() const { return entries_[first_]; }

  void Insert(TimePoint key, QueuedJob* job) {
    const Entry entry{key, job->sequence, job};
    if (empty() || entries_.back() < entry) return entries_.push_back(entry);
    entries_.insert(std::upper_bound(Begin(), entries_.end(), entry), entry);
  }

  /// Needs the key it was inserted with.
  void Erase(TimePoint key, const QueuedJob* job) {
    const auto at = front().job == job
                        ? Begin()
                        : std::lower_bound(Begin(), entries_.end(), Entry{key, job->sequence, {}});
    if (at - Begin() < entries_.end() - at) {
      std::move_backward(Begin(), at, at + 1);
      ++first_;
    } else {
      entries_.erase(at);
    }
    Trim();
  }

  void clear() {
    entries_.clear();
    first_ = 0;
  }

 private:
  static constexpr size_t kKeptBytes = 4096;

  std::vector<Entry>::iterator Begin() {
    return entries_.begin() + static_cast<std::ptrdiff_t>(first_);
  }
  // Half of it free: move down. Empty: give a large array back.
  void Trim() {
    if (empty()) {
      clear();
      if (entries_.capacity() * sizeof(Entry) > kKeptBytes) entries_.shrink_to_fit();
    } else if (first_ > 64 && first_ > entries_.size() / 2) {
      entries_.erase(entries_.begin(), Begin());
      first_ = 0;
    }
  }

  std::vector<Entry> entries_;
  size_t first_ = 0;
};

}  // namespace minim::serve
