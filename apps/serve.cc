#include "apps/serve.h"

#include <pthread.h>
#include <signal.h>

#include <cmath>
#include <thread>

#include "apps/cli.h"
#include "serve/cache/prediction_cache.h"
#include "serve/session_model.h"

namespace minim {
namespace {

using serve::ServerOptions;

constexpr uint16_t kGrpcPort = 8001;

struct Flags {
  ServerOptions server;
  double window_ms = 10;
  double max_wait_ms = 100;
  double latency_target_ms = 50;
  double drain_seconds = 30;
  double grace_seconds = 0;
  double timeout_seconds = 60;
  double poll_seconds = 5;
  double slow_ms = -1;
  double cleanup_seconds = 30;
  double load_wait_seconds = 10;
  std::string memory_budget;
  std::string control = "none";
  std::string cache_bytes;
  std::string max_body = "64MiB";
  std::optional<uint16_t> grpc_port;
  bool no_grpc = false;
};

// Signals wait to be fetched: a handler could do next to nothing safely.
sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

std::string AddressText(const std::string& address, uint16_t port) {
  const bool is_v6 = address.find(':') != std::string::npos;
  return is_v6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

// One line for scripts to wait for, and one for each model.
void Announce(const ServerOptions& options, const serve::Server& server) {
  for (const serve::IndexEntry& model : server.repository()->Index()) {
    if (model.ready) {
      fmt::print("model {} version {} ready\n", model.name, model.version);
    } else {
      fmt::print(stderr, "minim: model {} not loaded: {}\n", model.name, model.reason);
    }
  }
  if (server.grpc_port() != 0)
    fmt::print("gRPC on {}\n", AddressText(options.grpc->address, server.grpc_port()));
  fmt::print("listening on http://{} (batching {}, {} instance{} per model)\n",
             AddressText(options.http->address, server.port()), options.serving.policy,
             options.serving.instances, options.serving.instances == 1 ? "" : "s");
  std::fflush(stdout);
}

Result<serve::Duration> ToDuration(double value, double unit_seconds, const char* name) {
  const double seconds = value * unit_seconds;
  if (!(seconds >= 0 && seconds <= 86400))
    return InvalidArgument("{}: found {}, expected 0 to one day", name, value);
  return std::chrono::round<serve::Duration>(std::chrono::duration<double>(seconds));
}

Result<ServerOptions> ToOptions(const Flags& flags) {
  ServerOptions options = flags.server;
  const auto milliseconds = [](serve::Duration time) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time);
  };
  MINIM_TRY(options.serving.bounds.window, ToDuration(flags.window_ms, 1e-3, "--window-ms"));
  MINIM_TRY(options.serving.bounds.max_wait, ToDuration(flags.max_wait_ms, 1e-3, "--max-wait-ms"));
  MINIM_TRY(options.serving.bounds.latency_target,
            ToDuration(flags.latency_target_ms, 1e-3, "--latency-target-ms"));
  MINIM_TRY(options.serving.default_timeout,
            ToDuration(flags.timeout_seconds, 1, "--timeout-seconds"));
  MINIM_TRY(const serve::Duration drain, ToDuration(flags.drain_seconds, 1, "--drain-seconds"));
  MINIM_TRY(const serve::Duration grace, ToDuration(flags.grace_seconds, 1, "--grace-seconds"));
  MINIM_TRY(options.poll_interval, ToDuration(flags.poll_seconds, 1, "--poll-seconds"));
  if (options.poll_interval == serve::Duration())
    return InvalidArgument("--poll-seconds: found 0, expected more");
  if (flags.slow_ms >= 0) {
    MINIM_TRY(options.slow_log, ToDuration(flags.slow_ms, 1e-3, "--slow-log-ms"));
  }
  if (flags.control == "poll") options.control = serve::ModelControl::kPoll;
  if (flags.control == "explicit") options.control = serve::ModelControl::kExplicit;
  if (flags.control != "explicit" && !options.load_models.empty())
    return InvalidArgument("--load-model needs --model-control explicit");
  MINIM_TRY(options.memory.clean_up, ToDuration(flags.cleanup_seconds, 1, "--cleanup-seconds"));
  MINIM_TRY(options.memory.load_wait,
            ToDuration(flags.load_wait_seconds, 1, "--load-wait-seconds"));
  if (!flags.memory_budget.empty()) {
    MINIM_TRY(options.memory.budget, serve::ParseByteCount(flags.memory_budget));
    if (options.memory.budget == 0)
      return InvalidArgument("--memory-budget: found 0, expected more; leave it out for none");
    if (options.control != serve::ModelControl::kNone)
      return InvalidArgument(
          "--memory-budget: found --model-control {}, expected none: the budget decides what is "
          "loaded",
          flags.control);
  }
  options.log = [](const std::string& line) { fmt::print(stderr, "minim: {}\n", line); };
  options.drain_limit = milliseconds(drain);
  options.grace = milliseconds(grace);
  if (!flags.cache_bytes.empty()) {
    MINIM_TRY(const uint64_t cache_bytes, serve::ParseByteCount(flags.cache_bytes));
    options.cache = cache_bytes == 0 ? "" : fmt::format("memory://?bytes={}", cache_bytes);
  }
  if (options.cache == "none") options.cache.clear();
  MINIM_TRY(options.http->max_body_bytes, serve::ParseByteCount(flags.max_body));
  if (flags.no_grpc) return options;
  options.grpc = {.address = options.http->address,
                  .port = flags.grpc_port.value_or(options.http->port == 0 ? 0 : kGrpcPort),
                  .max_message_bytes = options.http->max_body_bytes};
  return options;
}

void AddPolicyFlags(CLI::App& verb, Flags& flags) {
  std::vector<std::string> names;
  std::string help = "When to run:";
  for (const serve::BatchPolicy& policy : serve::BatchPolicies()) {
    names.emplace_back(policy.name);
    help += fmt::format(" {} ({});", policy.name, policy.summary);
  }
  serve::BatchOptions& bounds = flags.server.serving.bounds;
  verb.add_option("--batching", flags.server.serving.policy, help)
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  verb.add_option("--max-batch", bounds.max_batch, "Rows per run at most")->capture_default_str();
  verb.add_option("--min-batch", bounds.min_batch,
                  "Rows a window waits for, up to the longest wait")
      ->capture_default_str();
  verb.add_option("--window-ms", flags.window_ms, "time-window: from the oldest request")
      ->capture_default_str();
  verb.add_option("--max-wait-ms", flags.max_wait_ms, "Longest wait for a batch to fill")
      ->capture_default_str();
  verb.add_option("--latency-target-ms", flags.latency_target_ms, "adaptive: answer within this")
      ->capture_default_str();
}

void AddServerFlags(CLI::App& verb, Flags& flags) {
  ServerOptions& server = flags.server;
  verb.add_option("path", server.path, "Model repository, model folder or ONNX file")->required();
  verb.add_option("--address", server.http->address, "Address to listen on")->capture_default_str();
  verb.add_option("--port", server.http->port, "Port; 0 takes a free one and prints it")
      ->capture_default_str();
  verb.add_option(
      "--grpc-port", flags.grpc_port,
      fmt::format("Port for gRPC, {} unless --port is 0; 0 takes a free one", kGrpcPort));
  verb.add_flag("--no-grpc", flags.no_grpc, "HTTP only");
  verb.add_option("--instances", server.serving.instances, "Runs at a time, per model and tier")
      ->capture_default_str();
  verb.add_option("--http-threads", server.http->threads, "Threads that serve sockets")
      ->capture_default_str();
  CLI::Option* cache =
      verb.add_option("--cache", server.cache,
                      "Prediction cache: memory://?bytes=256MiB, redis://HOST:PORT/DB?deadline=5ms "
                      "that servers share, both with a comma between, or none")
          ->capture_default_str();
  verb.add_option("--cache-bytes", flags.cache_bytes,
                  "Short for --cache memory://?bytes=BYTES; 0: none")
      ->excludes(cache);
  verb.add_option("--max-body", flags.max_body, "Largest request body")->capture_default_str();
  verb.add_option("--timeout-seconds", flags.timeout_seconds, "A request's longest stay")
      ->capture_default_str();
  verb.add_option("--drain-seconds", flags.drain_seconds,
                  "On SIGTERM: longest wait for requests in progress")
      ->capture_default_str();
  verb.add_option("--grace-seconds", flags.grace_seconds,
                  "On SIGTERM: go on this long after readiness has failed")
      ->capture_default_str();
  verb.add_option("--model-control", flags.control,
                  "none: all models, at start-up; poll: and what changes on disk; explicit: by "
                  "request, and those of --load-model")
      ->check(CLI::IsMember({"none", "poll", "explicit"}))
      ->capture_default_str();
  verb.add_option("--load-model", server.load_models,
                  "explicit: load at start-up; repeatable, '*': all");
  verb.add_option("--slow-log-ms", flags.slow_ms,
                  "Log requests that take at least so long, with their phases");
  verb.add_option("--poll-seconds", flags.poll_seconds, "poll: how often to look")
      ->capture_default_str();
  verb.add_flag("--bf16", server.offer_bf16, "Also offer the tier bf16, made from model.onnx");
}

void AddMemoryFlags(CLI::App& verb, Flags& flags) {
  serve::KeeperOptions& memory = flags.server.memory;
  verb.add_option("--memory-budget", flags.memory_budget,
                  "Bytes for models, like 2GiB: the most used are loaded, others by their first "
                  "request, in place of the least valuable");
  verb.add_option("--memory-threshold", memory.threshold,
                  "Share of the budget above which clean-up trims contexts and idle models")
      ->capture_default_str();
  verb.add_option("--cleanup-seconds", flags.cleanup_seconds,
                  "How often to clean up, load ahead and save the history")
      ->capture_default_str();
  verb.add_option("--load-wait-seconds", flags.load_wait_seconds,
                  "Longest wait of a request for its model to be loaded")
      ->capture_default_str();
  verb.add_option("--history", memory.history,
                  "JSON file that keeps how often models are used, over restarts");
}

}  // namespace

