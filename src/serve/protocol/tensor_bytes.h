// Tensors as the protocol's binary data: little-endian elements in a row; a string is its length in
// four bytes and then its own.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "minim/tensor.h"

namespace minim::serve {

/// What an element of `dtype` occupies at least, when it travels as binary.
size_t SmallestElement(DType dtype);

/// A tensor for a hostile shape: every size at least 0, and no more elements than `paid_bytes` can
/// hold at `bytes_per_element`, so that nothing is allocated that the sender did not send.
/// Errors: kInvalidArgument.
Result<Tensor> AllocatePaid(DType dtype, std::span<const int64_t> shape, size_t paid_bytes,
                            size_t bytes_per_element);

/// Errors: kInvalidArgument when bytes and shape disagree, a bool is neither 0 nor 1, or a string
/// ends past the last byte.
Result<Tensor> TensorFromBytes(DType dtype, std::span<const int64_t> shape, std::string_view bytes);

size_t BinarySize(const Tensor& tensor);
void AppendBinary(const Tensor& tensor, std::string& bytes);

}  // namespace minim::serve
