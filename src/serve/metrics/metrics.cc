#include "serve/metrics/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>

namespace minim::serve {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr double kSeconds[] = {0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005,
                               0.001,   0.002,   0.005,   0.01,   0.02,   0.05,
                               0.1,     0.2,     0.5,     1,      2,      5};
constexpr std::string_view kPhaseNames[kPhases] = {"queue", "batch",     "compute", "split",
                                                   "cache", "serialise", "total",   "send"};

// Families in the order in which they were first named.
class Families {
 public:
  void Counter(const char* name, const char* help, Labels labels, double value) {
    ClientMetric metric;
    metric.label = Sorted(std::move(labels));
    metric.counter.value = value;
    Of(name, help, MetricType::Counter).metric.push_back(std::move(metric));
  }
  void Gauge(const char* name, const char* help, Labels labels, double value) {
    ClientMetric metric;
    metric.label = Sorted(std::move(labels));
    metric.gauge.value = value;
    Of(name, help, MetricType::Gauge).metric.push_back(std::move(metric));
  }
  void Histogram(const char* name, const char* help, Labels labels,
                 ClientMetric::Histogram histogram) {
    ClientMetric metric;
    metric.label = Sorted(std::move(labels));
    metric.histogram = std::move(histogram);
    Of(name, help, MetricType::Histogram).metric.push_back(std::move(metric));
  }
  // Without a type: a counter's name would have to end in _total.
  void Untyped(const char* name, const char* help, Labels labels, double value) {
    ClientMetric metric;
    metric.label = Sorted(std::move(labels));
    metric.untyped.value = value;
    Of(name, help, MetricType::Untyped).metric.push_back(std::move(metric));
  }
  const std::vector<MetricFamily>& all() const { return all_; }

 private:
  static Labels Sorted(Labels labels) {
    std::sort(labels.begin(), labels.end());
    return labels;
  }
  MetricFamily& Of(const char* name, const char* help, MetricType type) {
    for (MetricFamily& family : all_)
      if (family.name == name) return family;
    MetricFamily family;
    family.name = name;
    family.help = help;
    family.type = type;
    return all_.emplace_back(std::move(family));
  }

  std::vector<MetricFamily> all_;
};

Labels With(Labels labels, const char* name, std::string_view value) {
  labels.push_back({name, std::string(value)});
  return labels;
}

ClientMetric::Histogram Exposed(const LatencyHistogram& histogram) {
  ClientMetric::Histogram exposed;
  const std::vector<uint64_t> counts = histogram.CountsUpTo(kSeconds);
  for (size_t i = 0; i < counts.size(); ++i)
    exposed.bucket.push_back({.cumulative_count = counts[i], .upper_bound = kSeconds[i]});
  // Never below a bucket that was counted a moment earlier.
  exposed.sample_count = std::max(histogram.count(), counts.back());
  exposed.sample_sum = histogram.sum_seconds();
  exposed.bucket.push_back({.cumulative_count = exposed.sample_count,
                            .upper_bound = std::numeric_limits<double>::infinity()});
  return exposed;
}

double Micros(const DurationStat& stat) { return static_cast<double>(stat.ns / 1000); }

void AddTriton(const VersionReadings& of, Families& families) {
  const Labels labels = {{"model", of.model}, {"version", of.version}};
  const ModelStats& stats = *of.stats;
  const auto count = [&](const char* name, const char* help, double value) {
    families.Untyped(name, help, labels, value);
  };
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  count("nv_inference_request_success", "Requests answered.", number(stats.success.count));
  count("nv_inference_request_failure", "Requests that failed.", number(stats.fail.count));
  count("nv_inference_count", "Rows run.", number(stats.inference_count));
  count("nv_inference_exec_count", "Runs.", number(stats.execution_count));
  count("nv_inference_request_duration_us", "Time of requests.", Micros(stats.success));
  count("nv_inference_queue_duration_us", "Time in the queue.", Micros(stats.queue));
  count("nv_inference_compute_input_duration_us", "Time of putting rows together.",
        Micros(stats.compute_input));
  count("nv_inference_compute_infer_duration_us", "Time of runs.", Micros(stats.compute_infer));
  count("nv_inference_compute_output_duration_us", "Time of taking rows apart.",
        Micros(stats.compute_output));
  count("nv_cache_num_hits_per_model", "Answers from the cache.", number(stats.cache_hit.count));
  count("nv_cache_num_misses_per_model", "Look-ups in vain.", number(stats.cache_miss.count));
  families.Gauge("nv_inference_pending_request_count", "Rows that wait for a run.", labels,
                 static_cast<double>(of.pending));
}

double Share(uint64_t part, uint64_t whole, double of_nothing) {
  return whole == 0 ? of_nothing : static_cast<double>(part) / static_cast<double>(whole);
}

void AddGauges(const Gauges& gauges, Families& families) {
  const CacheStats& cache = gauges.cache;
  const auto gauge = [&](const char* name, const char* help, auto value) {
    families.Gauge(name, help, {}, static_cast<double>(value));
  };
  gauge("minim_cache_bytes", "Bytes held by the prediction cache.", cache.bytes);
  gauge("minim_cache_entries", "Answers held by the prediction cache.", cache.entries);
  gauge("minim_cache_evictions", "Answers that left the cache for others.", cache.evictions);
  gauge("minim_cache_hit_rate", "Hits over look-ups, since the start.",
        Share(cache.hits, cache.hits + cache.misses, 0));
  gauge("minim_cache_saved_seconds", "What computing the hits took at first.",
        std::chrono::duration<double>(cache.saved).count());
  gauge("minim_cache_shared_failures", "Connections to a shared cache that were lost.",
        cache.failures);
  gauge("minim_cache_shared_skipped", "Look-ups made without the shared cache.", cache.skipped);
  gauge("minim_cache_stored_ratio", "Stored over raw bytes of answers.",
        Share(cache.stored_bytes, cache.raw_bytes, 1));
  gauge("minim_connections", "Open client connections.", gauges.connections);
  gauge("minim_ready", "1 if the server takes requests.", gauges.ready);
}

}  // namespace

