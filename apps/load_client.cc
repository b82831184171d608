#include "apps/load_client.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>  // Boost 1.74 uses std::exchange without including it

#include "core/dtype.h"
#include "core/philox.h"
#include "core/stats.h"
#include "serve/http/message.h"
#include "serve/protocol/datatypes.h"

namespace minim {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kRandomRows = 64;

struct Endpoint {
  std::string host;
  std::string port = "80";
};

Result<Endpoint> ParseUrl(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return InvalidArgument("url '{}': expected http://HOST:PORT", url);
  std::string_view rest = url.substr(kScheme.size());
  rest = rest.substr(0, rest.find('/'));
  Endpoint endpoint;
  const size_t colon = rest.rfind(':');
  endpoint.host = std::string(rest.substr(0, colon));
  if (colon != std::string_view::npos) endpoint.port = std::string(rest.substr(colon + 1));
  if (endpoint.host.starts_with('[') && endpoint.host.ends_with(']'))
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  if (endpoint.host.empty() || endpoint.port.empty())
    return InvalidArgument("url '{}': expected http://HOST:PORT", url);
  return endpoint;
}

struct Answer {
  int status = 0;
  size_t json_size = 0;  // the whole body without binary tensors
  std::string body;
};

auto WithError(error_code& error) { return asio::redirect_error(asio::use_awaitable, error); }

uint64_t NumberField(std::string_view head, std::string_view name, uint64_t fallback) {
  for (size_t at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at)) {
    at += 2;
    const std::string_view line = head.substr(at, head.find("\r\n", at) - at);
    if (line.size() <= name.size() || line[name.size()] != ':' ||
        !serve::EqualsIgnoringCase(line.substr(0, name.size()), name))
      continue;
    const std::string_view text = serve::Trim(line.substr(name.size() + 1));
    std::from_chars(text.data(), text.data() + text.size(), fallback);
    return fallback;
  }
  return fallback;
}

// One keep-alive connection. Arguments of its coroutines are the caller's named variables: g++ 12
// destroys some temporaries of a co_await expression twice.
class Line {
 public:
  Line(asio::io_context& context, const tcp::resolver::results_type& where)
      : wire_(std::make_shared<Wire>(context)), timer_(context), where_(where) {}

  // False: no answer; `problem` says why. The next call connects again.
  asio::awaitable<bool> Ask(const std::string& request, std::chrono::milliseconds timeout,
                            Answer& answer, std::string& problem) {
    SetTimeout(timeout);
    error_code error;
    co_await Exchange(request, answer, error);
    wire_->deadline = Clock::time_point::max();
    timer_.cancel();
    if (!error) co_return true;
    problem = error == asio::error::operation_aborted ? "no answer in time" : error.message();
    error_code ignored;
    wire_->socket.close(ignored);
    in_.clear();
    co_return false;
  }

 private:
  // Shared with the timer's handler, which may run after the line has gone.
  struct Wire {
    explicit Wire(asio::io_context& context) : socket(context) {}
    tcp::socket socket;
    Clock::time_point deadline = Clock::time_point::max();
  };

  void SetTimeout(std::chrono::milliseconds timeout) {
    wire_->deadline = Clock::now() + timeout;
    timer_.expires_at(wire_->deadline);
    timer_.async_wait([wire = wire_](error_code) {
      error_code ignored;
      if (Clock::now() >= wire->deadline) wire->socket.close(ignored);
    });
  }

  asio::awaitable<void> Exchange(const std::string& request, Answer& answer, error_code& error) {
    tcp::socket& socket = wire_->socket;
    if (!socket.is_open()) {
      co_await asio::async_connect(socket, where_, WithError(error));
      if (error) co_return;
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
    }
    co_await asio::async_write(socket, asio::buffer(request), WithError(error));
    if (!error) co_await Read(answer, error);
  }

  asio::awaitable<void> More(error_code& error) {
    const size_t before = in_.size();
    in_.resize(before + (16 << 10));
    const size_t count = co_await wire_->socket.async_read_some(
        asio::buffer(in_.data() + before, in_.size() - before), WithError(error));
    in_.resize(before + count);
  }

  asio::awaitable<void> Read(Answer& answer, error_code& error) {
    size_t head_size = std::string::npos;
    while ((head_size = in_.find("\r\n\r\n")) == std::string::npos) {
      co_await More(error);
      if (error) co_return;
    }
    const std::string head = in_.substr(0, head_size + 2);
    std::from_chars(head.data() + std::min<size_t>(9, head.size()), head.data() + head.size(),
                    answer.status);
    const uint64_t length = NumberField(head, "Content-Length", 0);
    while (in_.size() < head_size + 4 + length) {
      co_await More(error);
      if (error) co_return;
    }
    answer.body.assign(in_, head_size + 4, length);
    answer.json_size =
        std::min<uint64_t>(length, NumberField(head, "Inference-Header-Content-Length", length));
    in_.erase(0, head_size + 4 + length);
  }

