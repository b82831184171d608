#include "serve/protocol/infer_request.h"

#include <fmt/compile.h>

#include <charconv>

#include "serve/protocol/datatypes.h"
#include "serve/protocol/json_reader.h"
#include "serve/protocol/tensor_bytes.h"

namespace minim::serve {
namespace {

constexpr size_t kMaxTensors = 4096;
constexpr size_t kMaxNameBytes = 1024;
// The parser of each thread keeps its room for JSON up to this long.
constexpr size_t kKeptJson = 64 << 10;

Result<std::string> ReadString(ondemand::value value, std::string_view where) {
  std::string_view text;
  if (value.get_string().get(text)) return InvalidArgument("{}: expected a string", where);
  if (text.size() > kMaxNameBytes)
    return InvalidArgument("{}: {} bytes long, at most {}", where, text.size(), kMaxNameBytes);
  return std::string(text);
}

Result<bool> ReadBool(ondemand::value value, std::string_view where) {
  bool flag = false;
  if (value.get_bool().get(flag)) return InvalidArgument("{}: expected true or false", where);
  return flag;
}

Result<uint64_t> ReadCount(ondemand::value value, std::string_view where) {
  uint64_t count = 0;
  if (value.get_uint64().get(count))
    return InvalidArgument("{}: expected a whole number, not negative", where);
  return count;
}

// An input as its JSON says, before the tensor exists.
struct RawInput {
  std::string name;
  std::string datatype;
  std::optional<Dims> shape;
  std::optional<uint64_t> binary_size;
  // "data", when it came before datatype and shape.
  std::optional<std::string_view> late_data;
  std::optional<Tensor> tensor;
};

class Parser {
 public:
  Parser(std::string_view body, size_t capacity, size_t json_size)
      : json_(body.substr(0, json_size)), capacity_(capacity), binary_(body.substr(json_size)) {}

  Result<InferRequest> Parse();

 private:
  Status ParseTop(std::string_view key, ondemand::value value);
  Status ParseParameter(std::string_view key, ondemand::value value);
  Status ParseOtherParameter(std::string_view key, ondemand::value value);
  Status ParseInputs(ondemand::value value);
  Status ParseInput(ondemand::value value, size_t index);
  Status ParseInputField(std::string_view key, ondemand::value value, RawInput& input);
  Status ParseInputParameters(ondemand::value value, RawInput& input);
  Status ParseData(ondemand::value value, RawInput& input);
  Status FinishInput(RawInput& input);
  Status TakeBinary(RawInput& input);
  Status ParseOutputs(ondemand::value value);
  Status ParseOutput(ondemand::value value);
  Result<Tensor> AllocateForJson(const RawInput& input, size_t paid_bytes);