int RunServe(const ServerOptions& options) {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread starts: they inherit it
  auto server = serve::Server::Start(options, serve::LoadSessionModel);
  if (!server.ok()) return Report(server.status());
  Announce(options, **server);
  int signal = 0;
  sigwait(&signals, &signal);
  // A second signal ends the process at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  fmt::print("{}: draining\n", signal == SIGTERM ? "SIGTERM" : "SIGINT");
  std::fflush(stdout);
  if ((*server)->Drain()) return 0;
  return Report(DeadlineExceeded("requests were still in progress after {} s and were dropped",
                                 options.drain_limit.count() / 1000));
}

void AddServeCommand(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<Flags>();
  flags->server.http->port = 8000;
  flags->server.serving = serve::DefaultServing();
  CLI::App* verb =
      AddVerb(app, "serve", "Serve models over HTTP and gRPC (Open Inference Protocol v2)",
              "minim serve models/ --port 8000 --batching time-window --window-ms 5\n"
              "  curl localhost:8000/v2/models/NAME",
              exit_code, [flags] {
                const auto options = ToOptions(*flags);
                return options.ok() ? RunServe(*options) : Report(options.status());
              });
  AddServerFlags(*verb, *flags);
  AddPolicyFlags(*verb, *flags);
  AddMemoryFlags(*verb, *flags);
}

}  // namespace minim
