// Reading hostile JSON with simdjson: every value is checked, also those nobody asked for. Internal
// to protocol/; the only header here that sees simdjson.
#pragma once

// Without exceptions its results cannot be used unchecked: that is a compile error then.
#ifndef SIMDJSON_EXCEPTIONS
#define SIMDJSON_EXCEPTIONS 0
#endif
#include <simdjson.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "minim/tensor.h"

namespace minim::serve {

namespace ondemand = simdjson::ondemand;

/// kInvalidArgument with the parser's own words.
Status Broken(std::string_view where, simdjson::error_code error);

// MINIM_TRY for simdjson's results: reads into a declared variable or returns the error.
#define READ_JSON(target, expr, where) \
  if (const auto read_error = (expr).get(target)) return Broken(where, read_error)

inline constexpr size_t kMaxKeys = 64;

/// Calls f(key, value) for each field. A repeated key is refused: parsers disagree on which counts.
template <typename F>
Status ForEachField(ondemand::object object, std::string_view where, F&& f) {
  std::vector<std::string_view> seen;
  seen.reserve(8);
  for (auto item : object) {
    ondemand::field field;
    READ_JSON(field, std::move(item), where);
    std::string_view key;
    READ_JSON(key, field.unescaped_key(), where);
    if (std::find(seen.begin(), seen.end(), key) != seen.end())
      return InvalidArgument("{}: the key '{}' appears twice", where, key.substr(0, 64));
    if (seen.size() == kMaxKeys) return InvalidArgument("{}: more than {} keys", where, kMaxKeys);
    seen.push_back(key);
    MINIM_TRY(f(key, field.value()));
  }
  return {};
}

/// Reads a value that nobody needs: what is skipped would not be checked.
Status CheckIgnored(ondemand::value value, std::string_view where, int depth);

/// Fills the tensor from flat or nested lists, row-major. Every element must be a value of its
/// dtype, and their count must fit.
Status FillTensor(ondemand::array array, Tensor& tensor);

}  // namespace minim::serve
