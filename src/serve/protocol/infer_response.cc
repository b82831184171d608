#include "serve/protocol/infer_response.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/compile.h>

#include "core/dtype.h"
#include "core/error.h"
#include "serve/protocol/datatypes.h"
#include "serve/protocol/tensor_bytes.h"

namespace minim::serve {
namespace {

constexpr size_t kNumberBytes = 32;  // the longest double or integer is shorter
constexpr size_t kUsualBytes = 512;  // of an answer but for its data

// Formats that are compiled: every answer is written by them.
#define APPEND(json, format, ...) \
  fmt::format_to(std::back_inserter(json), FMT_COMPILE(format), __VA_ARGS__)

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
    AppendQuoted(text, json);
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
  json += "{\"name\":";
  AppendQuoted(output.name, json);
  APPEND(json, ",\"datatype\":\"{}\",\"shape\":[", DatatypeName(output.tensor.dtype()));
  for (const int64_t size : output.tensor.dims()) APPEND(json, "{},", size);
  if (json.back() == ',') json.pop_back();
  json += ']';
  if (output.binary) {
    APPEND(json, ",\"parameters\":{{\"binary_data_size\":{}}}}}", BinarySize(output.tensor));
    return;
  }
  json += ",\"data\":[";
  WriteData(output.tensor, json);
  json += "]}";
}

void WriteNotes(const AnswerNotes& notes, std::string& json) {
  json += ",\"parameters\":{\"tier\":";
  AppendQuoted(notes.tier, json);
  APPEND(json,
         ",\"optimizations\":\"{}\",\"batch_size\":{},\"cache_hit\":{},\"queue_us\":{},"
         "\"infer_us\":{},\"total_us\":{},\"inference_time_ms\":{}.{:03}",
         OptimizationsOf(notes), notes.batch_size, notes.cache_hit, notes.queue_us, notes.infer_us,
         notes.total_us, notes.total_us / 1000, notes.total_us % 1000);
  if (!notes.fallback.empty()) {
    json += ",\"fallback\":";
    AppendQuoted(notes.fallback, json);
  }
  json += '}';
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
  body.reserve(kUsualBytes);
  body += "{\"model_name\":";
  AppendQuoted(model, body);
  body += ",\"model_version\":";
  AppendQuoted(version, body);
  if (!id.empty()) {
    body += ",\"id\":";
    AppendQuoted(id, body);
  }
  WriteNotes(notes, body);
  body += ",\"outputs\":[";
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
