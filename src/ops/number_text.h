// Numbers as strings, as Cast and its kin write and read them.
#pragma once

#include <string>

#include "minim/tensor.h"

namespace minim {

/// The whole of `text` as a number ("1.5", "-inf", "NaN", "1e-3"). False if it is none.
bool ParseNumber(const std::string& text, double& value);
bool ParseNumber(const std::string& text, int64_t& value);

/// Elements as text; floats as the shortest that reads back the same ("1", "0.1", "NaN", "INF").
Tensor Texts(const Tensor& numbers);

}  // namespace minim