std::string_view PhaseName(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

void ModelMetrics::CountRequest(int http_status) {
  if (http_status == 200) {
    ++ok_;
    return;
  }
  std::lock_guard lock(mutex_);
  ++codes_[http_status];
}

void ModelMetrics::CountFallback(std::string_view reason) {
  std::lock_guard lock(mutex_);
  ++fallbacks_[std::string(reason)];
}

void ModelMetrics::ObserveRun(const RunReport& report) {
  const int64_t rows = report.rows;
  const auto bound = std::lower_bound(kRowBounds.begin(), kRowBounds.end(), rows);
  ++row_counts_[static_cast<size_t>(bound - kRowBounds.begin())];
  ++runs_;
  rows_ += static_cast<uint64_t>(rows);
  possible_rows_ += static_cast<uint64_t>(std::max(rows, report.max_rows));
  cold_ += report.cold;
  failed_runs_ += !report.ok;
  ++releases_[static_cast<size_t>(report.reason)];
}

uint64_t ModelMetrics::failures() const {
  std::lock_guard lock(mutex_);
  uint64_t failures = 0;
  for (const auto& [code, count] : codes_) failures += count;
  return failures;
}

uint64_t ModelMetrics::requests() const { return ok_ + failures(); }

double ModelMetrics::batch_efficiency() const {
  const auto possible = static_cast<double>(possible_rows_.load());
  return possible == 0 ? 0 : static_cast<double>(rows_.load()) / possible;
}

std::shared_ptr<ModelMetrics> Metrics::ForModel(const std::string& model,
                                                const std::string& version,
                                                const std::string& tier) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<ModelMetrics>& metrics = models_[{model, version, tier}];
  if (!metrics) metrics = std::make_shared<ModelMetrics>();
  return metrics;
}

void Metrics::CountDemotion(const std::string& model, const std::string& version,
                            const std::string& tier, bool restored) {
  std::lock_guard lock(mutex_);
  Changes& changes = changes_[{model, version, tier}];
  ++(restored ? changes.restored : changes.demoted);
}

void Metrics::CountOther(int http_status) {
  std::lock_guard lock(mutex_);
  ++others_[http_status];
}

