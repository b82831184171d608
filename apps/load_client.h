// The load generator: drives a server from this process, over keep-alive connections with binary
// tensors, and keeps every latency and answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "minim/tensor.h"

namespace minim {

struct LoadOptions {
  /// "http://127.0.0.1:8000".
  std::string url;
  std::string model;
  /// Empty: the model's default tier.
  std::string tier;
  /// Empty: the model's only input, as its metadata says.
  std::string input;
  /// Requests in flight, each on its own connection. 1: one at a time.
  int concurrency = 1;
  /// Requests in all; row i % rows.size() is sent as request i. 0: until `duration` is over.
  int64_t requests = 0;
  std::chrono::milliseconds duration{0};
  /// Requests a second, whatever becomes of the ones before; a latency counts from the moment its
  /// request was due, so that a server that stalls is not asked less (no coordinated omission).
  /// 0: each connection sends when its last answer has come.
  double rate = 0;
  /// With a rate, one of ArrivalKinds(); empty: evenly spaced.
  std::string arrivals;
  /// What an answer in time takes at most; also the scale of bursts. 0: nothing is counted as late.
  std::chrono::microseconds target{0};
  bool use_cache = false;
  bool use_batching = true;
  std::chrono::milliseconds request_timeout{30000};
};

struct LoadReport {
  /// By request, in the order of sending: the same order in every run.
  std::vector<double> latencies_us;
  /// By request: the HTTP status; 0 if there was no answer, or a 200 that is no infer answer.
  std::vector<int> statuses;
  /// By request: index of the largest value of the first output's first row; -1 if it failed.
  std::vector<int64_t> answers;
  int64_t failed = 0;
  /// Those of `failed` that the server would not take: 429 or 503.
  int64_t refused = 0;
  /// Answers that came within the target.
  int64_t in_time = 0;
  /// The first failure's message.
  std::string first_failure;
  int64_t cache_hits = 0;
  /// Mean over the requests of the rows they ran with.
  double mean_batch_rows = 0;
  /// The tier that answered.
  std::string tier;
  double seconds = 0;
  double requests_per_second = 0;
  /// Of the requests that were answered.
  double p50_us = 0, p90_us = 0, p99_us = 0;

  /// Latencies of the requests that were answered, with what `latencies_us` has of the others left
  /// out: a refusal is quick, and no answer.
  std::vector<double> answered_us() const;
};

/// Sends single rows (dims [1,...]) of a fixed dtype; without any, 64 random ones that fit what the
/// model says of its inputs, open dims being 1. A request that fails is counted, the others go on.
/// Errors: kInvalidArgument for wrong options, kUnavailable when nothing answers there.
Result<LoadReport> RunLoad(const LoadOptions& options, std::span<const Tensor> rows);

}  // namespace minim
