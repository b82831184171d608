// Attributes: the named constants of a node, as ONNX has them. Sub-graphs are kept by the node.
// Copies share what neither changes: a tree ensemble's are megabytes, and every plan copies nodes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/error.h"
#include "core/shape.h"

namespace minim {

using Attribute = std::variant<int64_t, float, std::string, Tensor, std::vector<int64_t>,
                               std::vector<float>, std::vector<std::string>, TensorType>;

class Attributes {
 public:
  using Map = std::map<std::string, Attribute, std::less<>>;

  Attributes() = default;
  Attributes(std::initializer_list<Map::value_type> items)
      : items_(std::make_shared<Map>(items)) {}

  bool Has(std::string_view name) const { return items().find(name) != items().end(); }
  void Set(std::string_view name, Attribute value) {
    Own().insert_or_assign(std::string(name), std::move(value));
  }
  void Erase(std::string_view name) {
    Map& own = Own();
    if (auto it = own.find(name); it != own.end()) own.erase(it);
  }
  const Map& items() const {
    static const Map kNone;
    return items_ ? *items_ : kNone;
  }

  /// The attribute, or `fallback` when absent or of another kind, which Has() does not tell from
  /// the right one.
  int64_t Int(std::string_view name, int64_t fallback) const { return Or(name, fallback); }
  float Float(std::string_view name, float fallback) const { return Or(name, fallback); }
  std::string String(std::string_view name, std::string fallback) const {
    return Or(name, std::move(fallback));
  }
  std::vector<int64_t> Ints(std::string_view name, std::vector<int64_t> fallback = {}) const {
    return Or(name, std::move(fallback));
  }
  std::vector<float> Floats(std::string_view name, std::vector<float> fallback = {}) const {
    return Or(name, std::move(fallback));
  }
  std::vector<std::string> Strings(std::string_view name) const {
    return Or(name, std::vector<std::string>());
  }
  /// Undefined when absent or of another kind.
  minim::Tensor Tensor(std::string_view name) const { return Or(name, minim::Tensor()); }

 private:
  template <typename T>
  T Or(std::string_view name, T fallback) const {
    const auto it = items().find(name);
    if (it == items().end()) return fallback;
    const T* value = std::get_if<T>(&it->second);
    return value ? *value : fallback;
  }

  Map& Own() {
    if (!items_ || items_.use_count() > 1) items_ = std::make_shared<Map>(items());
    return *items_;
  }

  std::shared_ptr<Map> items_;  // null: none
};

}  // namespace minim
