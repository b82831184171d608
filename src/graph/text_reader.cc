#include "graph/text_reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>

#include "core/dtype.h"

namespace minim {
namespace {

bool IsWordChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
}

bool LooksFloat(std::string_view word) {
  return word.find_first_of(".einEIN") != std::string_view::npos;
}

template <typename T>
bool ParseElement(const std::string& text, T& value) {
  if constexpr (kIsStoredFloat<T> || kIsSmallFloat<T>) {
    double wide = 0;
    if (!ParseElement(text, wide)) return false;
    value = ConvertTo<T>(wide);
    return true;
  } else if constexpr (kIsSmallInt<T>) {
    int64_t wide = 0;
    if (!ParseElement(text, wide)) return false;
    value = T(wide);
    return static_cast<int64_t>(value) == wide;
  } else if constexpr (std::is_same_v<T, bool>) {
    value = text == "1" || text == "true";
    return value || text == "0" || text == "false";
  } else {
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
  }
}

}  // namespace

void TextReader::SkipSpace() {
  while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
}

bool TextReader::AtEnd() {
  SkipSpace();
  return at_ == text_.size();
}

bool TextReader::Peek(std::string_view token) {
  SkipSpace();
  if (!text_.substr(at_).starts_with(token)) return false;
  const bool word = IsWordChar(token.back());
  const size_t end = at_ + token.size();
  return !(word && end < text_.size() && IsWordChar(text_[end]));
}

bool TextReader::Accept(std::string_view token) {
  if (!Peek(token)) return false;
  at_ += token.size();
  return true;
}

Status TextReader::Expect(std::string_view token) {
  if (Accept(token)) return {};
  return Error(fmt::format("'{}'", token));
}

