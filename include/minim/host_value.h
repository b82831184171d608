// HostValue: whatever an ONNX value can be: a tensor (of strings too), a sequence, a map, or the
// nothing that an optional may hold.
// Threads: copies share what they hold and never change it; a HostValue itself is not locked.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "minim/tensor.h"

namespace minim {

class HostValue;
using Sequence = std::vector<HostValue>;

/// A map as two tensors of rank 1 and equal length: keys (i64 or string) and their values.
struct Map {
  Tensor keys;
  Tensor values;
};

class HostValue {
 public:
  /// Nothing: an empty optional.
  HostValue() = default;
  HostValue(Tensor tensor) : held_(std::move(tensor)) {}
  HostValue(Sequence items) : held_(std::make_shared<const Sequence>(std::move(items))) {}
  HostValue(Map map) : held_(std::make_shared<const Map>(std::move(map))) {}

  bool empty() const { return std::holds_alternative<std::monostate>(held_); }
  /// Null unless that is what it holds.
  const Tensor* tensor() const { return std::get_if<Tensor>(&held_); }
  const Sequence* sequence() const { return Pointee<Sequence>(); }
  const Map* map() const { return Pointee<Map>(); }

 private:
  template <typename T>
  const T* Pointee() const {
    const auto* shared = std::get_if<std::shared_ptr<const T>>(&held_);
    return shared == nullptr ? nullptr : shared->get();
  }

  std::variant<std::monostate, Tensor, std::shared_ptr<const Sequence>, std::shared_ptr<const Map>>
      held_;
};

}  // namespace minim