// A friend of what it writes.
class MetricsWriter {
 public:
  void AddRequests(Labels labels, int code, uint64_t count) {
    families_.Counter("minim_requests_total", "Requests, by model and HTTP status.",
                      With(std::move(labels), "code", std::to_string(code)),
                      static_cast<double>(count));
  }
  void AddModel(const Labels& labels, const ModelMetrics& model);
  Families& families() { return families_; }

 private:
  static ClientMetric::Histogram RowsOf(const ModelMetrics& model);

  Families families_;
};

ClientMetric::Histogram MetricsWriter::RowsOf(const ModelMetrics& model) {
  ClientMetric::Histogram rows;
  constexpr auto& kBounds = ModelMetrics::kRowBounds;
  for (size_t i = 0; i < model.row_counts_.size(); ++i) {
    rows.sample_count += model.row_counts_[i];
    rows.bucket.push_back({.cumulative_count = rows.sample_count,
                           .upper_bound = i < kBounds.size()
                                              ? static_cast<double>(kBounds[i])
                                              : std::numeric_limits<double>::infinity()});
  }
  rows.sample_sum = static_cast<double>(model.rows_);
  return rows;
}

void MetricsWriter::AddModel(const Labels& labels, const ModelMetrics& model) {
  const auto count = [&](const char* name, const char* help, Labels with, uint64_t value) {
    families_.Counter(name, help, std::move(with), static_cast<double>(value));
  };
  AddRequests(labels, 200, model.ok_);
  {
    std::lock_guard lock(model.mutex_);
    for (const auto& [code, requests] : model.codes_) AddRequests(labels, code, requests);
    for (const auto& [reason, fallbacks] : model.fallbacks_)
      count("minim_fallbacks_total", "Requests that another tier answered instead, by reason.",
            With(labels, "reason", reason), fallbacks);
  }
  constexpr const char* kLookUps = "Cache look-ups, by result.";
  count("minim_cache_requests_total", kLookUps, With(labels, "result", "hit"), model.hits_);
  count("minim_cache_requests_total", kLookUps, With(labels, "result", "miss"), model.misses_);
  count("minim_cold_runs_total", "Runs with dims not prepared before.", labels, model.cold_);
  count("minim_failed_runs_total", "Runs that ended in an error.", labels, model.failed_runs_);
  count("minim_inference_rows_total", "Rows run.", labels, model.rows_);
  count("minim_possible_rows_total", "Rows that the runs had room for.", labels,
        model.possible_rows_);
  for (int r = 0; r < kReleaseReasons; ++r)
    count("minim_batch_releases_total", "Runs, by why they began when they did.",
          With(labels, "reason", ReleaseReasonName(static_cast<ReleaseReason>(r))),
          model.releases_[static_cast<size_t>(r)]);
  families_.Histogram("minim_batch_rows", "Rows per run.", labels, RowsOf(model));
  for (int p = 0; p < kPhases; ++p)
    families_.Histogram("minim_stage_seconds", "Time of a request, by stage.",
                        With(labels, "stage", kPhaseNames[p]),
                        Exposed(model.phase(static_cast<Phase>(p))));
}

std::string Metrics::Text(const Gauges& gauges, std::span<const VersionReadings> versions) const {
  const auto labels_of = [](const Key& key) {
    return Labels{
        {"model", std::get<0>(key)}, {"version", std::get<1>(key)}, {"tier", std::get<2>(key)}};
  };
  MetricsWriter writer;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [code, count] : others_) writer.AddRequests(labels_of({}), code, count);
    for (const auto& [key, model] : models_) writer.AddModel(labels_of(key), *model);
    for (const auto& [key, changes] : changes_)
      for (const auto& [change, count] :
           {std::pair("demoted", changes.demoted), {"restored", changes.restored}})
        writer.families().Counter(
            "minim_tier_changes_total", "Tiers that lost their place, or have it back, by change.",
            With(labels_of(key), "change", change), static_cast<double>(count));
  }
  for (const VersionReadings& version : versions) AddTriton(version, writer.families());
  AddGauges(gauges, writer.families());
  return prometheus::TextSerializer().Serialize(writer.families().all());
}

}  // namespace minim::serve
