// Status and Result<T>: how minim reports errors. No exception crosses a public header.
// Threads: values; safe to copy between threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace minim {

enum class StatusCode {
  kOk,
  kInvalidArgument,    // what the caller passed is wrong
  kNotFound,           // a file, model, name or version does not exist
  kUnsupported,        // well-formed, but minim cannot do it
  kDataLoss,           // a file is truncated, corrupt or hostile
  kResourceExhausted,  // a limit, a budget or memory is used up
  kDeadlineExceeded,   // the answer would come too late
  kUnavailable,        // try again later: starting, draining, overloaded
  kCancelled,          // the caller went away
  kInternal,           // a bug of ours
};

/// The field's name of a code, such as "INVALID_ARGUMENT".
const char* StatusCodeName(StatusCode code);

/// Success, or a code and a message that says where, what was found, what was expected, what to do.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  /// After how long another try may succeed; zero if nobody knows.
  std::chrono::milliseconds retry_after() const { return std::chrono::milliseconds(retry_ms_); }
  /// The same status with such a delay, at most a day.
  Status WithRetryAfter(std::chrono::milliseconds delay) &&;

  const Status& status() const& { return *this; }
  Status&& status() && { return std::move(*this); }

 private:
  StatusCode code_ = StatusCode::kOk;
  int32_t retry_ms_ = 0;
  std::string message_;
};

/// A value or the Status that explains its absence. `value()` needs `ok()`.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status&& status() && { return std::move(status_); }

  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace minim