  const std::shared_ptr<Wire> wire_;
  asio::steady_timer timer_;
  const tcp::resolver::results_type& where_;
  std::string in_;
};

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
  asio::awaitable<void> Describe(Line& line, Status& status);
  asio::awaitable<void> Drive();
  Status MakeWires();
  void Note(size_t index, double us, const Answer& answer);
  void Fail(std::string problem);
  // When the request is to leave.
  Clock::time_point DueAt(int64_t index) const {
    return start_ + std::chrono::round<Clock::duration>(
                        std::chrono::duration<double>(static_cast<double>(index) / options_.rate));
  }
  bool More() const {
    if (options_.requests > 0) return next_ < options_.requests;
    return (options_.rate > 0 ? DueAt(next_) : Clock::now()) < end_;
  }
  void Summarize(double seconds);

  LoadOptions options_;
  const Endpoint endpoint_;
  const std::span<const Tensor> rows_;
  asio::io_context context_{1};
  tcp::resolver::results_type where_;
  std::vector<std::string> wires_;
  json inputs_;
  Clock::time_point start_, end_;
  int64_t next_ = 0;
  double batch_rows_ = 0;
  LoadReport report_;
};

void Load::Fail(std::string problem) {
  if (report_.failed++ == 0) report_.first_failure = std::move(problem);
}

void Load::Note(size_t index, double us, const Answer& answer) {
  report_.latencies_us[index] = us;
  const std::string_view body = answer.body;
  const json head = json::parse(body.substr(0, answer.json_size), nullptr, false);
  if (answer.status != 200 || !head.is_object())
    return Fail(fmt::format("HTTP {}: {}", answer.status, body.substr(0, 300)));
  try {
    report_.answers[index] = ArgMax(head, body.substr(answer.json_size));
    const json& parameters = head.at("parameters");
    report_.cache_hits += parameters.at("cache_hit").get<bool>();
    batch_rows_ += parameters.at("batch_size").get<double>();
    if (report_.tier.empty()) report_.tier = parameters.at("tier").get<std::string>();
  } catch (const json::exception& error) {
    Fail(fmt::format("an answer that is no infer answer: {}", error.what()));
  }
}

asio::awaitable<void> Load::Drive() {
  Line line(context_, where_);
  asio::steady_timer pace(context_);
  while (More()) {
    const size_t index = static_cast<size_t>(next_++);
    report_.latencies_us.resize(std::max(report_.latencies_us.size(), index + 1));
    report_.answers.resize(std::max(report_.answers.size(), index + 1), -1);
    Answer answer;
    std::string problem;
    const std::string& wire = wires_[index % wires_.size()];
    auto start = Clock::now();
    if (options_.rate > 0) {
      start = DueAt(static_cast<int64_t>(index));
      error_code ignored;
      pace.expires_at(start);
      if (start > Clock::now()) co_await pace.async_wait(WithError(ignored));
    }
    const bool answered = co_await line.Ask(wire, options_.request_timeout, answer, problem);
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    if (answered) {
      Note(index, us, answer);
    } else {
      report_.latencies_us[index] = us;
      Fail(problem);
    }
  }
}

// Asks the model for its input's name, unless it was given; finds out whether anyone is there.
asio::awaitable<void> Load::Describe(Line& line, Status& status) {
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
  Line line(context_, where_);
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
  if (report_.latencies_us.empty()) return;
  report_.p50_us = Percentile(report_.latencies_us, 0.50);
  report_.p90_us = Percentile(report_.latencies_us, 0.90);
  report_.p99_us = Percentile(report_.latencies_us, 0.99);
}

Result<LoadReport> Load::Run() {
  MINIM_TRY(Prepare());
  start_ = Clock::now();
  end_ = start_ + options_.duration;
  for (int i = 0; i < options_.concurrency; ++i) asio::co_spawn(context_, Drive(), asio::detached);
  context_.run();
  Summarize(std::chrono::duration<double>(Clock::now() - start_).count());
  return std::move(report_);
}

}  // namespace

Result<LoadReport> RunLoad(const LoadOptions& options, std::span<const Tensor> rows) {
  if (!(options.rate >= 0 && options.rate <= 1e7))
    return InvalidArgument("load: rate {}, expected 0 to 1e7 requests a second", options.rate);
  if (options.concurrency < 1 || options.concurrency > 10000)
    return InvalidArgument("load: concurrency {}, expected 1 to 10000", options.concurrency);
  if (options.requests <= 0 && options.duration.count() <= 0)
    return InvalidArgument("load: give a number of requests or a duration");
  MINIM_TRY(const Endpoint endpoint, ParseUrl(options.url));
  return Load(options, endpoint, rows).Run();
}

Result<std::string> Fetch(const std::string& url, const std::string& target) {
  MINIM_TRY(const Endpoint endpoint, ParseUrl(url));
  asio::io_context context{1};
  error_code error;
  tcp::resolver resolver(context);
  const auto where = resolver.resolve(endpoint.host, endpoint.port, error);
  if (error) return Unavailable("{}: {}", url, error.message());
  Line line(context, where);
  const std::string request =
      fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", target, endpoint.host);
  Answer answer;
  std::string problem;
  bool answered = false;
  asio::co_spawn(
      context,
      [&]() -> asio::awaitable<void> {
        answered = co_await line.Ask(request, std::chrono::seconds(10), answer, problem);
      },
      asio::detached);
  context.run();
  if (!answered) return Unavailable("{}: {}; is 'minim serve' running there?", url, problem);
  if (answer.status != 200)
    return NotFound("{}{}: HTTP {}: {}", url, target, answer.status, answer.body.substr(0, 300));
  return std::move(answer.body);
}

}  // namespace minim
