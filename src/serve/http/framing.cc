#include "serve/http/framing.h"

#include <algorithm>
#include <charconv>

namespace minim::serve {
namespace {

constexpr size_t kMaxChunkLine = 256;
constexpr size_t kMaxTrailerBytes = 8 << 10;

std::optional<FramingError> CheckHost(const HttpHead& head) {
  const int hosts = head.headers.Count("Host");
  if (hosts > 1 || (hosts == 0 && head.version >= 11))
    return FramingError{400, fmt::format("found {} Host fields, expected one", hosts)};
  return std::nullopt;
}

std::optional<FramingError> ReadTransferEncoding(const HttpHead& head, Framing& framing) {
  const int count = head.headers.Count("Transfer-Encoding");
  if (count == 0) return std::nullopt;
  const std::string_view coding = Trim(head.headers.Get("Transfer-Encoding"));
  if (head.version < 11)
    return FramingError{400, "Transfer-Encoding does not exist in HTTP/1.0; send Content-Length"};
  if (head.headers.Count("Content-Length") > 0)
    return FramingError{400, "both Transfer-Encoding and Content-Length; send one of them"};
  if (count > 1 || !EqualsIgnoringCase(coding, "chunked"))
    return FramingError{501,
                        fmt::format("Transfer-Encoding '{}': only 'chunked' is known", coding)};
  framing.chunked = true;
  return std::nullopt;
}

std::optional<FramingError> ReadLength(const HttpHead& head, uint64_t max_body, Framing& framing) {
  const int count = head.headers.Count("Content-Length");
  if (count == 0) return std::nullopt;
  const std::string_view text = Trim(head.headers.Get("Content-Length"));
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  if (count > 1 || !digits)
    return FramingError{400, fmt::format("Content-Length '{}': expected one decimal number", text)};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), framing.length);
  if (error != std::errc() || framing.length > max_body)
    return FramingError{413,
                        fmt::format("body of {} bytes, at most {} are accepted", text, max_body)};
  return std::nullopt;
}

bool KeepAlive(const HttpHead& head) {
  bool keep = head.version >= 11;
  for (const auto& [name, value] : head.headers.fields()) {
    if (!EqualsIgnoringCase(name, "Connection")) continue;
    for (const std::string_view option : SplitList(value)) {
      if (EqualsIgnoringCase(option, "close")) return false;
      if (EqualsIgnoringCase(option, "keep-alive")) keep = true;
    }
  }
  return keep;
}

std::optional<FramingError> ReadExpect(const HttpHead& head, Framing& framing) {
  const std::string_view expect = Trim(head.headers.Get("Expect"));
  if (expect.empty()) return std::nullopt;
  if (!EqualsIgnoringCase(expect, "100-continue"))
    return FramingError{417, fmt::format("Expect '{}': only '100-continue' is known", expect)};
  framing.expect_continue = head.version >= 11;
  return std::nullopt;
}

}  // namespace

std::optional<Framing> DecideFraming(const HttpHead& head, uint64_t max_body, FramingError& error) {
  Framing framing;
  std::optional<FramingError> refusal;
  if (head.version != 10 && head.version != 11)
    refusal = FramingError{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  if (!refusal) refusal = CheckHost(head);
  if (!refusal) refusal = ReadTransferEncoding(head, framing);
  if (!refusal) refusal = ReadLength(head, max_body, framing);
  if (!refusal) refusal = ReadExpect(head, framing);
  if (refusal) {
    error = std::move(*refusal);
    return std::nullopt;
  }
  framing.keep_alive = KeepAlive(head);
  return framing;
}

bool ChunkDecoder::Fail(int http_status, std::string message) {
  error_ = {http_status, std::move(message)};
  return false;
}

bool ChunkDecoder::Feed(std::string_view& input, std::string& body) {
  while (!input.empty() && !done()) {
    if (state_ != State::kData) {
      if (!FeedLine(input, body)) return false;
      continue;
    }
    const size_t take = static_cast<size_t>(std::min<uint64_t>(remaining_, input.size()));
    body.append(input.substr(0, take));
    input.remove_prefix(take);
    remaining_ -= take;
    if (remaining_ == 0) state_ = State::kDataEnd;
  }
  return true;
}

// Collects up to a line feed, which must follow a carriage return: a lone one is a known way to
// make two parsers disagree.
bool ChunkDecoder::FeedLine(std::string_view& input, std::string& body) {
  const size_t end = input.find('\n');
  const size_t take = end == std::string_view::npos ? input.size() : end + 1;
  const size_t most = state_ == State::kTrailer ? kMaxTrailerBytes : kMaxChunkLine;
  if (line_.size() + take > most)
    return Fail(400, "chunked body: a size line or trailer is too long");
  line_.append(input.substr(0, take));
  input.remove_prefix(take);
  if (end == std::string_view::npos) return true;
  if (!line_.ends_with("\r\n")) return Fail(400, "chunked body: a line does not end in CR LF");
  line_.resize(line_.size() - 2);
  const bool good = TakeLine(body);
  line_.clear();
  return good;
}

bool ChunkDecoder::TakeLine(const std::string& body) {
  if (state_ == State::kSize) return TakeSize(body);
  if (state_ == State::kDataEnd) {
    state_ = State::kSize;
    return line_.empty() || Fail(400, "chunked body: a chunk is longer than its size says");
  }
  if (line_.empty()) {
    state_ = State::kDone;
    return true;
  }
  trailer_bytes_ += line_.size();
  if (trailer_bytes_ > kMaxTrailerBytes) return Fail(400, "chunked body: the trailer is too long");
  if (line_.find(':') == std::string::npos || line_.find('\r') != std::string::npos)
    return Fail(400, "chunked body: a trailer is not 'name: value'");
  return true;
}

bool ChunkDecoder::TakeSize(const std::string& body) {
  const size_t digits = std::min(line_.find_first_of("; \t"), line_.size());
  uint64_t size = 0;
  const auto [end, error] = std::from_chars(line_.data(), line_.data() + digits, size, 16);
  if (error == std::errc::result_out_of_range)
    return Fail(413, fmt::format("chunked body: at most {} bytes are accepted", max_body_));
  if (error != std::errc() || end != line_.data() + digits || line_[0] == '-' ||
      line_.find('\r') != std::string::npos)
    return Fail(400, fmt::format("chunked body: '{}' is not a chunk size", line_.substr(0, 32)));
  if (size > max_body_ - std::min<uint64_t>(body.size(), max_body_))
    return Fail(413, fmt::format("chunked body: at most {} bytes are accepted", max_body_));
  remaining_ = size;
  state_ = size == 0 ? State::kTrailer : State::kData;
  return true;
}

}  // namespace minim::serve
