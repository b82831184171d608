// Attributes: the named constants of a node, as ONNX has them. Sub-graphs are kept by the node.
#pragma once

#include <map>
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
  Attributes(std::initializer_list<Map::value_type> items) : items_(items) {}

  bool Has(std::string_view name) const { return items_.find(name) != items_.end(); }
  void Set(std::string_view name, Attribute value) {
    items_.insert_or_assign(std::string(name), std::move(value));
  }
  void Erase(std::string_view name) {
    if (auto it = items_.find(name); it != items_.end()) items_.erase(it);
  }
  const Map& items() const { return items_; }

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
    const auto it = items_.find(name);
    if (it == items_.end()) return fallback;
    const T* value = std::get_if<T>(&it->second);
    return value ? *value : fallback;
  }

  Map items_;
};

}  // namespace minim
