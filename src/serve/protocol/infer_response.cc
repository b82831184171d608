#include "serve/protocol/infer_response.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/dtype.h"
#include "core/error.h"
#include "serve/protocol/datatypes.h"
#include "serve/protocol/tensor_bytes.h"

namespace minim::serve {
namespace {

constexpr size_t kNumberBytes = 32;  // the longest double or integer is shorter

template <typename T>
char* WriteNumber(char* at, char* end, T value) {
  if constexpr (std::is_same_v<T, bool>) {
    const std::string_view text = value ? "true" : "false";
    return std::copy(text.begin(), text.end(), at);
  } else if constexpr (kIsStoredFloat<T>) {
    return WriteNumber(at, end, static_cast<float>(value));
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) {
      constexpr std::string_view kNull = "null";
      return std::copy(kNull.begin(), kNull.end(), at);
    }
    return std::to_chars(at, end, value).ptr;
  } else {
    return std::to_chars(at, end, value).ptr;
  }
}

void WriteStrings(std::span<const std::string> strings, std::string& json) {
  for (const std::string& text : strings) {
    if (json.back() != '[') json += ',';
    json += JsonQuote(text);
  }
}

void WriteData(const Tensor& tensor, std::string& json) {
  if (tensor.dtype() == DType::string) return WriteStrings(tensor.as<std::string>(), json);
  Visit(tensor.dtype(), [&]<typename T>() {
    for (const T value : tensor.as<T>()) {
      char text[kNumberBytes];
      char* end = WriteNumber(text, text + sizeof(text), value);
      *end++ = ',';
      json.append(text, end);
    }
  });
  if (json.back() == ',') json.pop_back();
}

void WriteOutput(const AnsweredOutput& output, std::string& json) {
  fmt::format_to(std::back_inserter(json), "{{\"name\":{},\"datatype\":\"{}\",\"shape\":{}",
                 JsonQuote(output.name), DatatypeName(output.tensor.dtype()),
                 output.tensor.dims().ToString());
  if (output.binary) {
    fmt::format_to(std::back_inserter(json), ",\"parameters\":{{\"binary_data_size\":{}}}}}",
                   BinarySize(output.tensor));
    return;
  }
  json += ",\"data\":[";
  WriteData(output.tensor, json);
  json += "]}";
}

}  // namespace

// Tier names are plain.
std::string OptimizationsOf(const AnswerNotes& notes) {
  std::string list;
  const auto add = [&](std::string_view item) {
    if (!list.empty()) list += ',';
    list += item;
  };
  if (notes.tier != "fp32" && notes.tier != "reference") add(notes.tier);
  if (notes.batch_size > notes.rows) add("batch");
  if (notes.cache_hit) add("cache");
  return list;
}

HttpResponse InferResponse(std::string_view model, std::string_view version, std::string_view id,
                           const std::vector<AnsweredOutput>& outputs, const AnswerNotes& notes) {
  HttpResponse response;
  std::string& body = response.body;
  fmt::format_to(std::back_inserter(body), "{{\"model_name\":{},\"model_version\":{}",
                 JsonQuote(model), JsonQuote(version));
  if (!id.empty()) fmt::format_to(std::back_inserter(body), ",\"id\":{}", JsonQuote(id));
  fmt::format_to(std::back_inserter(body),
                 ",\"parameters\":{{\"tier\":{},\"optimizations\":\"{}\",\"batch_size\":{},"
                 "\"cache_hit\":{},\"queue_us\":{},\"infer_us\":{},\"total_us\":{},"
                 "\"inference_time_ms\":{:.3f}",
                 JsonQuote(notes.tier), OptimizationsOf(notes), notes.batch_size, notes.cache_hit,
                 notes.queue_us, notes.infer_us, notes.total_us,
                 static_cast<double>(notes.total_us) / 1000);
  if (!notes.fallback.empty())
    fmt::format_to(std::back_inserter(body), ",\"fallback\":{}", JsonQuote(notes.fallback));
  body += "},\"outputs\":[";
  bool any_binary = false;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (i > 0) body += ',';
    WriteOutput(outputs[i], body);
    any_binary |= outputs[i].binary;
  }
  body += "]}";
  if (!any_binary) return response;
  response.content_type = "application/octet-stream";
  response.headers.Add("Inference-Header-Content-Length", std::to_string(body.size()));
  for (const AnsweredOutput& output : outputs)
    if (output.binary) AppendBinary(output.tensor, body);
  return response;
}

}  // namespace minim::serve
