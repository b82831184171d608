// Metrics: what the server counts, written in Prometheus text form.
// Threads: every method may be called concurrently.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <tuple>

#include "serve/batching/batcher.h"
#include "serve/cache/prediction_cache.h"
#include "serve/metrics/histogram.h"
#include "serve/preload/memory_report.h"
#include "serve/repository/stats.h"

namespace minim::serve {

/// Where a request's time goes.
enum class Phase {
  kQueue,      // waiting for a run
  kBatch,      // putting rows together
  kCompute,    // the run
  kSplit,      // taking rows apart
  kCache,      // answered from the cache
  kSerialise,  // writing the answer
  kTotal,      // from arrival to the answer's tensors
  kSend,       // from there until it is handed to the socket
};
inline constexpr int kPhases = 8;
std::string_view PhaseName(Phase phase);

/// The counters of one model, version and tier. They go on counting through reloads.
class ModelMetrics {
 public:
  void CountRequest(int http_status);
  void Observe(Phase phase, Duration time) { phases_[static_cast<size_t>(phase)].Add(time); }
  void ObserveRun(const RunReport& report);
  void CountCache(bool hit) { ++(hit ? hits_ : misses_); }
  /// The tier did not answer a request that another tier then answered.
  void CountFallback(std::string_view reason);

  const LatencyHistogram& phase(Phase phase) const { return phases_[static_cast<size_t>(phase)]; }
  uint64_t requests() const;
  uint64_t failures() const;
  uint64_t hits() const { return hits_; }
  uint64_t misses() const { return misses_; }
  uint64_t runs() const { return runs_; }
  uint64_t rows() const { return rows_; }
  uint64_t cold_runs() const { return cold_; }
  /// Mean share of the rows that there could have been in a run; zero before the first.
  double batch_efficiency() const;

 private:
  friend class MetricsWriter;
  static constexpr std::array<int64_t, 9> kRowBounds = {1, 2, 4, 8, 16, 32, 64, 128, 256};

  std::array<LatencyHistogram, kPhases> phases_;
  std::array<std::atomic<uint64_t>, kRowBounds.size() + 1> row_counts_{};
  std::array<std::atomic<uint64_t>, kReleaseReasons> releases_{};
  std::atomic<uint64_t> ok_{0}, hits_{0}, misses_{0};
  std::atomic<uint64_t> runs_{0}, rows_{0}, cold_{0}, failed_runs_{0}, possible_rows_{0};
  mutable std::mutex mutex_;
  std::map<int, uint64_t> codes_;                           // guarded by mutex_; but for 200
  std::map<std::string, uint64_t, std::less<>> fallbacks_;  // guarded by mutex_; by reason
};

/// Readings taken when the text is written.
struct Gauges {
  CacheStats cache;
  MemoryReport memory;
  double connections = 0;
  double ready = 0;
};

/// What Triton's metrics say of one version.
struct VersionReadings {
  std::string model, version;
  std::shared_ptr<const ModelStats> stats;
  int64_t pending = 0;  // requests' rows that wait
};

class Metrics {
 public:
  /// The same object for the same three names.
  std::shared_ptr<ModelMetrics> ForModel(const std::string& model, const std::string& version,
                                         const std::string& tier);
  /// A tier lost its place, or has it back.
  void CountDemotion(const std::string& model, const std::string& version, const std::string& tier,
                     bool restored);
  /// Requests that reached no model, by status.
  void CountOther(int http_status);
  /// Prometheus text format 0.0.4: minim_*, and nv_inference_* where Triton means the same.
  std::string Text(const Gauges& gauges, std::span<const VersionReadings> versions = {}) const;

 private:
  using Key = std::tuple<std::string, std::string, std::string>;  // model, version, tier
  struct Changes {
    uint64_t demoted = 0, restored = 0;
  };

  mutable std::mutex mutex_;
  std::map<Key, std::shared_ptr<ModelMetrics>> models_;  // guarded by mutex_
  std::map<Key, Changes> changes_;                       // guarded by mutex_
  std::map<int, uint64_t> others_;                       // guarded by mutex_
};

}  // namespace minim::serve
