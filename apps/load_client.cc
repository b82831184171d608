#include "apps/load_client.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>  // Boost 1.74 uses std::exchange without including it

#include "apps/arrivals.h"
#include "apps/http_line.h"
#include "core/dtype.h"
#include "core/philox.h"
#include "core/stats.h"
#include "serve/protocol/datatypes.h"

namespace minim {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kRandomRows = 64;
constexpr double kDefaultScaleSeconds = 0.05;
constexpr int64_t kMostArrivals = 100'000'000;  // their times are held in memory

std::string EncodeName(std::string_view name) {
  std::string encoded;
  for (const unsigned char c : name) {
    if (std::isalnum(c) || c == '-' || c == '_' || c == '.') {
      encoded += static_cast<char>(c);
    } else {
      encoded += fmt::format("%{:02X}", c);
    }
  }
  return encoded;
}

struct NamedRow {
  std::string name;
  Tensor row;
};

std::string InferWire(const LoadOptions& options, const Endpoint& endpoint,
                      const std::vector<NamedRow>& inputs) {
  json parameters = {{"binary_data_output", true},
                     {"use_cache", options.use_cache},
                     {"use_batching", options.use_batching}};
  if (!options.tier.empty()) parameters["tier"] = options.tier;
  json list = json::array();
  std::string binary;
  for (const auto& [name, row] : inputs) {
    list.push_back({{"name", name},
                    {"shape", std::vector<int64_t>(row.dims().begin(), row.dims().end())},
                    {"datatype", serve::DatatypeName(row.dtype())},
                    {"parameters", {{"binary_data_size", row.bytes()}}}});
    binary.append(static_cast<const char*>(row.data()), row.bytes());
  }
  const std::string text = json{{"inputs", list}, {"parameters", parameters}}.dump();
  return fmt::format(
             "POST /v2/models/{}/infer HTTP/1.1\r\nHost: {}:{}\r\nContent-Length: {}\r\n"
             "Inference-Header-Content-Length: {}\r\n\r\n",
             EncodeName(options.model), endpoint.host, endpoint.port, text.size() + binary.size(),
             text.size()) +
         text + binary;
}

// One row for an input as the model's metadata describes it: floats in [0, 1), integers 0 or 1.
Result<NamedRow> RandomRow(const json& input, const Philox& rng, uint64_t& drawn) {
  const std::string name = input.value("name", "");
  const auto dtype = serve::DTypeFromDatatype(input.value("datatype", ""));
  if (!dtype || *dtype == DType::string)
    return Unsupported("input '{}' is {}: give samples, it cannot be made up", name,
                       input.value("datatype", "untyped"));
  std::vector<int64_t> shape;
  for (const json& size : input.value("shape", json::array()))
    shape.push_back(size.is_number_integer() && size.get<int64_t>() >= 0 ? size.get<int64_t>() : 1);
  Tensor values(DType::f32, Dims(shape));
  for (float& value : values.as<float>()) {
    value = rng.Uniform(drawn++);
    if (!IsFloat(*dtype)) value = std::round(value);
  }
  return NamedRow{name, Converted(values.view(), *dtype)};
}

// The index of the largest value of the first output's first row.
int64_t ArgMax(const json& head, std::string_view binary) {
  const json& output = head.at("outputs").at(0);
  const auto dtype = serve::DTypeFromDatatype(output.at("datatype").get<std::string>());
  const auto shape = output.at("shape").get<std::vector<int64_t>>();
  int64_t width = 1;
  for (size_t i = 1; i < shape.size(); ++i) width *= shape[i];
  if (!dtype || width < 1 || static_cast<uint64_t>(width) > binary.size() / SizeOf(*dtype))
    return -1;
  // Copied, because a row may lie at any address.
  const Tensor row = Tensor::Copy({binary.data(), *dtype, {width}});
  const Tensor values = Converted(row.view(), DType::f64);
  const auto v = values.as<double>();
  return std::max_element(v.begin(), v.end()) - v.begin();
}

class Load {
 public:
  Load(const LoadOptions& options, const Endpoint& endpoint, std::span<const Tensor> rows)
      : options_(options), endpoint_(endpoint), rows_(rows) {}

  Result<LoadReport> Run();

 private:
  Status Prepare();
  asio::awaitable<void> Describe(HttpLine& line, Status& status);
  asio::awaitable<void> Drive();
  Status MakeWires();
  void Note(size_t index, const Answer& answer);
  void Fail(std::string problem);
  // When the request is to leave.
  Clock::time_point DueAt(size_t index) const {
    return start_ +
           std::chrono::round<Clock::duration>(std::chrono::duration<double>(arrivals_[index]));
  }
  bool More() const {
    if (options_.rate > 0) return next_ < static_cast<int64_t>(arrivals_.size());
    return options_.requests > 0 ? next_ < options_.requests : Clock::now() < end_;
  }
  Arrivals MakeArrivals() const;
  void Summarize(double seconds);