Status TextReader::Error(std::string_view expected) const {
  const std::string_view before = text_.substr(0, std::min(at_, text_.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  return InvalidArgument("line {}: found '{}', expected {}", line, text_.substr(before.size(), 20),
                         expected);
}

std::string TextReader::Word() {
  SkipSpace();
  const size_t begin = at_;
  if (at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+')) ++at_;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    const bool exponent_sign =
        (c == '-' || c == '+') && at_ > begin && (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E');
    if (!IsWordChar(c) && !exponent_sign) break;
    ++at_;
  }
  return std::string(text_.substr(begin, at_ - begin));
}

Result<std::string> TextReader::Name() {
  SkipSpace();
  if (at_ < text_.size() && text_[at_] == '"') {
    std::string name;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      name += text_[at_];
    }
    MINIM_TRY(Expect("\""));
    return name;
  }
  if (at_ >= text_.size() || !IsWordChar(text_[at_])) return Error("a name");
  return Word();
}

Result<double> TextReader::Number() {
  const std::string word = Word();
  double value = 0;
  if (!ParseElement(word, value)) return Error("a number");
  return value;
}

Result<DType> TextReader::Element() {
  const std::string word = Word();
  if (const auto dtype = DTypeFromName(word)) return *dtype;
  return InvalidArgument("'{}' is no dtype", word);
}

Result<TensorType> TextReader::Wrapped() {
  const std::string kind = Word();
  MINIM_TRY(Expect("("));
  DType key = DType::i64;
  if (kind == "map") {
    MINIM_TRY(key, Element());
    MINIM_TRY(Expect(","));
  }
  MINIM_TRY(TensorType inner, Type());
  MINIM_TRY(Expect(")"));
  if (kind == "map") return TensorType::MapOf(key, std::move(inner));
  return kind == "seq" ? TensorType::SequenceOf(std::move(inner))
                       : TensorType::OptionalOf(std::move(inner));
}

Result<TensorType> TextReader::Type() {
  if (Peek("seq") || Peek("optional") || Peek("map")) return Wrapped();
  MINIM_TRY(const DType dtype, Element());
  TensorType type{dtype, Shape()};
  if (!Accept("[")) return type;
  if (Accept("*")) {
    MINIM_TRY(Expect("]"));
    return TensorType{dtype, std::nullopt};
  }
  while (!Accept("]")) {
    if (!type.shape->empty()) MINIM_TRY(Expect(","));
    if (Accept("?")) {
      type.shape->push_back(Dim());
      continue;
    }
    MINIM_TRY(const std::string size, Name());
    int64_t value = 0;
    type.shape->push_back(ParseElement(size, value) ? Dim(value) : Dim::Symbol(size));
  }
  return type;
}

Result<std::vector<std::string>> TextReader::NumberList() {
  std::vector<std::string> texts;
  MINIM_TRY(Expect("["));
  while (!Accept("]")) {
    if (Accept(",")) continue;
    if (Peek("[")) {
      MINIM_TRY(const std::vector<std::string> inner, NumberList());
      texts.insert(texts.end(), inner.begin(), inner.end());
      continue;
    }
    if (Peek("\"")) {
      MINIM_TRY(std::string text, Name());
      texts.push_back(std::move(text));
      continue;
    }
    std::string word = Word();
    if (word.empty()) return Error("a number");
    texts.push_back(std::move(word));
  }
  return texts;
}

Result<Attribute> TextReader::ParseListAttribute() {
  std::vector<std::string> strings;
  if (Peek("[\"") || Peek("[ \"")) {
    MINIM_TRY(Expect("["));
    while (!Accept("]")) {
      if (!strings.empty()) MINIM_TRY(Expect(","));
      MINIM_TRY(std::string item, Name());
      strings.push_back(std::move(item));
    }
    return Attribute(std::move(strings));
  }
  MINIM_TRY(const std::vector<std::string> texts, NumberList());
  std::vector<int64_t> ints(texts.size());
  std::vector<float> floats(texts.size());
  bool all_ints = true;
  for (size_t i = 0; i < texts.size(); ++i) {
    all_ints = all_ints && ParseElement(texts[i], ints[i]);
    if (!ParseElement(texts[i], floats[i])) return Error("a list of numbers");
  }
  return all_ints ? Attribute(std::move(ints)) : Attribute(std::move(floats));
}

Result<Attribute> TextReader::ParseAttribute() {
  if (Peek("[")) return ParseListAttribute();
  if (Peek("\"")) {
    MINIM_TRY(std::string text, Name());
    return Attribute(std::move(text));
  }
  if (Accept("type")) {
    MINIM_TRY(TensorType type, Type());
    return Attribute(std::move(type));
  }
  if (Accept("tensor")) {
    MINIM_TRY(const TensorType type, Type());
    MINIM_TRY(const std::vector<std::string> texts, NumberList());
    MINIM_TRY(Tensor tensor, TensorFromTexts(type, texts));
    return Attribute(std::move(tensor));
  }
  const std::string word = Word();
  if (const auto dtype = DTypeFromName(word)) return Attribute(int64_t{OnnxId(*dtype)});
  int64_t integer = 0;
  if (!LooksFloat(word) && ParseElement(word, integer)) return Attribute(integer);
  float number = 0;
  if (ParseElement(word, number)) return Attribute(number);
  return Error("an attribute value");
}

Result<Attributes> TextReader::ParseAttributes(
    std::map<std::string, std::shared_ptr<const Graph>>* subgraphs) {
  Attributes attributes;
  if (!Accept("{")) return attributes;
  for (bool first = true; !Accept("}"); first = false) {
    if (!first) MINIM_TRY(Expect(","));
    MINIM_TRY(const std::string name, Name());
    MINIM_TRY(Expect("="));
    if (subgraphs != nullptr && Peek("graph")) {
      MINIM_TRY(Graph graph, ParseGraph());
      (*subgraphs)[name] = std::make_shared<const Graph>(std::move(graph));
      continue;
    }
    MINIM_TRY(Attribute value, ParseAttribute());
    attributes.Set(name, std::move(value));
  }
  return attributes;
}

Result<Tensor> TensorFromTexts(const TensorType& type, const std::vector<std::string>& texts) {
  if (!type.Static()) return InvalidArgument("{} is no constant type", type.ToString());
  // Before there is a tensor: its size may be anything.
  if (ElementsOf(*type.shape) != static_cast<int64_t>(texts.size()))
    return InvalidArgument("{} numbers for a constant of type {}", texts.size(), type.ToString());
  Tensor tensor(type.dtype, type.dims());
  if (type.dtype == DType::string) return Tensor::From<std::string>(type.dims(), texts);
  return VisitAny(type.dtype, [&]<typename T>() -> Result<Tensor> {
    for (size_t i = 0; i < texts.size(); ++i) {
      if (!ParseElement(texts[i], tensor.as<T>()[i]))
        return InvalidArgument("'{}' is no {}", texts[i], Name(type.dtype));
    }
    return tensor;
  });
}

}  // namespace minim
