#include "minim/status.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"

namespace minim {

const char* StatusCodeName(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return "OK";
    case StatusCode::kInvalidArgument: return "INVALID_ARGUMENT";
    case StatusCode::kNotFound: return "NOT_FOUND";
    case StatusCode::kUnsupported: return "UNSUPPORTED";
    case StatusCode::kDataLoss: return "DATA_LOSS";
    case StatusCode::kResourceExhausted: return "RESOURCE_EXHAUSTED";
    case StatusCode::kDeadlineExceeded: return "DEADLINE_EXCEEDED";
    case StatusCode::kUnavailable: return "UNAVAILABLE";
    case StatusCode::kCancelled: return "CANCELLED";
    case StatusCode::kInternal: return "INTERNAL";
  }
  return "UNKNOWN";
}

Status Status::WithRetryAfter(std::chrono::milliseconds delay) && {
  constexpr std::chrono::milliseconds kDay = std::chrono::hours(24);
  retry_ms_ = static_cast<int32_t>(std::clamp(delay, std::chrono::milliseconds(0), kDay).count());
  return std::move(*this);
}

Status Annotate(Status status, std::string_view where) {
  if (status.ok()) return status;
  return Status(status.code(), fmt::format("{}: {}", where, status.message()))
      .WithRetryAfter(status.retry_after());
}

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, condition);
  std::abort();
}

}  // namespace minim
