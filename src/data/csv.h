// CSV files (RFC 4180): a header, then rows of as many fields; quotes, CRLF and lines in quotes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"

namespace minim {

/// A table of texts. Copies share the text.
struct CsvTable {
  std::shared_ptr<std::string> text;  // what the fields point into
  std::vector<std::string_view> header;
  std::vector<std::string_view> fields;  // row by row
  std::vector<int64_t> lines;            // where in the file each row begins, from 1

  int64_t row_count() const { return static_cast<int64_t>(lines.size()); }
  std::string_view at(int64_t row, size_t column) const {
    return fields[static_cast<size_t>(row) * header.size() + column];
  }
  /// Errors: kInvalidArgument lists the columns there are.
  Result<size_t> FindColumn(std::string_view name) const;
};

/// Empty lines are left out. Errors: kDataLoss says the line.
Result<CsvTable> ParseCsv(std::string text);
/// A name ending in .gz is decompressed.
Result<CsvTable> ReadCsv(const Path& path);

}  // namespace minim
