#include <algorithm>

#include "core/requantize.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/int_conv_parts.h"

namespace minim {
int32_t IntConvParts::ZeroOfImage(const KernelArgs& args) const {
  return ZeroPoints{In<std::byte>(args, roles.x_zero), x_dtype, 1}.At(0);
}

ZeroPoints IntConvParts::ZerosOfWeights(const KernelArgs& args) const {
  return {In<std::byte>(args, roles.w_zero), w_dtype, w_zeros};
}

std::optional<ZeroPoints> IntConvParts::KnownZerosOfWeights(const KernelRequest& request) const {
  if (w_zeros == 0) return ZeroPoints{nullptr, w_dtype, 0};
  const void* zeros = request.inputs[roles.w_zero].constant;
  if (zeros == nullptr) return std::nullopt;
  return ZeroPoints{zeros, w_dtype, w_zeros};
}

int32_t IntConvParts::BiasOf(const KernelArgs& args, int64_t filter) const {
  const auto* bias = In<int32_t>(args, roles.bias);
  return bias ? bias[filter] : 0;
}

void IntConvParts::FillScales(const KernelArgs& args, float* scales) const {
  for (int64_t i = 0; i < std::max<int64_t>(1, w_scales); ++i)
    scales[i] = RequantizeScale(*In<float>(args, roles.x_scale), In<float>(args, roles.w_scale)[i],
                                *In<float>(args, roles.y_scale));
}

RequantizeRow IntConvParts::RowOf(const KernelArgs& args, const float* scales,
                                  int64_t filter) const {
  return {.scales = scales + (w_scales > 1 ? filter : 0),
          .zero_point = ZeroPoints{In<std::byte>(args, roles.y_zero), y_dtype, 1}.At(0)};
}

Result<IntConvParts> IntConvPartsOf(const KernelRequest& request, const IntConvRoles& roles) {
  const bool quantized = roles.y_scale >= 0;
  const IntConvParts p{.roles = roles,
                       .x_dtype = request.inputs[0].dtype,
                       .w_dtype = request.inputs[roles.w].dtype,
                       .y_dtype = request.outputs[0].dtype,
                       .w_zeros = ElementsOf(request, roles.w_zero),
                       .w_scales = ElementsOf(request, roles.w_scale)};
  if (!IsByte(p.x_dtype) || !IsByte(p.w_dtype) || (quantized && !IsByte(p.y_dtype)))
    return Unsupported("dtypes {}, {}, {}", Name(p.x_dtype), Name(p.w_dtype), Name(p.y_dtype));
  const int64_t filters = request.inputs[roles.w].dims[0];
  if ((p.w_zeros > 1 && p.w_zeros != filters) || (p.w_scales > 1 && p.w_scales != filters))
    return Unsupported("per-channel parameters do not match {} channels", filters);
  if (ElementsOf(request, roles.x_zero) > 1) return Unsupported("several zero points of the image");
  return p;
}

}  // namespace minim
