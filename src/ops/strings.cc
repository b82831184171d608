// Ops that make new strings: StringConcat, StringSplit, StringNormalizer, RegexFullMatch.
#include <re2/re2.h>

#include <algorithm>
#include <locale>

#include "core/dtype.h"
#include "ops/host.h"
#include "ops/movement.h"

namespace minim::ops {
namespace {

Status NeedStrings(const InferContext& op) {
  for (int i = 0; i < op.input_count(); ++i)
    if (!op.input(i).is_tensor() || op.dtype(i) != DType::string)
      return op.Error("input {} is {}, expected strings", i, op.input(i).ToString());
  return {};
}

Status InferConcat(InferContext& op) {
  MINIM_TRY(NeedStrings(op));
  return InferBroadcast(op);
}

Status HostConcat(HostContext& op) {
  MINIM_TRY(const Tensor a, op.TensorInput(0));
  MINIM_TRY(const Tensor b, op.TensorInput(1));
  MINIM_TRY(const Dims dims, BroadcastDims(a.dims(), b.dims()));
  const Dims a_strides = BroadcastStrides(a.dims(), dims);
  const Dims b_strides = BroadcastStrides(b.dims(), dims);
  Tensor y(DType::string, dims);
  ForEachIndex(dims, [&](int64_t flat, const Dims& at) {
    y.as<std::string>()[flat] =
        a.as<std::string>()[OffsetOf(at, a_strides)] + b.as<std::string>()[OffsetOf(at, b_strides)];
  });
  op.SetOutput(0, std::move(y));
  return {};
}

Status InferSplit(InferContext& op) {
  MINIM_TRY(NeedStrings(op));
  MINIM_TRY(op.SetUnknown(0, DType::string));
  if (!op.input(0).ranked()) return op.SetUnknown(1, DType::i64);
  return op.SetOutput(1, DType::i64, *op.input(0).shape);
}

// As Python's str.split: without a delimiter runs of white space separate, and ends are trimmed.
std::vector<std::string> Split(const std::string& text, const std::string& delimiter,
                               int64_t limit) {
  std::vector<std::string> parts;
  const bool blank = delimiter.empty();
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  size_t at = blank ? std::min(text.find_first_not_of(kSpace), text.size()) : 0;
  if (blank && at == text.size()) return parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t end = blank ? text.find_first_of(kSpace, at) : text.find(delimiter, at);
    if (end == std::string::npos) break;
    parts.push_back(text.substr(at, end - at));
    at =
        blank ? std::min(text.find_first_not_of(kSpace, end), text.size()) : end + delimiter.size();
    if (blank && at == text.size()) return parts;
  }
  parts.push_back(text.substr(at));
  if (blank) parts.back().erase(parts.back().find_last_not_of(kSpace) + 1);
  return parts;
}

Status HostSplit(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const std::string delimiter = op.attributes().String("delimiter", "");
  const int64_t limit = op.attributes().Int("maxsplit", -1);
  std::vector<std::vector<std::string>> split;
  size_t most = 0;
  for (const std::string& text : x.as<std::string>()) {
    split.push_back(Split(text, delimiter, limit));
    most = std::max(most, split.back().size());
  }
  if (x.dims().rank() == kMaxRank) return op.Error("rank {} leaves no room", kMaxRank);
  Dims dims = x.dims();
  dims.push_back(static_cast<int64_t>(most));
  Tensor y(DType::string, dims), counts(DType::i64, x.dims());
  for (size_t i = 0; i < split.size(); ++i) {
    std::copy(split[i].begin(), split[i].end(), y.as<std::string>().begin() + i * most);
    counts.as<int64_t>()[i] = static_cast<int64_t>(split[i].size());
  }
  op.SetOutput(0, std::move(y));
  op.SetOutput(1, std::move(counts));
  return {};
}

Status InferNormalizer(InferContext& op) {
  MINIM_TRY(NeedStrings(op));
  if (!op.input(0).ranked()) return op.SetUnknown(0, DType::string);
  Shape shape = *op.input(0).shape;
  if (shape.empty()) return op.Error("takes [C] or [1,C], found a scalar");
  shape.back() = Dim();  // stop words go
  return op.SetOutput(0, DType::string, shape);
}

// Lower or upper case by code point, in the C library's tables of the named locale when there is
// one, else those of C.UTF-8.
std::string Recased(const std::string& text, bool upper, const std::locale& locale) {
  std::wstring wide;
  std::mbstate_t state{};
  const auto& codec = std::use_facet<std::codecvt<wchar_t, char, std::mbstate_t>>(locale);
  wide.resize(text.size());
  const char* from_next = nullptr;
  wchar_t* to_next = nullptr;
  codec.in(state, text.data(), text.data() + text.size(), from_next, wide.data(),
           wide.data() + wide.size(), to_next);
  if (from_next != text.data() + text.size()) return text;  // no UTF-8: left alone
  wide.resize(static_cast<size_t>(to_next - wide.data()));
  const auto& type = std::use_facet<std::ctype<wchar_t>>(locale);
  if (upper)
    type.toupper(wide.data(), wide.data() + wide.size());
  else
    type.tolower(wide.data(), wide.data() + wide.size());
  std::string narrow(wide.size() * 4, '\0');
  const wchar_t* wide_next = nullptr;
  char* narrow_next = nullptr;
  state = {};
  codec.out(state, wide.data(), wide.data() + wide.size(), wide_next, narrow.data(),
            narrow.data() + narrow.size(), narrow_next);
  narrow.resize(static_cast<size_t>(narrow_next - narrow.data()));
  return narrow;
}

std::locale LocaleFor(const std::string& name) {
  for (const std::string& candidate : {name, name + ".UTF-8", std::string("C.UTF-8")}) {
    try {
      if (!candidate.empty() && candidate[0] != '.') return std::locale(candidate);
    } catch (const std::runtime_error&) {
      // not installed here: the next one
    }
  }
  return std::locale::classic();
}

std::string Changed(const std::string& text, const std::string& action, const std::locale& locale) {
  return action == "NONE" ? text : Recased(text, action == "UPPER", locale);
}

Status HostNormalizer(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const Attributes& a = op.attributes();
  const std::string action = a.String("case_change_action", "NONE");
  const std::locale locale = LocaleFor(a.String("locale", ""));
  const bool sensitive = a.Int("is_case_sensitive", 0) != 0;
  std::vector<std::string> stop = a.Strings("stopwords");
  if (!sensitive)
    for (std::string& word : stop) word = Recased(word, false, locale);
  std::vector<std::string> kept;
  for (const std::string& text : x.as<std::string>()) {
    const std::string word = sensitive ? text : Recased(text, false, locale);
    if (std::find(stop.begin(), stop.end(), word) == stop.end())
      kept.push_back(Changed(text, action, locale));
  }
  if (kept.empty()) kept.emplace_back();
  const auto count = static_cast<int64_t>(kept.size());
  if (x.dims().rank() > 2 || (x.dims().rank() == 2 && x.dims()[0] != 1))
    return op.Error("takes [C] or [1,C], found {}", x.dims().ToString());
  op.SetOutput(
      0, Tensor::From<std::string>(x.dims().rank() == 2 ? Dims({1, count}) : Dims({count}), kept));
  return {};
}

Status InferMatch(InferContext& op) {
  MINIM_TRY(NeedStrings(op));
  if (!op.input(0).ranked()) return op.SetUnknown(0, DType::bool_);
  return op.SetOutput(0, DType::bool_, *op.input(0).shape);
}

Status HostMatch(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const re2::RE2 pattern(op.attributes().String("pattern", ""), re2::RE2::Quiet);
  if (!pattern.ok()) return op.Error("the pattern is invalid: {}", pattern.error());
  Tensor y(DType::bool_, x.dims());
  for (int64_t i = 0; i < x.size(); ++i)
    y.as<bool>()[i] = re2::RE2::FullMatch(x.as<std::string>()[i], pattern);
  op.SetOutput(0, std::move(y));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, int inputs,
             std::function<Status(InferContext&)> infer, std::function<Status(HostContext&)> host) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = inputs,
          .max_inputs = inputs,
          .infer = std::move(infer),
          .host = std::move(host)};
}

}  // namespace

std::vector<OpDef> StringOps() {
  return {Define("StringConcat", {20}, 2, InferConcat, HostConcat),
          Define("StringSplit", {20}, 1, InferSplit, HostSplit),
          Define("StringNormalizer", {10}, 1, InferNormalizer, HostNormalizer),
          Define("RegexFullMatch", {20}, 1, InferMatch, HostMatch)};
}

}  // namespace minim::ops
