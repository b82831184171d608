// Fuzzes the ONNX reader. Input: the bytes of a model file, or a graph in text form, which is
// written as ONNX and has to be read back. Model files make good further seeds:
//   onnx_fuzz tests/fuzz/corpus/onnx FOLDER_OF_MODELS
#include <cstdint>
#include <string_view>

#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

void FuzzBytes(std::string_view bytes) {
  const OnnxLimits limits{.max_bytes = 1 << 20, .max_nodes = 1000};
  const auto graph = ParseOnnx(bytes, {}, limits);
  if (!graph.ok()) {
    MINIM_CHECK(!graph.status().message().empty());
    return;
  }
  MINIM_CHECK(Verify(*graph).ok());
  (void)SerializeOnnx(*graph);
}

void FuzzText(std::string_view text) {
  const auto graph = ParseText(text);
  if (!graph.ok()) return;
  const auto bytes = SerializeOnnx(*graph);
  if (bytes.ok()) FuzzBytes(*bytes);
}

}  // namespace
}  // namespace minim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  minim::FuzzBytes(bytes);
  minim::FuzzText(bytes);
  return 0;
}