  const std::string_view json_;
  const size_t capacity_;  // readable bytes from the start of json_
  std::string_view binary_;
  bool has_inputs_ = false;
  InferRequest request_;
  std::vector<std::optional<bool>> output_binary_;
};

Result<InferRequest> Parser::Parse() {
  thread_local ondemand::parser kept;
  ondemand::parser own;
  ondemand::parser& parser = json_.size() <= kKeptJson ? kept : own;
  ondemand::document document;
  constexpr std::string_view kWhere = "request JSON";
  READ_JSON(document,
            parser.iterate(simdjson::padded_string_view(json_.data(), json_.size(), capacity_)),
            kWhere);
  ondemand::object object;
  READ_JSON(object, document.get_object(), kWhere);
  MINIM_TRY(ForEachField(object, kWhere, [this](std::string_view key, ondemand::value value) {
    return ParseTop(key, value);
  }));
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
    return InvalidArgument("{}: something follows the closing brace", kWhere);
  if (!has_inputs_) return InvalidArgument("inputs: missing; expected a list of tensors");
  if (!binary_.empty())
    return InvalidArgument("body: {} bytes are left after the last binary tensor", binary_.size());
  for (size_t i = 0; i < output_binary_.size(); ++i)
    request_.outputs[i].binary = output_binary_[i].value_or(request_.binary_outputs);
  return std::move(request_);
}

Status Parser::ParseTop(std::string_view key, ondemand::value value) {
  if (key == "id") {
    MINIM_TRY(request_.id, ReadString(value, "id"));
    return {};
  }
  if (key == "inputs") return ParseInputs(value);
  if (key == "outputs") return ParseOutputs(value);
  if (key != "parameters") return CheckIgnored(value, key.substr(0, 64), 0);
  ondemand::object object;
  READ_JSON(object, value.get_object(), "parameters");
  return ForEachField(object, "parameters", [this](std::string_view name, ondemand::value inner) {
    return ParseParameter(name, inner);
  });
}

Status Parser::ParseOtherParameter(std::string_view key, ondemand::value value) {
  ondemand::json_type type;
  READ_JSON(type, value.type(), "parameters");
  if (type != ondemand::json_type::string) return CheckIgnored(value, "parameters", 0);
  std::string text;
  MINIM_TRY(text, ReadString(value, "parameters"));
  request_.texts.emplace_back(std::string(key.substr(0, 256)), std::move(text));
  return {};
}

Status Parser::ParseParameter(std::string_view key, ondemand::value value) {
  if (key == "use_cache") {
    MINIM_TRY(request_.use_cache, ReadBool(value, "parameters.use_cache"));
  } else if (key == "use_batching") {
    MINIM_TRY(request_.use_batching, ReadBool(value, "parameters.use_batching"));
  } else if (key == "binary_data_output") {
    MINIM_TRY(request_.binary_outputs, ReadBool(value, "parameters.binary_data_output"));
  } else if (key == "tier") {
    MINIM_TRY(request_.tier, ReadString(value, "parameters.tier"));
  } else if (key == "timeout") {
    MINIM_TRY(request_.timeout_us, ReadCount(value, "parameters.timeout"));
  } else if (key == "priority") {
    MINIM_TRY(request_.priority, ReadCount(value, "parameters.priority"));
  } else if (key == "sequence_id") {
    return Unsupported("parameters.sequence_id: sequences are not served; leave it out");
  } else {
    return ParseOtherParameter(key, value);
  }
  return {};
}

Status Parser::ParseInputs(ondemand::value value) {
  ondemand::array array;
  READ_JSON(array, value.get_array(), "inputs");
  has_inputs_ = true;
  for (auto item : array) {
    ondemand::value inner;
    READ_JSON(inner, std::move(item), "inputs");
    const size_t index = request_.inputs.size();
    if (index == kMaxTensors) return InvalidArgument("inputs: more than {}", kMaxTensors);
    MINIM_TRY(ParseInput(inner, index));
  }
  return {};
}

Status Parser::ParseInput(ondemand::value value, size_t index) {
  const std::string place = fmt::format(FMT_COMPILE("inputs[{}]"), index);
  ondemand::object object;
  READ_JSON(object, value.get_object(), place);
  RawInput input;
  Status status = ForEachField(object, place, [&](std::string_view key, ondemand::value inner) {
    return Annotate(ParseInputField(key, inner, input), key.substr(0, 64));
  });
  if (status.ok()) status = FinishInput(input);
  if (!status.ok())
    return Annotate(std::move(status),
                    input.name.empty() ? place : fmt::format("input '{}'", input.name));
  request_.inputs.push_back({std::move(input.name), std::move(*input.tensor)});
  return {};
}

Status Parser::ParseInputField(std::string_view key, ondemand::value value, RawInput& input) {
  if (key == "name") {
    MINIM_TRY(input.name, ReadString(value, "name"));
    return {};
  }
  if (key == "datatype") {
    MINIM_TRY(input.datatype, ReadString(value, "datatype"));
    if (DTypeFromDatatype(input.datatype)) return {};
    return InvalidArgument("'{}' is unknown; expected one of {}", input.datatype, KnownDatatypes());
  }
  if (key == "parameters") return ParseInputParameters(value, input);
  if (key == "data") return ParseData(value, input);
  if (key != "shape") return CheckIgnored(value, "ignored", 0);
  ondemand::array array;
  READ_JSON(array, value.get_array(), "expected a list");
  input.shape.emplace();
  for (auto item : array) {
    int64_t size = 0;
    if (item.get_int64().get(size) || size < 0)
      return InvalidArgument("every size must be a whole number, not negative");
    if (input.shape->rank() == kMaxRank) return InvalidArgument("more than {} sizes", kMaxRank);
    input.shape->push_back(size);
  }
  return {};
}

Status Parser::ParseInputParameters(ondemand::value value, RawInput& input) {
  ondemand::object object;
  READ_JSON(object, value.get_object(), "expected an object");
  return ForEachField(object, "keys", [&](std::string_view key, ondemand::value inner) -> Status {
    if (key == "binary_data_size") {
      MINIM_TRY(input.binary_size, ReadCount(inner, "binary_data_size"));
      return {};
    }
    if (key.starts_with("shared_memory"))
      return Unsupported("shared memory is not offered; send the data in the body");
    return CheckIgnored(inner, "parameters", 0);
  });
}

Status Parser::ParseData(ondemand::value value, RawInput& input) {
  ondemand::array array;
  if (value.get_array().get(array)) return InvalidArgument("expected a list of values");
  if (input.datatype.empty() || !input.shape) {
    std::string_view raw;
    READ_JSON(raw, array.raw_json(), "expected a list of values");
    input.late_data = raw;
    return {};
  }
  MINIM_TRY(input.tensor, AllocateForJson(input, json_.size()));
  return FillTensor(array, *input.tensor);
}

// Needs shape and datatype. An element costs the sender a character and a comma.
Result<Tensor> Parser::AllocateForJson(const RawInput& input, size_t paid_bytes) {
  const DType dtype = *DTypeFromDatatype(input.datatype);
  MINIM_TRY(CheckTravelsAsJson(dtype));
  return AllocatePaid(dtype, input.shape->span(), paid_bytes, 2);
}

Status Parser::FinishInput(RawInput& input) {
  if (input.name.empty()) return InvalidArgument("name: missing");
  if (input.datatype.empty()) return InvalidArgument("datatype: missing");
  if (!input.shape) return InvalidArgument("shape: missing");
  if (input.binary_size) {
    if (input.tensor || input.late_data)
      return InvalidArgument("both data and parameters.binary_data_size; send one of them");
    return TakeBinary(input);
  }
  if (input.tensor) return {};
  if (!input.late_data) return InvalidArgument("data: missing, and no binary_data_size");
  MINIM_TRY(input.tensor, AllocateForJson(input, input.late_data->size()));
  const size_t offset = static_cast<size_t>(input.late_data->data() - json_.data());
  ondemand::parser parser;
  ondemand::document document;
  READ_JSON(document,
            parser.iterate(simdjson::padded_string_view(
                input.late_data->data(), input.late_data->size(), capacity_ - offset)),
            "data");
  ondemand::array array;
  READ_JSON(array, document.get_array(), "data");
  return Annotate(FillTensor(array, *input.tensor), "data");
}

Status Parser::TakeBinary(RawInput& input) {
  const uint64_t size = *input.binary_size;
  if (size > binary_.size())
    return InvalidArgument("parameters.binary_data_size: {} bytes, only {} follow the JSON", size,
                           binary_.size());
  auto tensor = TensorFromBytes(*DTypeFromDatatype(input.datatype), input.shape->span(),
                                binary_.substr(0, size));
  MINIM_TRY(Annotate(tensor.status(), "parameters.binary_data_size"));
  input.tensor = std::move(*tensor);
  binary_.remove_prefix(size);
  return {};
}

Status Parser::ParseOutputs(ondemand::value value) {
  ondemand::array array;
  READ_JSON(array, value.get_array(), "outputs");
  for (auto item : array) {
    ondemand::value inner;
    READ_JSON(inner, std::move(item), "outputs");
    if (request_.outputs.size() == kMaxTensors)
      return InvalidArgument("outputs: more than {}", kMaxTensors);
    MINIM_TRY(Annotate(ParseOutput(inner), fmt::format("outputs[{}]", request_.outputs.size())));
  }
  return {};
}

Status Parser::ParseOutput(ondemand::value value) {
  ondemand::object object;
  READ_JSON(object, value.get_object(), "expected an object");
  RequestedOutput output;
  std::optional<bool> binary;
  const auto parameter = [&](std::string_view key, ondemand::value inner) -> Status {
    if (key == "binary_data") {
      MINIM_TRY(binary, ReadBool(inner, "parameters.binary_data"));
      return {};
    }
    if (key == "classification" || key.starts_with("shared_memory"))
      return Unsupported("parameters.{}: not offered; leave it out", key);
    return CheckIgnored(inner, "parameters", 0);
  };
  MINIM_TRY(
      ForEachField(object, "keys", [&](std::string_view key, ondemand::value inner) -> Status {
        if (key == "name") {
          MINIM_TRY(output.name, ReadString(inner, "name"));
          return {};
        }
        if (key != "parameters") return CheckIgnored(inner, "ignored", 0);
        ondemand::object parameters;
        READ_JSON(parameters, inner.get_object(), "parameters");
        return ForEachField(parameters, "parameters", parameter);
      }));
  if (output.name.empty()) return InvalidArgument("name: missing");
  request_.outputs.push_back(std::move(output));
  output_binary_.push_back(binary);
  return {};
}

}  // namespace

Result<InferRequest> ParseInferRequest(std::string& body, std::string_view json_length) {
  size_t json_size = body.size();
  if (!json_length.empty()) {
    const auto [end, error] =
        std::from_chars(json_length.data(), json_length.data() + json_length.size(), json_size);
    if (error != std::errc() || end != json_length.data() + json_length.size())
      return InvalidArgument("Inference-Header-Content-Length '{}': expected a number of bytes",
                             json_length.substr(0, 64));
    if (json_size > body.size())
      return InvalidArgument("Inference-Header-Content-Length {}: the body has only {} bytes",
                             json_size, body.size());
  }
  if (body.capacity() < body.size() + simdjson::SIMDJSON_PADDING)
    body.reserve(body.size() + simdjson::SIMDJSON_PADDING);
  return Parser(body, body.capacity(), json_size).Parse();
}

}  // namespace minim::serve
