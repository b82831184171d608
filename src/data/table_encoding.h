// TableEncoding: how the columns of a table become the numbers that a model reads.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/csv.h"
#include "data/dataset.h"

namespace minim {

/// A column of numbers is one feature; a column of texts has one feature a category: 1 where the
/// text is equal, else 0. An unknown or missing text is zero in all of them.
struct ColumnEncoding {
  std::string name;
  double mean = 0;                      // of numbers: stands for one that is missing
  std::vector<std::string> categories;  // of texts, sorted; empty: numbers
};

struct TableEncoding {
  std::vector<ColumnEncoding> columns;
  std::string target;                // the column of the labels
  std::vector<std::string> classes;  // the label is the position in it; empty: it is a number

  /// Features of a row: numbers first to last, categories one after the other.
  int64_t width() const;
  /// For each feature, whether it is a category's.
  std::vector<bool> OneHot() const;
};

/// What to make of the columns.
struct TableColumns {
  std::string target;
  std::vector<std::string> drop;         // neither features nor target
  std::vector<std::string> categorical;  // texts, even if they look like numbers
};

/// Fields that say that there is no value: empty, NA, NaN, null.
bool IsMissing(std::string_view field);

/// Learns from `rows`. A column is of numbers if all fields that are not missing are. Classes are
/// sorted, as numbers if all are, else as texts.
/// Errors: kInvalidArgument for a column that does not exist, has no value or too many categories,
/// and for text that is not UTF-8.
Result<TableEncoding> LearnEncoding(const CsvTable& table, std::span<const int64_t> rows,
                                    const TableColumns& columns);

/// The features of `rows`, f32[rows, width]. Errors: kInvalidArgument says line, column and what
/// was found; a column of `encoding` that the table lacks.
Result<Tensor> EncodeFeatures(const CsvTable& table, std::span<const int64_t> rows,
                              const TableEncoding& encoding);
/// Their labels: class ids i64[rows], or f32[rows]. Errors: as above.
Result<Tensor> EncodeLabels(const CsvTable& table, std::span<const int64_t> rows,
                            const TableEncoding& encoding);

/// Where a model's metadata keeps its encoding.
inline constexpr std::string_view kEncodingKey = "minim.columns";
/// {"columns": [{"name", "mean"} or {"name", "categories"}], "target", "classes"}
std::string EncodingToJson(const TableEncoding& encoding);
/// Errors: kDataLoss.
Result<TableEncoding> EncodingFromJson(std::string_view text);
/// Errors: kInvalidArgument where `metadata` has none: the model was not trained on a table.
Result<TableEncoding> EncodingOf(const std::map<std::string, std::string>& metadata);
/// A file of a name that a table has: .csv or .csv.gz.
bool IsTableFile(const Path& path);

}  // namespace minim
