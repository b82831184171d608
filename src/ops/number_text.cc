#include "ops/number_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/dtype.h"

namespace minim {
namespace {

template <typename T>
bool Parse(const std::string& text, T& value) {
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(begin, end, value);
  return error == std::errc() && at == end;
}

template <typename T>
std::string Text(T value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "True" : "False";
  } else if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "INF" : "-INF";
    return fmt::format("{}", value);
  } else if constexpr (std::is_integral_v<T>) {
    return fmt::format("{}", value);
  } else {
    return Text(static_cast<float>(value));
  }
}

}  // namespace

bool ParseNumber(const std::string& text, double& value) { return Parse(text, value); }
bool ParseNumber(const std::string& text, int64_t& value) { return Parse(text, value); }

Tensor Texts(const Tensor& numbers) {
  Tensor texts(DType::string, numbers.dims());
  Visit(numbers.dtype(), [&]<typename T>() {
    std::transform(numbers.as<T>().begin(), numbers.as<T>().end(), texts.as<std::string>().begin(),
                   [](T value) { return Text(value); });
  });
  return texts;
}

}  // namespace minim
