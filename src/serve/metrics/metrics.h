// Metrics: what the server counts, written in Prometheus text form.
// Threads: every method may be called concurrently.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "serve/model.h"

namespace minim::serve {

/// The counters of one model, version and tier, looked up once.
class ModelMetrics {
 public:
  virtual ~ModelMetrics() = default;
  virtual void CountRequest(int http_status) = 0;
  virtual void ObserveStages(Duration queue, Duration infer, Duration output, Duration total) = 0;
  virtual void ObserveRun(int64_t rows, bool cold, bool ok) = 0;
  virtual void CountCache(bool hit) = 0;
  /// The tier did not answer a request that another tier then answered.
  virtual void CountFallback(std::string_view reason) = 0;
};

/// Readings taken when the text is written.
struct Gauges {
  double cache_bytes = 0;
  double cache_entries = 0;
  double cache_evictions = 0;
  double cache_stored_ratio = 1;
  double connections = 0;
  double ready = 0;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();

  std::shared_ptr<ModelMetrics> ForModel(const std::string& model, const std::string& version,
                                         const std::string& tier);
  /// A tier lost its place, or has it back.
  void CountDemotion(const std::string& model, const std::string& version, const std::string& tier,
                     bool restored);
  /// Requests that reached no model, by status.
  void CountOther(int http_status);
  /// Prometheus text format 0.0.4.
  std::string Text(const Gauges& gauges);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace minim::serve
