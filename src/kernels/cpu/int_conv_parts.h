// What the integer convolutions share: which input plays which part, and how sums become bytes.
#pragma once

#include <optional>

#include "kernels/cpu/int_gemm.h"

namespace minim {

struct IntConvRoles {
  int w, x_zero, w_zero, x_scale, w_scale, y_scale, y_zero, bias;  // -1: none
};
inline constexpr IntConvRoles kConvIntegerRoles{1, 2, 3, -1, -1, -1, -1, -1};
inline constexpr IntConvRoles kQLinearConvRoles{3, 2, 5, 1, 4, 6, 7, 8};

struct IntConvParts {
  IntConvRoles roles{};
  DType x_dtype = DType::u8, w_dtype = DType::i8, y_dtype = DType::i32;
  int64_t w_zeros = 0, w_scales = 0;

  int32_t ZeroOfImage(const KernelArgs& args) const;
  ZeroPoints ZerosOfWeights(const KernelArgs& args) const;
  /// If they are constant, or there are none.
  std::optional<ZeroPoints> KnownZerosOfWeights(const KernelRequest& request) const;
  int32_t BiasOf(const KernelArgs& args, int64_t filter) const;
  /// From sums to steps of the result: one, or one of each filter.
  void FillScales(const KernelArgs& args, float* scales) const;
  RequantizeRow RowOf(const KernelArgs& args, const float* scales, int64_t filter) const;
};

/// Errors: kUnsupported for other dtypes than bytes, and for parameters that do not fit.
Result<IntConvParts> IntConvPartsOf(const KernelRequest& request, const IntConvRoles& roles);

}  // namespace minim
