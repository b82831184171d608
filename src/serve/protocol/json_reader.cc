#include "serve/protocol/json_reader.h"

#include <cmath>

#include "core/dtype.h"
#include "serve/protocol/datatypes.h"

namespace minim::serve {
namespace {

constexpr int kMaxDepth = 16;

template <typename T>
bool ReadElement(ondemand::value value, T& out) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.get_bool().get(out) == simdjson::SUCCESS;
  } else if constexpr (std::is_same_v<T, std::string>) {
    std::string_view text;
    if (value.get_string().get(text)) return false;
    out = text;
    return true;
  } else if constexpr (kIsFloatType<T>) {
    double number = 0;
    if (value.get_double().get(number)) return false;
    out = ConvertTo<T>(number);
    return std::isfinite(static_cast<double>(static_cast<ComputeType<T>>(out)));
  } else if constexpr (std::is_signed_v<T>) {
    int64_t number = 0;
    if (value.get_int64().get(number)) return false;
    out = static_cast<T>(number);
    return static_cast<int64_t>(out) == number;
  } else {
    uint64_t number = 0;
    if (value.get_uint64().get(number)) return false;
    out = static_cast<T>(number);
    return static_cast<uint64_t>(out) == number;
  }
}

// Fills a tensor from flat or nested arrays, row-major.
template <typename T>
Status FillFrom(ondemand::array array, std::span<T> dst, size_t& filled, int depth) {
  if (depth > kMaxDepth) return InvalidArgument("nested deeper than {}", kMaxDepth);
  for (auto item : array) {
    ondemand::value value;
    READ_JSON(value, std::move(item), "element " + std::to_string(filled));
    ondemand::json_type type;
    READ_JSON(type, value.type(), "element " + std::to_string(filled));
    if (type == ondemand::json_type::array) {
      ondemand::array inner;
      READ_JSON(inner, value.get_array(), "array");
      MINIM_TRY(FillFrom<T>(inner, dst, filled, depth + 1));
      continue;
    }
    if (filled == dst.size()) return InvalidArgument("more than {} elements", dst.size());
    if (!ReadElement(value, dst[filled]))
      return InvalidArgument("element {} is no value of {}", filled, DatatypeName(kDTypeOf<T>));
    ++filled;
  }
  return {};
}

}  // namespace

Status Broken(std::string_view where, simdjson::error_code error) {
  return InvalidArgument("{}: {}", where, simdjson::error_message(error));
}

Status CheckIgnored(ondemand::value value, std::string_view where, int depth) {
  if (depth > kMaxDepth) return InvalidArgument("{}: nested deeper than {}", where, kMaxDepth);
  ondemand::json_type type;
  READ_JSON(type, value.type(), where);
  switch (type) {
    case ondemand::json_type::object: {
      ondemand::object object;
      READ_JSON(object, value.get_object(), where);
      return ForEachField(object, where, [&](std::string_view, ondemand::value inner) {
        return CheckIgnored(inner, where, depth + 1);
      });
    }
    case ondemand::json_type::array: {
      ondemand::array array;
      READ_JSON(array, value.get_array(), where);
      for (auto item : array) {
        ondemand::value inner;
        READ_JSON(inner, std::move(item), where);
        MINIM_TRY(CheckIgnored(inner, where, depth + 1));
      }
      return {};
    }
    case ondemand::json_type::string: {
      std::string_view text;
      READ_JSON(text, value.get_string(), where);
      return {};
    }
    case ondemand::json_type::number: {
      double number = 0;
      READ_JSON(number, value.get_double(), where);
      return {};
    }
    case ondemand::json_type::boolean: {
      bool flag = false;
      READ_JSON(flag, value.get_bool(), where);
      return {};
    }
    case ondemand::json_type::null: {
      bool is_null = false;
      READ_JSON(is_null, value.is_null(), where);
      return is_null ? Status() : InvalidArgument("{}: neither null nor a value", where);
    }
  }
  return {};
}

Status FillTensor(ondemand::array array, Tensor& tensor) {
  const auto fill = [&]<typename T>() -> Status {
    size_t filled = 0;
    MINIM_TRY(FillFrom<T>(array, tensor.as<T>(), filled, 0));
    if (filled == static_cast<size_t>(tensor.size())) return {};
    return InvalidArgument("{} elements, the shape {} needs {}", filled, tensor.dims().ToString(),
                           tensor.size());
  };
  if (tensor.dtype() == DType::string) return fill.template operator()<std::string>();
  return Visit(tensor.dtype(), fill);
}

}  // namespace minim::serve
