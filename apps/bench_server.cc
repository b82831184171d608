#include "apps/bench_server.h"

#include <nlohmann/json.hpp>

#include "apps/cli.h"
#include "apps/load_client.h"
#include "data/dataset.h"

namespace minim {
namespace {

struct Rows {
  std::vector<Tensor> samples;
  std::vector<int64_t> labels;  // empty when there are none
};

Result<Rows> ReadRows(const ServerBenchOptions& options) {
  Rows rows;
  const std::string& labels = options.labels.empty() ? options.samples : options.labels;
  MINIM_TRY(Dataset data, ReadDataset(options.samples, labels, {}));
  Dims dims = data.samples.dims();
  // IDX files hold images without a channel axis: [N,H,W] becomes [N,1,H,W].
  if (dims.rank() == 3 && Path(options.samples).extension() != ".npy") {
    dims = {dims[0], 1, dims[1], dims[2]};
    data.samples = data.samples.Reshaped(dims);
  }
  if (!options.labels.empty() && data.labels.dtype() != DType::i64)
    return InvalidArgument("{}: holds {}, expected class ids", options.labels,
                           Name(data.labels.dtype()));
  const int64_t count = std::min(options.requests, data.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t order[] = {i};
    rows.samples.push_back(GatherBatch(data, order).samples);
    if (!options.labels.empty()) rows.labels.push_back(data.labels.as<int64_t>()[i]);
  }
  if (rows.samples.empty()) return InvalidArgument("{}: holds no samples", options.samples);
  return rows;
}

double AccuracyOf(const LoadReport& report, const std::vector<int64_t>& labels) {
  int64_t right = 0;
  for (size_t i = 0; i < report.answers.size(); ++i)
    right += report.answers[i] == labels[i % labels.size()];
  return static_cast<double>(right) / static_cast<double>(report.answers.size());
}

void PrintJson(const ServerBenchOptions& options, const LoadReport& report, const Rows& rows) {
  nlohmann::json out = {{"tier", report.tier},
                        {"concurrency", options.concurrency},
                        {"requests", report.latencies_us.size()},
                        {"failed", report.failed},
                        {"p50_us", report.p50_us},
                        {"p90_us", report.p90_us},
                        {"p99_us", report.p99_us},
                        {"requests_per_second", report.requests_per_second},
                        {"mean_batch_rows", report.mean_batch_rows},
                        {"cache_hits", report.cache_hits}};
  if (!rows.labels.empty()) out["accuracy"] = AccuracyOf(report, rows.labels);
  if (options.keep_latencies > 0) {
    const size_t count = std::min<size_t>(report.latencies_us.size(), options.keep_latencies);
    out["latencies_us"] =
        std::vector<double>(report.latencies_us.begin(), report.latencies_us.begin() + count);
    out["answers"] = std::vector<int64_t>(report.answers.begin(), report.answers.begin() + count);
  }
  fmt::print("{}\n", out.dump());
}

void PrintText(const LoadReport& report, const Rows& rows) {
  fmt::print(
      "tier {}: p50 {:.0f} us, p90 {:.0f}, p99 {:.0f}; {:.0f} requests/s; mean batch {:.2f}\n",
      report.tier, report.p50_us, report.p90_us, report.p99_us, report.requests_per_second,
      report.mean_batch_rows);
  fmt::print("{} requests, {} failed, {} cache hits\n", report.latencies_us.size(), report.failed,
             report.cache_hits);
  if (!rows.labels.empty())
    fmt::print("accuracy as served {:.2f} %\n", AccuracyOf(report, rows.labels) * 100);
}

}  // namespace

int BenchServer(const ServerBenchOptions& options) {
  const auto rows = ReadRows(options);
  if (!rows.ok()) return Report(rows.status());
  LoadOptions load{.url = options.url, .model = options.model, .tier = options.tier};
  load.concurrency = options.concurrency;
  load.requests = options.requests;
  load.use_cache = options.repeat;
  load.use_batching = !options.no_batching;
  auto report = RunLoad(load, rows->samples);
  if (report.ok() && options.repeat) report = RunLoad(load, rows->samples);
  if (!report.ok()) return Report(report.status());
  if (options.json)
    PrintJson(options, *report, *rows);
  else
    PrintText(*report, *rows);
  if (report->failed == 0) return 0;
  fmt::print(stderr, "minim: {} requests failed, the first: {}\n", report->failed,
             report->first_failure);
  return kExitFailed;
}

}  // namespace minim
