#include "data/table_encoding.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

namespace minim {
namespace {

using nlohmann::json;

constexpr size_t kMostCategories = 1000;

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == std::string_view::npos ? "" : text.substr(first, last - first + 1);
}

std::optional<double> NumberIn(std::string_view field) {
  std::string_view text = Trimmed(field);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  if (!std::isfinite(static_cast<float>(value))) return {};  // features are f32
  return value;
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The encoding is kept as JSON, which is UTF-8.
bool IsUtf8(std::string_view text) {
  try {
    (void)json(text).dump();
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

Status CheckUtf8(std::string_view text, int64_t line) {
  if (IsUtf8(text)) return {};
  return InvalidArgument("line {}: holds text that is not UTF-8; convert the file", line);
}

// What the training rows say about a column.
class ColumnScan {
 public:
  ColumnScan(const CsvTable& table, std::span<const int64_t> rows, size_t column)
      : name_(table.header[column]) {
    for (int64_t row : rows) {
      const std::string_view field = table.at(row, column);
      if (IsMissing(field)) continue;
      ++count_;
      if (const auto number = NumberIn(field)) {
        sum_ += *number;
      } else if (no_number_.empty()) {
        no_number_ = fmt::format("'{}' in line {}", field, table.lines[row]);
      }
      if (texts_.size() <= kMostCategories) texts_.emplace(field, table.lines[row]);
    }
  }

  bool numbers() const { return no_number_.empty(); }
  double mean() const { return sum_ / static_cast<double>(count_); }

  Status Check(size_t rows) const {
    if (count_ > 0) return {};
    return InvalidArgument("column '{}' has no value in {} training rows; drop it", name_, rows);
  }

  Result<std::vector<std::string>> Categories() const {
    if (texts_.size() > kMostCategories)
      return InvalidArgument(
          "column '{}' holds more than {} different texts{}; drop it, or correct what should be "
          "numbers",
          name_, kMostCategories, numbers() ? "" : " (the first is " + no_number_ + ")");
    std::vector<std::string> sorted;
    for (const auto& [text, line] : texts_) {
      MINIM_TRY(CheckUtf8(text, line));
      sorted.emplace_back(text);
    }
    if (numbers())
      std::sort(sorted.begin(), sorted.end(), [](const std::string& a, const std::string& b) {
        return *NumberIn(a) < *NumberIn(b);
      });
    return sorted;
  }

 private:
  std::string_view name_;
  int64_t count_ = 0;
  double sum_ = 0;
  std::string no_number_;
  std::map<std::string_view, int64_t> texts_;  // with the line of the first
};

Result<std::vector<size_t>> FindColumns(const CsvTable& table, const TableEncoding& encoding) {
  std::vector<size_t> found;
  for (const ColumnEncoding& column : encoding.columns) {
    MINIM_TRY(const size_t index, table.FindColumn(column.name));
    found.push_back(index);
  }
  return found;
}

// Writes one field's features.
Status EncodeField(std::string_view field, const ColumnEncoding& column, std::span<float> dst) {
  if (column.categories.empty()) {
    const auto number = IsMissing(field) ? column.mean : NumberIn(field);
    if (!number)
      return InvalidArgument("column '{}': found '{}', expected a number as in the training rows",
                             column.name, field);
    dst[0] = static_cast<float>(*number);
    return {};
  }
  for (size_t i = 0; i < dst.size(); ++i) dst[i] = column.categories[i] == field;
  return {};
}

size_t WidthOf(const ColumnEncoding& column) {
  return std::max<size_t>(1, column.categories.size());
}

}  // namespace

bool IsMissing(std::string_view field) {
  constexpr std::string_view kMissing[] = {"", "NA", "NaN", "nan", "null"};
  return std::find(std::begin(kMissing), std::end(kMissing), Trimmed(field)) != std::end(kMissing);
}

int64_t TableEncoding::width() const { return static_cast<int64_t>(OneHot().size()); }

std::vector<bool> TableEncoding::OneHot() const {
  std::vector<bool> one_hot;
  for (const ColumnEncoding& column : columns)
    one_hot.insert(one_hot.end(), WidthOf(column), !column.categories.empty());
  return one_hot;
}

Result<TableEncoding> LearnEncoding(const CsvTable& table, std::span<const int64_t> rows,
                                    const TableColumns& columns) {
  TableEncoding encoding{.target = columns.target};
  MINIM_TRY(const size_t target, table.FindColumn(columns.target));
  for (const auto* names : {&columns.drop, &columns.categorical})
    for (const std::string& name : *names) MINIM_TRY(table.FindColumn(name).status());
  for (size_t i = 0; i < table.header.size(); ++i) {
    MINIM_TRY(CheckUtf8(table.header[i], 1));
    if (Contains(columns.drop, table.header[i])) continue;
    const ColumnScan scan(table, rows, i);
    MINIM_TRY(scan.Check(rows.size()));
    std::vector<std::string> categories;
    if (!scan.numbers() || Contains(columns.categorical, table.header[i])) {
      MINIM_TRY(categories, scan.Categories());
    }
    if (i == target) {
      encoding.classes = std::move(categories);
    } else {
      encoding.columns.push_back({std::string(table.header[i]),
                                  categories.empty() ? scan.mean() : 0, std::move(categories)});
    }
  }
  if (encoding.columns.empty()) return InvalidArgument("no column is left to learn from");
  return encoding;
}

Result<Tensor> EncodeFeatures(const CsvTable& table, std::span<const int64_t> rows,
                              const TableEncoding& encoding) {
  MINIM_TRY(const std::vector<size_t> columns, FindColumns(table, encoding));
  Tensor features(DType::f32, {static_cast<int64_t>(rows.size()), encoding.width()});
  std::span<float> rest = features.as<float>();
  for (int64_t row : rows) {
    for (size_t i = 0; i < columns.size(); ++i) {
      const size_t width = WidthOf(encoding.columns[i]);
      const Status status =
          EncodeField(table.at(row, columns[i]), encoding.columns[i], rest.first(width));
      if (!status.ok()) return Annotate(status, fmt::format("line {}", table.lines[row]));
      rest = rest.subspan(width);
    }
  }
  return features;
}

Result<Tensor> EncodeLabels(const CsvTable& table, std::span<const int64_t> rows,
                            const TableEncoding& encoding) {
  MINIM_TRY(const size_t column, table.FindColumn(encoding.target));
  const bool classes = !encoding.classes.empty();
  Tensor labels(classes ? DType::i64 : DType::f32, {static_cast<int64_t>(rows.size())});
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string_view field = table.at(rows[i], column);
    const auto it = std::find(encoding.classes.begin(), encoding.classes.end(), field);
    const std::optional<double> number = NumberIn(field);
    if (classes ? it == encoding.classes.end() : !number)
      return InvalidArgument(
          "line {}, column '{}': found '{}', expected {}", table.lines[rows[i]], encoding.target,
          field,
          classes ? fmt::format("one of {}", fmt::join(encoding.classes, ", ")) : "a number");
    if (classes) {
      labels.as<int64_t>()[i] = it - encoding.classes.begin();
    } else {
      labels.as<float>()[i] = static_cast<float>(*number);
    }
  }
  return labels;
}

std::string EncodingToJson(const TableEncoding& encoding) {
  json columns = json::array();
  for (const ColumnEncoding& column : encoding.columns)
    columns.push_back(column.categories.empty()
                          ? json{{"name", column.name}, {"mean", column.mean}}
                          : json{{"name", column.name}, {"categories", column.categories}});
  json text = {{"columns", columns}, {"target", encoding.target}};
  if (!encoding.classes.empty()) text["classes"] = encoding.classes;
  return text.dump();
}

Result<TableEncoding> EncodingFromJson(std::string_view text) {
  TableEncoding encoding;
  try {
    const json root = json::parse(text);
    encoding.target = root.at("target").get<std::string>();
    if (root.contains("classes")) root.at("classes").get_to(encoding.classes);
    for (const json& item : root.at("columns")) {
      ColumnEncoding& column = encoding.columns.emplace_back();
      item.at("name").get_to(column.name);
      if (item.contains("categories")) item.at("categories").get_to(column.categories);
      if (item.contains("mean")) item.at("mean").get_to(column.mean);
    }
  } catch (const json::exception& error) {
    return DataLoss("{}: {}", kEncodingKey, error.what());
  }
  return encoding;
}

Result<TableEncoding> EncodingOf(const std::map<std::string, std::string>& metadata) {
  const auto it = metadata.find(std::string(kEncodingKey));
  if (it == metadata.end())
    return InvalidArgument(
        "the model does not say what its columns are ('{}'), as it was not trained on a table; "
        "give arrays instead",
        kEncodingKey);
  return EncodingFromJson(it->second);
}

bool IsTableFile(const Path& path) {
  const std::string name = path.string();
  return name.ends_with(".csv") || name.ends_with(".csv.gz");
}

}  // namespace minim
