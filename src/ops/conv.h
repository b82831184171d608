// What Conv shares with its fused, integer and quantized forms.
#pragma once

#include "ops/window.h"

namespace minim::ops {

/// Type of a convolution of inputs `x` and `w`, in `dtype`.
Status InferConvolution(InferContext& op, int x, int w, DType dtype);
/// An error unless input `bias` holds one value per channel of output 0, which is inferred.
Status CheckConvBias(const InferContext& op, int bias);
/// The geometry; dims were checked by inference.
Convolution MakeConvolution(const Attributes& attributes, const Dims& x, const Dims& w,
                            const Dims& y);
int64_t ConvFlops(const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                  const Attributes& attributes);
/// y = x * w + bias (inputs 0 to 2) into the allocated output 0.
void ConvolveInto(RefContext& op);

}  // namespace minim::ops