  LoadOptions options_;
  const Endpoint endpoint_;
  const std::span<const Tensor> rows_;
  asio::io_context context_{1};
  tcp::resolver::results_type where_;
  std::vector<std::string> wires_;
  json inputs_;
  Arrivals arrivals_;  // with a rate
  Clock::time_point start_, end_;
  int64_t next_ = 0;
  double batch_rows_ = 0;
  LoadReport report_;
};

void Load::Fail(std::string problem) {
  if (report_.failed++ == 0) report_.first_failure = std::move(problem);
}

void Load::Note(size_t index, const Answer& answer) {
  const std::string_view body = answer.body;
  const json head = json::parse(body.substr(0, answer.json_size), nullptr, false);
  report_.refused += answer.status == 429 || answer.status == 503;
  if (answer.status != 200 || !head.is_object())
    return Fail(fmt::format("HTTP {}: {}", answer.status, body.substr(0, 300)));
  try {
    report_.answers[index] = ArgMax(head, body.substr(answer.json_size));
    const json& parameters = head.at("parameters");
    report_.cache_hits += parameters.at("cache_hit").get<bool>();
    batch_rows_ += parameters.at("batch_size").get<double>();
    if (report_.tier.empty()) report_.tier = parameters.at("tier").get<std::string>();
  } catch (const json::exception& error) {
    report_.statuses[index] = 0;
    Fail(fmt::format("an answer that is no infer answer: {}", error.what()));
  }
}

asio::awaitable<void> Load::Drive() {
  HttpLine line(context_, where_);
  asio::steady_timer pace(context_);
  while (More()) {
    const size_t index = static_cast<size_t>(next_++);
    report_.latencies_us.resize(std::max(report_.latencies_us.size(), index + 1));
    report_.answers.resize(report_.latencies_us.size(), -1);
    report_.statuses.resize(report_.latencies_us.size());
    Answer answer;
    std::string problem;
    const std::string& wire = wires_[index % wires_.size()];
    auto start = Clock::now();
    if (options_.rate > 0) {
      start = DueAt(index);
      error_code ignored;
      pace.expires_at(start);
      if (start > Clock::now()) co_await pace.async_wait(WithError(ignored));
    }
    const bool answered = co_await line.Ask(wire, options_.request_timeout, answer, problem);
    report_.latencies_us[index] =
        std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    if (!answered) {
      Fail(problem);
      continue;
    }
    report_.statuses[index] = answer.status;
    Note(index, answer);
  }
}

// Asks the model for its input's name, unless it was given; finds out whether anyone is there.
asio::awaitable<void> Load::Describe(HttpLine& line, Status& status) {
  const std::string wire = fmt::format("GET /v2/models/{} HTTP/1.1\r\nHost: {}\r\n\r\n",
                                       EncodeName(options_.model), endpoint_.host);
  Answer answer;
  std::string problem;
  const bool answered = co_await line.Ask(wire, options_.request_timeout, answer, problem);
  if (!answered) {
    status = Unavailable("{}: {}; is 'minim serve' running there?", options_.url, problem);
    co_return;
  }
  const json metadata = json::parse(answer.body, nullptr, false);
  const json inputs = metadata.is_object() ? metadata.value("inputs", json::array()) : json();
  if (answer.status != 200 || !inputs.is_array() || inputs.empty()) {
    status = NotFound("{}: model '{}': HTTP {}: {}", options_.url, options_.model, answer.status,
                      answer.body.substr(0, 300));
  } else if (rows_.empty()) {
    inputs_ = inputs;
  } else if (options_.input.empty() && inputs.size() != 1) {
    status = InvalidArgument("model '{}' has {} inputs; say which one the rows are for",
                             options_.model, inputs.size());
  } else if (options_.input.empty()) {
    options_.input = inputs[0].value("name", "");
  }
}

Status Load::Prepare() {
  error_code error;
  tcp::resolver resolver(context_);
  where_ = resolver.resolve(endpoint_.host, endpoint_.port, error);
  if (error) return Unavailable("{}: {}", options_.url, error.message());
  HttpLine line(context_, where_);
  Status status;
  asio::co_spawn(context_, Describe(line, status), asio::detached);
  context_.run();
  context_.restart();
  MINIM_TRY(std::move(status));
  return MakeWires();
}

Status Load::MakeWires() {
  for (const Tensor& row : rows_)
    wires_.push_back(InferWire(options_, endpoint_, {{options_.input, row}}));
  const Philox rng(1);
  uint64_t drawn = 0;
  for (int i = 0; i < kRandomRows && rows_.empty(); ++i) {
    std::vector<NamedRow> inputs;
    for (const json& input : inputs_) {
      MINIM_TRY(NamedRow row, RandomRow(input, rng, drawn));
      inputs.push_back(std::move(row));
    }
    wires_.push_back(InferWire(options_, endpoint_, inputs));
  }
  return {};
}

void Load::Summarize(double seconds) {
  report_.seconds = seconds;
  const auto count = static_cast<double>(report_.latencies_us.size());
  const double good = count - static_cast<double>(report_.failed);
  report_.requests_per_second = seconds > 0 ? good / seconds : 0;
  report_.mean_batch_rows = good > 0 ? batch_rows_ / good : 0;
  const std::vector<double> answered = report_.answered_us();
  if (answered.empty()) return;
  const auto target = static_cast<double>(options_.target.count());
  if (target > 0)
    report_.in_time = std::ranges::count_if(answered, [&](double us) { return us <= target; });
  report_.p50_us = Percentile(answered, 0.50);
  report_.p90_us = Percentile(answered, 0.90);
  report_.p99_us = Percentile(answered, 0.99);
}

// When each request is due, in seconds from the start.
Arrivals Load::MakeArrivals() const {
  const double seconds = std::chrono::duration<double>(options_.duration).count();
  const int64_t count = options_.requests > 0
                            ? options_.requests
                            : static_cast<int64_t>(std::ceil(seconds * options_.rate));
  for (const ArrivalKind& kind : ArrivalKinds()) {
    if (kind.name != options_.arrivals) continue;
    const double scale = std::chrono::duration<double>(options_.target).count();
    return kind.make({.per_second = options_.rate,
                      .count = count,
                      .scale_seconds = scale > 0 ? scale : kDefaultScaleSeconds});
  }
  Arrivals even(static_cast<size_t>(count));
  for (size_t i = 0; i < even.size(); ++i) even[i] = static_cast<double>(i) / options_.rate;
  return even;
}

Result<LoadReport> Load::Run() {
  MINIM_TRY(Prepare());
  if (options_.rate > 0) arrivals_ = MakeArrivals();
  start_ = Clock::now();
  end_ = start_ + options_.duration;
  for (int i = 0; i < options_.concurrency; ++i) asio::co_spawn(context_, Drive(), asio::detached);
  context_.run();
  Summarize(std::chrono::duration<double>(Clock::now() - start_).count());
  return std::move(report_);
}

// Options that contradict themselves.
Status Check(const LoadOptions& options) {
  if (!(options.rate >= 0 && options.rate <= 1e7))
    return InvalidArgument("load: rate {}, expected 0 to 1e7 requests a second", options.rate);
  if (options.concurrency < 1 || options.concurrency > 10000)
    return InvalidArgument("load: concurrency {}, expected 1 to 10000", options.concurrency);
  if (options.requests <= 0 && options.duration.count() <= 0)
    return InvalidArgument("load: give a number of requests or a duration");
  const double seconds = std::chrono::duration<double>(options.duration).count();
  if (options.rate > 0 && std::max(static_cast<double>(options.requests), options.rate * seconds) >
                              static_cast<double>(kMostArrivals))
    return InvalidArgument("load: more than {} requests at a rate; make it shorter", kMostArrivals);
  if (options.arrivals.empty()) return {};
  if (options.rate == 0)
    return InvalidArgument("load: arrivals '{}' need a rate", options.arrivals);
  std::string names;
  for (const ArrivalKind& kind : ArrivalKinds()) {
    if (kind.name == options.arrivals) return {};
    names += fmt::format(" {}", kind.name);
  }
  return InvalidArgument("load: arrivals '{}', expected one of:{}", options.arrivals, names);
}

}  // namespace

std::vector<double> LoadReport::answered_us() const {
  std::vector<double> answered;
  for (size_t i = 0; i < latencies_us.size(); ++i)
    if (statuses[i] == 200) answered.push_back(latencies_us[i]);
  return answered;
}

Result<LoadReport> RunLoad(const LoadOptions& options, std::span<const Tensor> rows) {
  MINIM_TRY(Check(options));
  MINIM_TRY(const Endpoint endpoint, ParseUrl(options.url));
  return Load(options, endpoint, rows).Run();
}

}  // namespace minim
