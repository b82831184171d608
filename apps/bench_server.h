// minim bench --url: a running server, measured from this process with labelled samples.
#pragma once

#include <string>

namespace minim {

struct ServerBenchOptions {
  std::string url;
  std::string model;
  std::string tier;
  std::string samples, labels;  // .npy or IDX; labels are optional
  int64_t requests = 1000;
  int concurrency = 1;
  bool repeat = false;  // send everything twice with the cache on; the second pass is reported
  bool no_batching = false;
  bool json = false;
  int64_t keep_latencies = 0;  // how many latencies the JSON lists
};

/// Prints latency, throughput, and accuracy as served. Returns the exit code.
int BenchServer(const ServerBenchOptions& options);

}  // namespace minim
