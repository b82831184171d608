// Requests and answers as the protocol sees them: no sockets, no third-party types.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "minim/status.h"

namespace minim::serve {

/// Header fields in order of arrival; names compare without case.
class Headers {
 public:
  void Add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
  }
  /// The first value, or empty.
  std::string_view Get(std::string_view name) const;
  int Count(std::string_view name) const;
  const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

bool EqualsIgnoringCase(std::string_view a, std::string_view b);
std::string_view Trim(std::string_view text);
/// Splits at commas and trims; empty items are left out.
std::vector<std::string_view> SplitList(std::string_view text);

/// Learns what became of an answer. Threads: Sent is called from any.
class SentObserver {
 public:
  virtual ~SentObserver() = default;
  /// It was handed to the socket so long after it was ready.
  virtual void Sent(std::chrono::nanoseconds after) = 0;
};

struct HttpRequest {
  std::string method;
  /// As sent: path and query, still percent-encoded.
  std::string target;
  Headers headers;
  /// Without transfer or content coding.
  std::string body;
  /// When the last of it came to this machine: a slow client is not the server's delay, the wait to
  /// be read is.
  std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
  /// Becomes true when the client goes away.
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  Headers headers;
  std::string body;
  /// Told when it has gone out; null: nobody asks.
  std::shared_ptr<SentObserver> observer;
  std::chrono::steady_clock::time_point ready;
};

/// Called once per request, from any thread.
using ResponseCallback = std::function<void(HttpResponse)>;
/// Must not block: inference goes elsewhere and calls back.
using HttpHandler = std::function<void(HttpRequest, ResponseCallback)>;

/// 400 for kInvalidArgument, 429 for kResourceExhausted and so on.
int HttpStatusOf(StatusCode code);
/// {"error":"..."} with the status' message; the second adds Retry-After where the status knows
/// when.
HttpResponse ErrorResponse(int http_status, std::string_view message);
HttpResponse ErrorResponse(const Status& status);
/// "Not Found" for 404.
std::string_view ReasonPhrase(int http_status);

/// Text as a JSON string with its quotes; bad UTF-8 becomes U+FFFD.
std::string JsonQuote(std::string_view text);
/// The same, at the end of `json`.
void AppendQuoted(std::string_view text, std::string& json);

}  // namespace minim::serve
