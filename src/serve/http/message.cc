#include "serve/http/message.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

struct Phrase {
  int status;
  std::string_view text;
};
constexpr Phrase kPhrases[] = {
    {200, "OK"},
    {400, "Bad Request"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

}  // namespace

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return Lower(x) == Lower(y); });
}

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string_view> SplitList(std::string_view text) {
  std::vector<std::string_view> items;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (const auto item = Trim(text.substr(0, comma)); !item.empty()) items.push_back(item);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return items;
}

std::string_view Headers::Get(std::string_view name) const {
  for (const auto& [key, value] : fields_)
    if (EqualsIgnoringCase(key, name)) return value;
  return {};
}

int Headers::Count(std::string_view name) const {
  return static_cast<int>(std::count_if(fields_.begin(), fields_.end(), [&](const auto& field) {
    return EqualsIgnoringCase(field.first, name);
  }));
}

int HttpStatusOf(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return 200;
    case StatusCode::kInvalidArgument: return 400;
    case StatusCode::kUnsupported: return 400;
    case StatusCode::kNotFound: return 404;
    case StatusCode::kResourceExhausted: return 429;
    case StatusCode::kDeadlineExceeded: return 408;
    case StatusCode::kUnavailable: return 503;
    case StatusCode::kCancelled: return 503;
    case StatusCode::kDataLoss: return 500;
    case StatusCode::kInternal: return 500;
  }
  return 500;
}

void AppendQuoted(std::string_view text, std::string& json) {
  // Nearly every name: as it is.
  if (std::ranges::all_of(text,
                          [](char c) { return c >= ' ' && c < 0x7f && c != '"' && c != '\\'; })) {
    json.append(1, '"').append(text).append(1, '"');
  } else {
    json += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
}

std::string JsonQuote(std::string_view text) {
  std::string json;
  AppendQuoted(text, json);
  return json;
}

HttpResponse ErrorResponse(int http_status, std::string_view message) {
  HttpResponse response{.status = http_status};
  response.body = "{\"error\":";
  response.body += JsonQuote(message);
  response.body += '}';
  return response;
}

HttpResponse ErrorResponse(const Status& status) {
  HttpResponse response = ErrorResponse(HttpStatusOf(status.code()), status.message());
  // The header counts whole seconds.
  if (status.retry_after().count() > 0)
    response.headers.Add(
        "Retry-After",
        std::to_string(std::chrono::ceil<std::chrono::seconds>(status.retry_after()).count()));
  return response;
}

std::string_view ReasonPhrase(int http_status) {
  for (const Phrase& phrase : kPhrases)
    if (phrase.status == http_status) return phrase.text;
  return "Status";
}

}  // namespace minim::serve
