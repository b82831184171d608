// safetensors files: an 8-byte header length, a JSON header, then raw little-endian data.
// https://huggingface.co/docs/safetensors
#pragma once

#include <map>
#include <string>

#include "core/file.h"
#include "minim/tensor.h"

namespace minim {

struct SafeTensors {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// The tensors hold types that the format names: all but FNUZ floats and those below a byte.
std::string SerializeSafeTensors(const SafeTensors& file);
/// Errors: kDataLoss when the header is too long, is no JSON object, or disagrees with the data.
Result<SafeTensors> ParseSafeTensors(std::string_view bytes);

}  // namespace minim
