// Reading and writing ONNX files. Nothing outside this folder sees protobuf.
// Threads: all functions may be called concurrently.
#pragma once

#include <string>
#include <string_view>

#include "core/file.h"
#include "graph/graph.h"
#include "minim/host_value.h"

namespace minim {

/// Hostile files are refused before they cost more than this.
struct OnnxLimits {
  size_t max_bytes = (size_t{1} << 31) - 1;  // protobuf's own bound
  int max_nodes = 1'000'000;
  int max_depth = 64;  // of nested messages
};

/// Reads a model file. External tensor data is read from the file's own folder only. Every node is
/// lifted to the canonical opset. Errors: kNotFound; kDataLoss for a malformed file; kUnsupported
/// for an operator, version or type that minim does not know; kResourceExhausted beyond a limit.
Result<Graph> ImportOnnx(const Path& path, const OnnxLimits& limits = {});
/// The same from bytes. With an empty `folder` external data is refused.
Result<Graph> ParseOnnx(std::string_view bytes, const Path& folder = {},
                        const OnnxLimits& limits = {});

/// A TensorProto file, as in the test_data_set_* folders of ONNX.
Result<Tensor> ParseTensorProto(std::string_view bytes);
std::string SerializeTensorProto(const Tensor& tensor, std::string_view name);

/// A file of test_data_set_* that holds a value of `type`: TensorProto, SequenceProto,
/// OptionalProto or MapProto.
Result<HostValue> ParseValueProto(std::string_view bytes, const TensorType& type);

/// Standard ONNX at opset 17 or the oldest later one that has every operator used. Errors:
/// kUnsupported when the graph holds operators that no ONNX file can name.
Result<std::string> SerializeOnnx(const Graph& graph);
Status ExportOnnx(const Graph& graph, const Path& path);

}  // namespace minim
