#include "serve/http/url.h"

#include <algorithm>

namespace minim::serve {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> PercentDecoded(std::string_view text) {
  if (text.find('%') == std::string_view::npos) return std::string(text);
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
    if (low < 0) return InvalidArgument("path: '%' is not followed by two hex digits");
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

std::string_view PathOf(std::string_view target) {
  if (target.starts_with("http://") || target.starts_with("https://")) {
    const size_t slash = target.find('/', target.find("//") + 2);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return target.substr(0, target.find_first_of("?#"));
}

}  // namespace

Result<std::vector<std::string>> PathSegments(std::string_view target) {
  std::string_view path = PathOf(target);
  if (!path.starts_with('/')) return InvalidArgument("path: expected it to start with '/'");
  std::vector<std::string> segments;
  segments.reserve(8);
  while (!path.empty()) {
    path.remove_prefix(1);
    const size_t end = std::min(path.find('/'), path.size());
    MINIM_TRY(std::string segment, PercentDecoded(path.substr(0, end)));
    segments.push_back(std::move(segment));
    path.remove_prefix(end);
  }
  if (segments.back().empty()) segments.pop_back();  // a trailing slash means nothing
  return segments;
}

}  // namespace minim::serve
