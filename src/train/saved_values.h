// Numbers as text that reads back to the same bits: what a checkpoint keeps besides tensors.
#pragma once

#include <charconv>
#include <map>
#include <string>

#include "core/error.h"

namespace minim {

using SavedValues = std::map<std::string, std::string>;

template <typename T>
void Put(SavedValues& saved, const std::string& name, T value) {
  saved[name] = fmt::format("{}", value);
}

/// Errors: kInvalidArgument names the entry that is missing or no number; `value` is unchanged
/// then.
template <typename T>
Status Get(const SavedValues& saved, const std::string& name, T& value) {
  const auto it = saved.find(name);
  if (it == saved.end()) return InvalidArgument("the saved state has no '{}'", name);
  const std::string& text = it->second;
  T read{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
  if (error != std::errc() || end != text.data() + text.size())
    return InvalidArgument("the saved state's '{}' is '{}', expected a number", name, text);
  value = read;
  return {};
}

}  // namespace minim
