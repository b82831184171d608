// .npy and .npz files (NumPy's format 1.0 to 3.0).
#pragma once

#include <string>
#include <vector>

#include "data/mapped_file.h"

namespace minim {

/// Reads one array. Fortran order is transposed to row-major. Strings are NumPy's "<U", here in
/// UTF-8. Errors: kUnsupported for pickled objects and big-endian data; kDataLoss for a truncated
/// or inconsistent file.
Result<Tensor> ParseNpy(std::string_view bytes);
Result<Tensor> ReadNpy(const Path& path);
/// The same of a mapped file, without reading it; Fortran order and strings are read.
Result<SharedArray> MapNpy(const Path& path);
std::string SerializeNpy(const ConstView& view);
Status WriteNpy(const Path& path, const ConstView& view);

struct NamedTensor {
  std::string name;
  Tensor tensor;
};
/// Every array of an .npz archive, names without ".npy".
Result<std::vector<NamedTensor>> ReadNpz(const Path& path);

}  // namespace minim
