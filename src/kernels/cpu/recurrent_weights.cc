#include "kernels/cpu/recurrent_weights.h"

#include <algorithm>
#include <bit>

#include "core/dtype.h"

namespace minim {
namespace {

// Calls f(const T* data) with the element type of the weights.
template <typename F>
auto VisitElements(const ConstView& view, F f) {
  const void* data = view.data;
  switch (view.dtype) {
    case DType::bf16: return f(static_cast<const BFloat16*>(data));
    case DType::f16: return f(static_cast<const Half*>(data));
    case DType::i8: return f(static_cast<const int8_t*>(data));
    case DType::u8: return f(static_cast<const uint8_t*>(data));
    default: return f(static_cast<const float*>(data));
  }
}

// One direction, read by gate row and depth.
template <typename T>
struct Matrix {
  const T* data;
  int64_t row_step, depth_step, parameters;  // offset of this direction's first parameter
  const RecurrentWeights& weights;

  Matrix(const T* values, const RecurrentWeights& w, int64_t direction)
      : data(values + direction * w.rows() * w.depth()),
        row_step(w.transposed ? 1 : w.depth()),
        depth_step(w.transposed ? w.rows() : 1),
        parameters(direction * w.per_direction),
        weights(w) {}

  int64_t ParameterOf(int64_t row) const {
    return parameters + (weights.per_direction > 1 ? row : 0);
  }
  int32_t Centred(int64_t row, int64_t k) const {
    const int32_t value = static_cast<int32_t>(static_cast<float>(At(row, k)));
    return value - (weights.zeros.data ? weights.zeros.At(ParameterOf(row)) : 0);
  }
  float Float(int64_t row, int64_t k) const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<float>(Centred(row, k)) * weights.scales[ParameterOf(row)];
    return static_cast<float>(At(row, k));
  }

 private:
  T At(int64_t row, int64_t k) const { return data[row * row_step + k * depth_step]; }
};

template <typename T>
void PackColumn(const Matrix<T>& matrix, int64_t row, int64_t column, const RecurrentPack& pack,
                std::byte* panel) {
  for (int64_t k = 0; k < pack.depth; ++k) {
    if (pack.format == WeightFormat::kS8) {
      auto* dst = reinterpret_cast<int8_t*>(panel) + (k / 4 * kPanel + column) * 4 + k % 4;
      *dst = static_cast<int8_t>(matrix.Centred(row, k) ^ static_cast<int8_t>(pack.flip));
    } else if (pack.format == WeightFormat::kBf16) {
      auto* dst = reinterpret_cast<uint16_t*>(panel) + k * kPanel + Bf16Place(column);
      *dst = BFloat16(matrix.Float(row, k)).bits;
    } else if (pack.format == WeightFormat::kPairs || pack.format == WeightFormat::kParts) {
      auto* dst = reinterpret_cast<uint16_t*>(panel) + (k / 2 * kPanel + column) * 2 + k % 2;
      if (pack.parts() > 1)
        SplitInParts(matrix.Float(row, k), pack.part_bytes() / sizeof(*dst), dst);
      else
        *dst = BFloat16(matrix.Float(row, k)).bits;
    } else {
      reinterpret_cast<float*>(panel)[k * kPanel + column] = matrix.Float(row, k);
    }
  }
}

// f(gate row, its panel, its column there) of all.
template <typename F>
void ForEachRow(const RecurrentPack& pack, F f) {
  int64_t panel = 0;
  for (const GateGroup& group : pack.groups)
    for (int64_t i = 0; i < pack.blocks() * group.gates; ++i, ++panel) {
      const int64_t unit = i / group.gates * kPanel, gate = group.first + i % group.gates;
      for (int64_t j = 0; j < std::min(kPanel, pack.hidden - unit); ++j)
        f(gate * pack.hidden + unit + j, panel, j);
    }
}

template <typename T>
void Pack(const Matrix<T>& matrix, const RecurrentPack& pack, std::byte* packed) {
  auto* scales = reinterpret_cast<float*>(packed + pack.panels() * pack.panel_bytes());
  std::fill_n(packed, pack.bytes(), std::byte{0});
  if (pack.format == WeightFormat::kS8)
    std::fill_n(packed, pack.panels() * pack.panel_bytes(), std::byte{pack.flip});
  ForEachRow(pack, [&](int64_t row, int64_t panel, int64_t j) {
    PackColumn(matrix, row, j, pack, packed + panel * pack.panel_bytes());
    if (pack.format == WeightFormat::kS8)
      scales[panel * kPanel + j] = matrix.weights.scales[matrix.ParameterOf(row)];
  });
}

}  // namespace

