// Section: one table of a TOML file, read key by key.
#pragma once

#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace minim {

/// Reads keys from one table and remembers which were known, so that a misspelt key is an error.
/// Errors: kInvalidArgument names section and key, what was found and what is expected.
class Section {
 public:
  Section(const toml::table& root, std::string name) : name_(std::move(name)) {
    if (const toml::table* table = root[name_].as_table()) table_ = *table;
  }

  /// Leaves `value` as it is where the key is not there.
  template <typename T>
  Status Read(std::string_view key, T& value) {
    known_.insert(std::string(key));
    const toml::node* node = table_.get(key);
    if (node == nullptr) return {};
    if constexpr (std::is_same_v<T, double>) {
      if (const auto number = node->value<double>()) return value = *number, Status();
    } else if constexpr (std::is_same_v<T, bool>) {
      if (node->is_boolean()) return value = *node->value<bool>(), Status();
    } else if constexpr (std::is_integral_v<T>) {
      if (node->is_integer()) return value = static_cast<T>(*node->value<int64_t>()), Status();
    } else {
      if (node->is_string()) return value = *node->value<std::string>(), Status();
    }
    constexpr std::string_view kind = std::is_same_v<T, double> ? "a number"
                                      : std::is_same_v<T, bool> ? "true or false"
                                      : std::is_integral_v<T>   ? "a whole number"
                                                                : "a string";
    return InvalidArgument("[{}] {}: expected {}", name_, key, kind);
  }

  /// One of some names.
  template <typename Enum>
  Status Choose(std::string_view key, Enum& value,
                const std::vector<std::pair<std::string_view, Enum>>& choices) {
    std::string text;
    MINIM_TRY(Read(key, text));
    if (text.empty()) return {};
    std::string names;
    for (const auto& [name, choice] : choices) {
      if (name == text) return value = choice, Status();
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    return InvalidArgument("[{}] {}: '{}' is unknown; expected one of {}", name_, key, text, names);
  }

  /// What a key holds, to be read by the caller; null if it is not there.
  const toml::node* Node(std::string_view key) {
    known_.insert(std::string(key));
    return table_.get(key);
  }

  /// An error if there is a key that nothing asked for.
  Status NoOthers() const {
    for (const auto& [key, node] : table_)
      if (!known_.contains(std::string(key.str())))
        return InvalidArgument("[{}] {}: unknown key; known are {}", name_, key.str(),
                               fmt::join(known_, ", "));
    return {};
  }

 private:
  std::string name_;
  toml::table table_;
  std::set<std::string> known_;
};

}  // namespace minim
