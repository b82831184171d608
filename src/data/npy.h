// .npy and .npz files (NumPy's format 1.0 to 3.0).
#pragma once

#include <string>
#include <vector>

#include "core/file.h"
#include "minim/tensor.h"

namespace minim {

/// Reads one array. Fortran order is transposed to row-major. Strings are NumPy's "<U", here in
/// UTF-8. Errors: kUnsupported for pickled objects and big-endian data; kDataLoss for a truncated or inconsistent file.
Result<Tensor> ParseNpy(std::string_view bytes);
Result<Tensor> ReadNpy(const Path& path);
std::string SerializeNpy(const ConstView& view);
Status WriteNpy(const Path& path, const ConstView& view);

struct NamedTensor {
  std::string name;
  Tensor tensor;
};
/// Every array of an .npz archive, names without ".npy".
Result<std::vector<NamedTensor>> ReadNpz(const Path& path);

}  // namespace minim