std::string_view Name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kBf16: return "bf16";
    case WeightFormat::kPairs: return "paired bf16";
    case WeightFormat::kParts: return "parted f32";
    case WeightFormat::kS8: return "int8";
    default: return "f32";
  }
}

size_t RecurrentPack::panel_bytes() const {
  const int64_t size = format == WeightFormat::kS8 ? 1 : format == WeightFormat::kF32 ? 4 : 2;
  return (depth * size + depth_block - 1) / depth_block * depth_block * kPanel;
}

size_t RecurrentPack::bytes() const {
  const size_t scales = format == WeightFormat::kS8 ? panels() * kPanel * sizeof(float) : 0;
  const size_t total = parts() * part_bytes() + scales;
  return (total + kAlignment - 1) / kAlignment * kAlignment;
}

std::string RecurrentPack::Key(const RecurrentWeights& weights) const {
  std::string key = fmt::format("recurrent16.{}.{}.{}.{}.{}.{}.", Name(format), flip, depth_block,
                                groups[0].gates, groups[1].gates, hidden);
  const size_t parameters = weights.view.dims[0] * weights.per_direction;
  if (weights.scales != nullptr)
    key.append(reinterpret_cast<const char*>(weights.scales), parameters * sizeof(float));
  if (weights.zeros.data != nullptr)
    key.append(static_cast<const char*>(weights.zeros.data), parameters);
  return key;
}

void PackRecurrent(const RecurrentWeights& weights, int64_t direction, const RecurrentPack& pack,
                   std::byte* packed) {
  VisitElements(weights.view, [&]<typename T>(const T* data) {
    Pack(Matrix<T>(data, weights, direction), pack, packed);
  });
}

void UnpackRecurrent(const RecurrentPack& pack, const std::byte* packed, float* weights) {
  const auto step = static_cast<int64_t>(pack.part_bytes() / sizeof(uint16_t));
  ForEachRow(pack, [&](int64_t row, int64_t panel, int64_t j) {
    const std::byte* from = packed + panel * pack.panel_bytes();
    for (int64_t k = 0; k < pack.depth; ++k) {
      float& value = weights[row * pack.depth + k];
      if (pack.format == WeightFormat::kF32) {
        value = reinterpret_cast<const float*>(from)[k * kPanel + j];
        continue;
      }
      const auto* parts =
          reinterpret_cast<const uint16_t*>(from) + (k / 2 * kPanel + j) * 2 + k % 2;
      const auto part = [&](int64_t i) { return static_cast<uint32_t>(parts[i * step]) << 16; };
      value = JoinParts(part(0), part(1), part(2));
    }
  });
}

bool ExactInBf16(const RecurrentWeights& weights) {
  const int64_t n = weights.view.dims.Elements();
  if (weights.view.dtype == DType::bf16) return true;
  if (weights.view.dtype != DType::f32) return false;
  const auto* bits = static_cast<const uint32_t*>(weights.view.data);
  return std::all_of(bits, bits + n, [](uint32_t b) { return (b & 0xFFFF) == 0; });
}

bool FitsSymmetricInt8(const RecurrentWeights& weights) {
  return VisitElements(weights.view, [&]<typename T>(const T* data) {
    if constexpr (!std::is_integral_v<T>) return false;
    for (int64_t d = 0; d < weights.view.dims[0]; ++d) {
      const Matrix<T> matrix(data, weights, d);
      for (int64_t row = 0; row < weights.rows(); ++row)
        for (int64_t k = 0; k < weights.depth(); ++k)
          if (std::abs(matrix.Centred(row, k)) > 127) return false;
    }
    return true;
  });
}

}  // namespace minim
