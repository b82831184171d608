// Batch settings as JSON: what the management call reads and answers.
#pragma once

#include <string>

#include "serve/batching/scheduler.h"

namespace minim::serve {

/// Reads an object with any of "policy", "max_batch", "min_batch", "window_ms", "max_wait_ms",
/// "latency_target_ms" and "max_queue_rows"; what it leaves out stays as in `current`. May grow the
/// text's capacity, because the JSON parser reads past its end.
/// Errors: kInvalidArgument and kNotFound name the field, what was found and what is expected.
Result<BatchSettings> ParseBatchSettings(std::string& text, const BatchSettings& current);

/// An object with all of them.
std::string BatchSettingsJson(const BatchSettings& settings);

}  // namespace minim::serve
