#include "serve/grpc/infer_proto.h"

#include <algorithm>

#include "core/dtype.h"
#include "grpc/inference.pb.h"
#include "serve/protocol/datatypes.h"
#include "serve/protocol/tensor_bytes.h"

namespace minim::serve {
namespace {

using inference::InferParameter;
using inference::InferTensorContents;
using inference::ModelInferRequest;
using InputTensor = ModelInferRequest::InferInputTensor;

constexpr int kMaxTensors = 4096;
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxKeyBytes = 256;

Result<bool> ReadBool(const InferParameter& value, std::string_view where) {
  if (value.has_bool_param()) return value.bool_param();
  return InvalidArgument("{}: expected bool_param", where);
}

Result<uint64_t> ReadCount(const InferParameter& value, std::string_view where) {
  if (value.has_uint64_param()) return value.uint64_param();
  if (value.has_int64_param() && value.int64_param() >= 0)
    return static_cast<uint64_t>(value.int64_param());
  return InvalidArgument("{}: expected int64_param or uint64_param, not negative", where);
}

Status ReadParameter(const std::string& key, const InferParameter& value, InferRequest& request) {
  if (key == "use_cache") {
    MINIM_TRY(request.use_cache, ReadBool(value, "parameters.use_cache"));
  } else if (key == "use_batching") {
    MINIM_TRY(request.use_batching, ReadBool(value, "parameters.use_batching"));
  } else if (key == "tier") {
    if (!value.has_string_param()) return InvalidArgument("parameters.tier: expected string_param");
    request.tier = value.string_param();
  } else if (key == "timeout") {
    MINIM_TRY(request.timeout_us, ReadCount(value, "parameters.timeout"));
  } else if (key == "sequence_id") {
    return Unsupported("parameters.sequence_id: sequences are not served; leave it out");
  } else if (value.has_string_param()) {
    request.texts.emplace_back(key.substr(0, kMaxKeyBytes), value.string_param());
  }
  return {};
}

// Bools are no lists of their own type everywhere, and small integers travel as 32 bits.
template <typename T, typename List>
Status FillFrom(const List& list, Tensor& tensor) {
  const std::span<T> dst = tensor.as<T>();
  for (int i = 0; i < list.size(); ++i) {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      if (!std::in_range<T>(list[i]))
        return InvalidArgument("element {} is {}, no value of {}", i, list[i],
                               DatatypeName(kDTypeOf<T>));
    }
    dst[static_cast<size_t>(i)] = static_cast<T>(list[i]);
  }
  return {};
}

template <typename T, typename List>
Result<Tensor> FromList(const InputTensor& input, const List& list) {
  const std::span<const int64_t> shape(input.shape().data(),
                                       static_cast<size_t>(input.shape_size()));
  const auto count = static_cast<size_t>(list.size());
  MINIM_TRY(Tensor tensor, AllocatePaid(kDTypeOf<T>, shape, count, 1));
  if (static_cast<size_t>(tensor.size()) != count)
    return InvalidArgument("{} elements, the shape {} needs {}", count, tensor.dims().ToString(),
                           tensor.size());
  MINIM_TRY(FillFrom<T>(list, tensor));
  return tensor;
}

Result<Tensor> FromContents(const InputTensor& input, DType dtype) {
  const InferTensorContents& contents = input.contents();
  switch (dtype) {
    case DType::bool_: return FromList<bool>(input, contents.bool_contents());
    case DType::i8: return FromList<int8_t>(input, contents.int_contents());
    case DType::i16: return FromList<int16_t>(input, contents.int_contents());
    case DType::i32: return FromList<int32_t>(input, contents.int_contents());
    case DType::i64: return FromList<int64_t>(input, contents.int64_contents());
    case DType::u8: return FromList<uint8_t>(input, contents.uint_contents());
    case DType::u16: return FromList<uint16_t>(input, contents.uint_contents());
    case DType::u32: return FromList<uint32_t>(input, contents.uint_contents());
    case DType::u64: return FromList<uint64_t>(input, contents.uint64_contents());
    case DType::f32: return FromList<float>(input, contents.fp32_contents());
    case DType::f64: return FromList<double>(input, contents.fp64_contents());
    case DType::string: return FromList<std::string>(input, contents.bytes_contents());
    default:
      return InvalidArgument("contents has no list for {}; use raw_input_contents",
                             input.datatype());
  }
}

// The list of another datatype would be ignored: what was meant is not known then.
Status CheckOneList(const InferTensorContents& contents) {
  const int lists = (contents.bool_contents_size() > 0) + (contents.int_contents_size() > 0) +
                    (contents.int64_contents_size() > 0) + (contents.uint_contents_size() > 0) +
                    (contents.uint64_contents_size() > 0) + (contents.fp32_contents_size() > 0) +
                    (contents.fp64_contents_size() > 0) + (contents.bytes_contents_size() > 0);
  if (lists <= 1) return {};
  return InvalidArgument("contents: {} lists have elements, expected one", lists);
}

Result<Tensor> ReadTensor(const InputTensor& input, const std::string* raw) {
  for (const auto& [key, value] : input.parameters())
    if (key.starts_with("shared_memory"))
      return Unsupported("shared memory is not offered; send the data in the request");
  const auto dtype = DTypeFromDatatype(input.datatype());
  if (!dtype)
    return InvalidArgument("datatype '{}' is unknown; expected one of {}",
                           input.datatype().substr(0, 64), KnownDatatypes());
  if (raw == nullptr) {
    MINIM_TRY(CheckOneList(input.contents()));
    return FromContents(input, *dtype);
  }
  if (input.has_contents())
    return InvalidArgument("both contents and raw_input_contents; send one of them");
  return TensorFromBytes(*dtype, {input.shape().data(), static_cast<size_t>(input.shape_size())},
                         *raw);
}

Status CheckName(const std::string& name) {
  if (name.empty()) return InvalidArgument("name: missing");
  if (name.size() <= kMaxNameBytes) return {};
  return InvalidArgument("name: {} bytes long, at most {}", name.size(), kMaxNameBytes);
}

Status ReadInputs(const ModelInferRequest& message, InferRequest& request) {
  const int count = message.inputs_size(), raw_count = message.raw_input_contents_size();
  if (count > kMaxTensors) return InvalidArgument("inputs: more than {}", kMaxTensors);
  if (raw_count != 0 && raw_count != count)
    return InvalidArgument("raw_input_contents: {} for {} inputs; send one for each, or none",
                           raw_count, count);
  for (int i = 0; i < count; ++i) {
    const InputTensor& input = message.inputs(i);
    MINIM_TRY(Annotate(CheckName(input.name()), fmt::format("inputs[{}]", i)));
    auto tensor = ReadTensor(input, raw_count > 0 ? &message.raw_input_contents(i) : nullptr);
    MINIM_TRY(Annotate(tensor.status(), fmt::format("input '{}'", input.name())));
    request.inputs.push_back({input.name(), std::move(*tensor)});
  }
  return {};
}

Status ReadOutputs(const ModelInferRequest& message, InferRequest& request) {
  if (message.outputs_size() > kMaxTensors)
    return InvalidArgument("outputs: more than {}", kMaxTensors);
  for (const auto& output : message.outputs()) {
    MINIM_TRY(
        Annotate(CheckName(output.name()), fmt::format("outputs[{}]", request.outputs.size())));
    for (const auto& [key, value] : output.parameters())
      if (key == "classification" || key.starts_with("shared_memory"))
        return Unsupported("output '{}': parameters.{}: not offered; leave it out", output.name(),
                           key.substr(0, 64));
    request.outputs.push_back({output.name(), true});
  }
  return {};
}

void WriteNotes(const AnswerNotes& notes, inference::ModelInferResponse& message) {
  auto& parameters = *message.mutable_parameters();
  parameters["tier"].set_string_param(notes.tier);
  parameters["optimizations"].set_string_param(OptimizationsOf(notes));
  parameters["batch_size"].set_int64_param(notes.batch_size);
  parameters["cache_hit"].set_bool_param(notes.cache_hit);
  parameters["queue_us"].set_int64_param(notes.queue_us);
  parameters["infer_us"].set_int64_param(notes.infer_us);
  parameters["total_us"].set_int64_param(notes.total_us);
  parameters["inference_time_ms"].set_double_param(static_cast<double>(notes.total_us) / 1000);
  if (!notes.fallback.empty()) parameters["fallback"].set_string_param(notes.fallback);
}

}  // namespace

