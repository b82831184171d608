#include "serve/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace minim::serve {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Labels = prometheus::Labels;

const Histogram::BucketBoundaries kSeconds = {0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005,
                                              0.001,   0.002,   0.005,   0.01,   0.02,   0.05,
                                              0.1,     0.2,     0.5,     1,      2,      5};
const Histogram::BucketBoundaries kRows = {1, 2, 4, 8, 16, 32, 64, 128, 256};

double Seconds(Duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

class Metrics::Impl {
 public:
  prometheus::Registry registry;
  Family<Counter>& requests =
      Counters("minim_requests_total", "Requests, by model and HTTP status.");
  Family<Counter>& cache = Counters("minim_cache_requests_total", "Cache look-ups, by result.");
  Family<Counter>& cold = Counters("minim_cold_runs_total", "Runs with dims not prepared before.");
  Family<Counter>& failed = Counters("minim_failed_runs_total", "Runs that ended in an error.");
  Family<Counter>& rows = Counters("minim_inference_rows_total", "Rows run.");
  Family<Counter>& fallbacks =
      Counters("minim_fallbacks_total", "Requests that another tier answered instead, by reason.");
  Family<Counter>& demotions = Counters("minim_tier_changes_total",
                                        "Tiers that lost their place, or have it back, by change.");
  Family<Histogram>& stages = prometheus::BuildHistogram()
                                  .Name("minim_stage_seconds")
                                  .Help("Time of a request, by stage.")
                                  .Register(registry);
  Family<Histogram>& batches = prometheus::BuildHistogram()
                                   .Name("minim_batch_rows")
                                   .Help("Rows per run.")
                                   .Register(registry);
  Gauge& cache_bytes = OneGauge("minim_cache_bytes", "Bytes held by the prediction cache.");
  Gauge& cache_entries = OneGauge("minim_cache_entries", "Answers held by the prediction cache.");
  Gauge& evictions = OneGauge("minim_cache_evictions", "Answers that left the cache for others.");
  Gauge& stored_ratio = OneGauge("minim_cache_stored_ratio", "Stored over raw bytes of answers.");
  Gauge& connections = OneGauge("minim_connections", "Open client connections.");
  Gauge& ready = OneGauge("minim_ready", "1 if the server takes requests.");

 private:
  Family<Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }
  Gauge& OneGauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
};

namespace {

// Keeps the registry alive: an answer may still be counted while the server goes down.
template <typename Impl>
class ModelCounters : public ModelMetrics {
 public:
  ModelCounters(std::shared_ptr<Impl> impl, Labels labels)
      : impl_(std::move(impl)),
        labels_(std::move(labels)),
        ok_(impl_->requests.Add(With("code", "200"))),
        hits_(impl_->cache.Add(With("result", "hit"))),
        misses_(impl_->cache.Add(With("result", "miss"))),
        cold_(impl_->cold.Add(labels_)),
        failed_(impl_->failed.Add(labels_)),
        rows_(impl_->rows.Add(labels_)),
        queue_(impl_->stages.Add(With("stage", "queue"), kSeconds)),
        infer_(impl_->stages.Add(With("stage", "infer"), kSeconds)),
        output_(impl_->stages.Add(With("stage", "output"), kSeconds)),
        total_(impl_->stages.Add(With("stage", "total"), kSeconds)),
        batch_(impl_->batches.Add(labels_, kRows)) {}

  void CountRequest(int http_status) override {
    if (http_status == 200) return ok_.Increment();
    impl_->requests.Add(With("code", std::to_string(http_status))).Increment();
  }
  void ObserveStages(Duration queue, Duration infer, Duration output, Duration total) override {
    queue_.Observe(Seconds(queue));
    infer_.Observe(Seconds(infer));
    output_.Observe(Seconds(output));
    total_.Observe(Seconds(total));
  }
  void ObserveRun(int64_t rows, bool cold, bool ok) override {
    batch_.Observe(static_cast<double>(rows));
    rows_.Increment(static_cast<double>(rows));
    if (cold) cold_.Increment();
    if (!ok) failed_.Increment();
  }
  void CountCache(bool hit) override { (hit ? hits_ : misses_).Increment(); }
  void CountFallback(std::string_view reason) override {
    impl_->fallbacks.Add(With("reason", std::string(reason))).Increment();
  }

 private:
  Labels With(const char* name, std::string value) const {
    Labels labels = labels_;
    labels[name] = std::move(value);
    return labels;
  }

  const std::shared_ptr<Impl> impl_;
  const Labels labels_;
  Counter &ok_, &hits_, &misses_, &cold_, &failed_, &rows_;
  Histogram &queue_, &infer_, &output_, &total_, &batch_;
};

}  // namespace

Metrics::Metrics() : impl_(std::make_shared<Impl>()) {}
Metrics::~Metrics() = default;

std::shared_ptr<ModelMetrics> Metrics::ForModel(const std::string& model,
                                                const std::string& version,
                                                const std::string& tier) {
  return std::make_shared<ModelCounters<Impl>>(
      impl_, Labels{{"model", model}, {"version", version}, {"tier", tier}});
}

void Metrics::CountDemotion(const std::string& model, const std::string& version,
                            const std::string& tier, bool restored) {
  impl_->demotions
      .Add({{"model", model},
            {"version", version},
            {"tier", tier},
            {"change", restored ? "restored" : "demoted"}})
      .Increment();
}

void Metrics::CountOther(int http_status) {
  impl_->requests
      .Add({{"model", ""}, {"version", ""}, {"tier", ""}, {"code", std::to_string(http_status)}})
      .Increment();
}

std::string Metrics::Text(const Gauges& gauges) {
  impl_->cache_bytes.Set(gauges.cache_bytes);
  impl_->cache_entries.Set(gauges.cache_entries);
  impl_->evictions.Set(gauges.cache_evictions);
  impl_->stored_ratio.Set(gauges.cache_stored_ratio);
  impl_->connections.Set(gauges.connections);
  impl_->ready.Set(gauges.ready);
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace minim::serve
