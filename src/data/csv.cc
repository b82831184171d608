#include "data/csv.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "data/idx.h"

namespace minim {
namespace {

// Reads row after row; quoted fields are unescaped in place, where they only become shorter.
class CsvReader {
 public:
  explicit CsvReader(std::string& text) : text_(text) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // the byte order mark of some spreadsheets
  }

  // The line of the next row that is not empty; 0 at the end.
  int64_t NextRow() {
    while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) Skip();
    return at_ < text_.size() ? line_ : 0;
  }

  Status ReadRow(std::vector<std::string_view>& fields) {
    while (true) {
      std::string_view field;
      MINIM_TRY(field, at_ < text_.size() && text_[at_] == '"' ? Quoted() : Plain());
      fields.push_back(field);
      if (at_ >= text_.size() || text_[at_] != ',') return {};
      ++at_;
    }
  }

 private:
  void Skip() { line_ += text_[at_++] == '\n'; }

  bool AtEnd() const {
    return at_ >= text_.size() || text_[at_] == ',' || text_[at_] == '\n' || text_[at_] == '\r';
  }

  Result<std::string_view> Plain() {
    const size_t begin = at_;
    while (!AtEnd()) ++at_;
    return std::string_view(text_).substr(begin, at_ - begin);
  }

  Result<std::string_view> Quoted() {
    const int64_t opened = line_;
    const size_t begin = ++at_;
    size_t end = begin;
    for (; at_ < text_.size(); Skip()) {
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
        ++at_;
      }
      text_[end++] = text_[at_];
    }
    if (at_ >= text_.size())
      return DataLoss("line {}: a quoted field is not closed; write a quote within it twice",
                      opened);
    ++at_;
    if (!AtEnd())
      return DataLoss("line {}: '{}' follows a closing quote, expected a comma or the end", line_,
                      text_[at_]);
    return std::string_view(text_).substr(begin, end - begin);
  }

  std::string& text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

Status CheckHeader(const std::vector<std::string_view>& header) {
  std::set<std::string_view> seen;
  for (size_t i = 0; i < header.size(); ++i) {
    if (header[i].empty())
      return DataLoss("line 1: column {} has no name; the first line names the columns", i + 1);
    if (!seen.insert(header[i]).second)
      return DataLoss("line 1: two columns are named '{}'", header[i]);
  }
  return {};
}

}  // namespace

Result<size_t> CsvTable::FindColumn(std::string_view name) const {
  const auto it = std::find(header.begin(), header.end(), name);
  if (it != header.end()) return static_cast<size_t>(it - header.begin());
  return InvalidArgument("there is no column '{}'; the columns are {}", name,
                         fmt::join(header, ", "));
}

Result<CsvTable> ParseCsv(std::string text) {
  CsvTable table;
  table.text = std::make_shared<std::string>(std::move(text));
  CsvReader reader(*table.text);
  if (reader.NextRow() == 0) return DataLoss("is empty; expected a line of column names");
  MINIM_TRY(reader.ReadRow(table.header));
  MINIM_TRY(CheckHeader(table.header));
  while (const int64_t line = reader.NextRow()) {
    const size_t before = table.fields.size();
    MINIM_TRY(reader.ReadRow(table.fields));
    if (table.fields.size() - before != table.header.size())
      return DataLoss("line {}: {} fields, expected {} as in the header", line,
                      table.fields.size() - before, table.header.size());
    table.lines.push_back(line);
  }
  return table;
}

Result<CsvTable> ReadCsv(const Path& path) {
  std::string text;
  if (path.extension() == ".gz") {
    MINIM_TRY(text, ReadGzip(path));
  } else {
    MINIM_TRY(text, ReadFile(path));
  }
  auto table = ParseCsv(std::move(text));
  if (!table.ok()) return Annotate(table.status(), path.string());
  return table;
}

}  // namespace minim