Result<InferRequest> ReadInferRequest(const ModelInferRequest& message) {
  InferRequest request{.binary_outputs = true};
  if (message.id().size() > kMaxNameBytes)
    return InvalidArgument("id: {} bytes long, at most {}", message.id().size(), kMaxNameBytes);
  request.id = message.id();
  for (const auto& [key, value] : message.parameters())
    MINIM_TRY(ReadParameter(key, value, request));
  MINIM_TRY(ReadInputs(message, request));
  MINIM_TRY(ReadOutputs(message, request));
  return request;
}

void WriteInferResponse(const InferReply& reply, inference::ModelInferResponse& message) {
  message.set_model_name(reply.version->model);
  message.set_model_version(reply.version->version);
  message.set_id(reply.id);
  WriteNotes(reply.notes, message);
  for (size_t i = 0; i < reply.requested.size(); ++i) {
    const Tensor& tensor = (*reply.outputs)[i];
    auto& output = *message.add_outputs();
    output.set_name(reply.requested[i].name);
    output.set_datatype(std::string(DatatypeName(tensor.dtype())));
    for (const int64_t size : tensor.dims()) output.add_shape(size);
    std::string& raw = *message.add_raw_output_contents();
    raw.reserve(BinarySize(tensor));
    AppendBinary(tensor, raw);
  }
}

}  // namespace minim::serve
