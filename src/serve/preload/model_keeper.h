// ModelKeeper: which models are in memory. Remembers what is asked for; within a budget it loads
// what will be, at start-up, ahead of time or when a request comes, and unloads the least valuable.
// What to load and unload is residency.h's to say.
// Threads: every method may be called concurrently, but for Start, which comes first.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serve/preload/memory_report.h"
#include "serve/preload/residency.h"
#include "serve/preload/usage_history.h"
#include "serve/repository/repository.h"
#include "serve/repository/ticker.h"
#include "serve/repository/worker.h"

namespace minim::serve {

struct KeeperOptions {
  /// Bytes for models; 0: none, the keeper then loads and unloads nothing.
  uint64_t budget = 0;
  /// Share of the budget above which clean-up trims contexts and unloads idle models.
  double threshold = 0.7;
  Duration clean_up = std::chrono::seconds(30);
  /// Longest wait of a request for its model.
  Duration load_wait = std::chrono::seconds(10);
  /// Where the history of use is kept; empty: nowhere.
  Path history;
  LogFunction log = [](const std::string&) {};
  std::function<WallTime()> now = std::chrono::system_clock::now;
};

/// Each field's own range.
Status CheckKeeperOptions(const KeeperOptions& options);

class ModelKeeper {
 public:
  /// While it lives, the model stays loaded. Null without a budget.
  using Lease = std::shared_ptr<void>;
  using Done = std::function<void(Result<Lease>)>;

  ModelKeeper(KeeperOptions options, std::shared_ptr<Repository> repository);
  ~ModelKeeper() { Close(); }

  /// Reads the history, loads what is to be there at start-up, begins to clean up. Errors: nothing
  /// could be loaded, with the reason of the first.
  Status Start();
  /// A request for the model: remembered, and called back when the model is there; at once if it is
  /// already, or if nobody knows it. Errors, by way of `done`: why it was not loaded; kUnavailable
  /// after the longest wait; kResourceExhausted if it does not fit the budget.
  void Use(const std::string& model, Done done);
  /// The same for a question about the model, which is not remembered.
  void Hold(const std::string& model, Done done);
  /// Not loaded, but a request would load it.
  bool IsAvailable(const std::string& model) const;
  /// What is done at every interval; see KeeperOptions.
  void CleanUp();
  /// Writes the history. Errors are logged: the next time may do better.
  void SaveHistory();
  /// Without the cache and requests, which the keeper does not see.
  MemoryReport Report() const;
  /// Waits for a load in progress. Requests that wait for one are answered, as are those to come.
  void Close();

 private:
  enum class State { kOut, kIn, kLeaving };
  struct Waiter {
    TimePoint until;
    Done done;
  };
  struct Kept {
    State state = State::kOut;
    int leases = 0;
    bool pinned = false;
    uint64_t bytes = 0;  // measured when it was last loaded; before that, by its files
    WallTime since{};    // loaded
    std::vector<Waiter> waiters;
    Status failure;  // of the last load, until `retry_at`
    TimePoint retry_at{};
    uint64_t hits = 0, misses = 0, evictions = 0;
    std::shared_ptr<LatencyHistogram> loads = std::make_shared<LatencyHistogram>();
  };
  /// What leases outlive the keeper with. Entries stay where they are.
  struct Table {
    mutable std::mutex mutex;
    std::condition_variable released;
    std::map<std::string, Kept> models;  // guarded by mutex
  };
  /// What may be done for a model's sake.
  enum class Effort {
    kUnloadNothing,  // there is room, or there is not
    kUnloadUnused,
    kAwaitUse,  // unload what is in use as soon as it is not
  };

  void ReadHistory();
  void AddNewModels();
  Status LoadAtStart();
  void Want(const std::string& model, bool remember, Done done);
  Lease LeaseOf(Kept& kept);
  void LoadForWaiters(const std::string& name);
  void ExpireWaiters();
  Status LoadWithin(const std::string& name, Effort effort);
  Status MakeRoom(const std::string& for_model, uint64_t needed, Effort effort);
  Status UnloadAll(const std::vector<std::string>& names, Effort effort);
  void Unload(const std::string& name);
  void Measure();
  void TrimIdle();
  void LoadAhead();
  std::vector<ResidentModel> Snapshot(bool loaded) const;
  void RememberFailure(Kept& kept, const Status& status) const;
  uint64_t threshold() const {
    return static_cast<uint64_t>(static_cast<double>(options_.budget) * options_.threshold);
  }

  const KeeperOptions options_;
  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<Table> table_ = std::make_shared<Table>();
  UsageHistory history_;        // guarded by table_->mutex
  std::mutex residency_mutex_;  // one decision and what follows from it at a time
  std::atomic<bool> closing_{false};
  std::optional<Worker> worker_{std::in_place};
  std::optional<Ticker> cleaner_, expirer_;
};

}  // namespace minim::serve
