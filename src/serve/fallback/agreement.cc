#include "serve/fallback/agreement.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"

namespace minim::serve {
namespace {

constexpr double kRowError = 0.05;
constexpr float kTie = 1e-3f;

std::span<const float> Row(const Tensor& tensor, int64_t row, int64_t width) {
  return tensor.as<float>().subspan(static_cast<size_t>(row * width), static_cast<size_t>(width));
}

bool ClassDiffers(std::span<const float> a, std::span<const float> b) {
  const auto best_a = std::max_element(a.begin(), a.end()) - a.begin();
  const auto best_b = std::max_element(b.begin(), b.end()) - b.begin();
  float scale = 0;
  for (const float value : b) scale = std::max(scale, std::abs(value));
  return best_a != best_b && b[best_b] - b[best_a] > kTie * scale;
}

double Norm(std::span<const float> a) {
  double sum = 0;
  for (const float value : a) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

double Distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - b[i];
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

void CompareFloats(const Tensor& a, const Tensor& b, std::vector<bool>& differs) {
  const auto rows = static_cast<int64_t>(differs.size());
  const int64_t width = b.size() / rows;
  const bool classes = b.dims().rank() <= 2 && width >= 2;
  const double floor = width == 1 ? Norm(b.as<float>()) / std::sqrt(static_cast<double>(rows)) : 0;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row_a = Row(a, r, width), row_b = Row(b, r, width);
    // Not "greater than", so that NaN differs.
    differs[r] = differs[r] ||
                 (classes ? ClassDiffers(row_a, row_b)
                          : !(Distance(row_a, row_b) <= kRowError * std::max(Norm(row_b), floor)));
  }
}

void CompareStrings(const Tensor& a, const Tensor& b, std::vector<bool>& differs) {
  const auto x = a.as<std::string>(), y = b.as<std::string>();
  const size_t width = y.size() / differs.size();
  for (size_t i = 0; i < y.size(); ++i)
    if (x[i] != y[i]) differs[i / width] = true;
}

void CompareBytes(const Tensor& a, const Tensor& b, std::vector<bool>& differs) {
  const size_t width = b.bytes() / differs.size();
  const auto* x = static_cast<const char*>(a.data());
  const auto* y = static_cast<const char*>(b.data());
  for (size_t r = 0; r < differs.size(); ++r)
    if (std::memcmp(x + r * width, y + r * width, width) != 0) differs[r] = true;
}

}  // namespace

bool HasNonFinite(std::span<const Tensor> tensors) {
  const auto finite = [](const auto& values) {
    return std::all_of(values.begin(), values.end(), [](auto v) { return std::isfinite(v); });
  };
  for (const Tensor& tensor : tensors) {
    if (tensor.dtype() == DType::f32 && !finite(tensor.as<float>())) return true;
    if (tensor.dtype() == DType::f64 && !finite(tensor.as<double>())) return true;
    if (!IsFloat(tensor.dtype()) || tensor.dtype() == DType::f32 || tensor.dtype() == DType::f64)
      continue;
    const Tensor wide = Converted(tensor.view(), DType::f32);
    if (!finite(wide.as<float>())) return true;
  }
  return false;
}

Agreement CompareAnswers(std::span<const Tensor> answer, std::span<const Tensor> reference,
                         int64_t rows) {
  std::vector<bool> differs(static_cast<size_t>(std::max<int64_t>(rows, 1)));
  const auto all = static_cast<int64_t>(differs.size());
  if (answer.size() != reference.size()) return {all, all};
  for (size_t i = 0; i < answer.size(); ++i) {
    const Tensor &a = answer[i], &b = reference[i];
    if (a.dtype() != b.dtype() || a.dims() != b.dims()) return {all, all};
    if (b.size() == 0) continue;
    if (b.size() % all != 0) return {all, all};
    if (b.dtype() == DType::string) {
      CompareStrings(a, b, differs);
    } else if (!IsFloat(b.dtype())) {
      CompareBytes(a, b, differs);
    } else if (b.dtype() == DType::f32) {
      CompareFloats(a, b, differs);
    } else {
      CompareFloats(Converted(a.view(), DType::f32), Converted(b.view(), DType::f32), differs);
    }
  }
  return {all, static_cast<int64_t>(std::count(differs.begin(), differs.end(), true))};
}

}  // namespace minim::serve
