// Server: models served inside this process, with the batching, cache, tiers and rollouts of
// `minim serve` (docs/serving.md), and over HTTP and gRPC if wanted.
// Threads: every method may be called concurrently. Futures and callbacks are answered on the
// server's threads, or on the caller's before Predict has returned.
// Lifetime: the destructor returns when every prediction has its answer: what runs then ends, what
// waits fails with kUnavailable. It must not run in a callback.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "minim/session.h"
#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

/// One setting of a model, named as in minim.toml: {"batching.latency_target_ms", 5}.
struct ModelSetting {
  ModelSetting(std::string setting, const char* text)
      : name(std::move(setting)), value(std::string(text)) {}
  ModelSetting(std::string setting, std::string text)
      : name(std::move(setting)), value(std::move(text)) {}
  template <typename T>
    requires std::is_arithmetic_v<T>
  ModelSetting(std::string setting, T number) : name(std::move(setting)) {
    if constexpr (std::is_same_v<T, bool>) {
      value = number;
    } else {
      value = static_cast<double>(number);
    }
  }

  std::string name;
  std::variant<bool, double, std::string> value;
};

/// Who decides what is loaded.
enum class ModelLoading {
  kAll,        // everything, at start-up
  kPoll,       // everything, and what changes on disk
  kByRequest,  // `load_models`, and what Load asks for
};

struct ServerOptions {
  /// A repository, a model's folder, or an ONNX file.
  std::string path;
  /// Set: listens for HTTP there, too; 0 takes a free port.
  std::optional<uint16_t> http_port = {};
  /// Set: listens for gRPC there, too; 0 takes a free port.
  std::optional<uint16_t> grpc_port = {};
  std::string address = "127.0.0.1";
  /// As `minim serve --cache`: "memory://?bytes=256MiB", "redis://HOST:6379/0", both with a comma
  /// between; empty: no cache.
  std::string cache = "memory://?bytes=256MiB";
  /// Of models whose folders do not say otherwise.
  std::vector<ModelSetting> settings = {};
  ModelLoading loading = ModelLoading::kAll;
  /// kByRequest: loaded at start-up; "*": all there are.
  std::vector<std::string> load_models = {};
  /// Bytes for models; 0: none. With one (and kAll) the models that are used are loaded, others by
  /// their first request, in place of the least valuable.
  uint64_t memory_budget = 0;
  /// Where the history of use is kept; empty: nowhere.
  std::string usage_history = {};
  /// How long Drain waits.
  std::chrono::milliseconds drain_limit{30000};
  /// Loads, demotions, rollouts: one line each, from any thread.
  std::function<void(const std::string& line)> log = {};
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct PredictRequest {
  std::string model;
  /// In any order. They are copied before Predict returns.
  std::vector<NamedTensor> inputs;
  /// Empty: all.
  std::vector<std::string> outputs = {};
  /// Empty: the server's choice.
  std::string version = {};
  /// "int8"; empty: the server's choice.
  std::string tier = {};
  bool use_cache = true;
  bool use_batching = true;
  /// 0: the model's `timeout_ms`, which also is the most.
  std::chrono::microseconds timeout{0};
  /// 1 runs first, 8 last; 0: 4.
  unsigned priority = 0;
  /// Named texts that a rollout may go by: requests with an equal one get the same version.
  std::vector<std::pair<std::string, std::string>> parameters = {};
};

/// Belongs to the caller, its tensors too.
struct Prediction {
  std::string version;
  /// In the order asked for.
  std::vector<NamedTensor> outputs;
  /// The tier that answered, and why another did not, if one was tried before.
  std::string tier;
  std::string fallback;
  /// What made this answer cheaper: "int8,batch,cache".
  std::string optimizations;
  /// Rows of the run that this request was part of.
  int64_t batch_size = 0;
  bool cache_hit = false;
  /// Waiting, running, and all of it.
  std::chrono::microseconds queue_time{0}, run_time{0}, total_time{0};
};

struct ModelState {
  std::string name;
  /// Empty unless ready.
  std::string version;
  bool ready = false;
  /// Why it is not loaded, or why its last reload failed.
  std::string reason;
};

struct ModelSignature {
  std::string version;
  std::vector<TensorInfo> inputs, outputs;
  std::vector<std::string> tiers;
};

/// What happened since start-up, over all wires.
struct PredictionStats {
  uint64_t predictions = 0;  // failed ones too
  uint64_t failures = 0;
  /// Cache hits over look-ups; 0 before the first.
  double hit_rate = 0;
  /// Runs, and the rows they had.
  uint64_t runs = 0, rows = 0;
  /// From arrival to the answer's tensors, within 1 %; 0 before the first.
  std::chrono::nanoseconds p50{0}, p95{0}, p99{0};
};

struct TierStats {
  std::string model, version, tier;
  PredictionStats stats;
};

/// Of the models that are loaded now.
struct ServerStats {
  PredictionStats total;
  std::vector<TierStats> tiers;
};

class Server {
 public:
  using Callback = std::function<void(Result<Prediction>)>;

  /// Loads the models, then listens if it should. Errors: what is wrong with the options, no model
  /// could be loaded, a port is taken.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Waits for nobody, and always answers; concurrent predictions may run together. A run shorter
  /// than a wake-up is made on the caller's thread.
  /// Errors: kNotFound (model, version), kInvalidArgument names the input or output,
  /// kResourceExhausted (too much waits; see Status::retry_after), kDeadlineExceeded, kUnavailable.
  std::future<Result<Prediction>> Predict(const PredictRequest& request);
  /// The same; `done` is called once and must not block.
  void Predict(const PredictRequest& request, Callback done);

  /// Loads or reloads, beside the predictions; if it fails, what was served before stays.
  Status Load(const std::string& model);
  Status Unload(const std::string& model);
  /// Changes settings while the model runs: all, or none of them.
  /// Errors: kNotFound, kInvalidArgument names the setting and what is expected.
  Status Configure(const std::string& model, const std::vector<ModelSetting>& settings);

  std::vector<ModelState> Models() const;
  /// `version` empty: one that the server chooses. Errors: kNotFound.
  Result<ModelSignature> Describe(const std::string& model, const std::string& version = "") const;
  ServerStats Stats() const;

  /// Not set by the options: 0.
  uint16_t http_port() const;
  uint16_t grpc_port() const;

  /// Takes no more requests and waits for those in progress. True if all ended within the limit.
  bool Drain();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace minim
