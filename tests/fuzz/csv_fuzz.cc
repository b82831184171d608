// Fuzzes what a table can do to training: the CSV reader, and the columns learned from it.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "data/table_encoding.h"

namespace minim {
namespace {

void FuzzTable(std::string text) {
  const size_t bytes = text.size();
  const auto table = ParseCsv(std::move(text));
  if (!table.ok()) {
    MINIM_CHECK(!table.status().message().empty());
    return;
  }
  MINIM_CHECK(table->fields.size() == table->lines.size() * table->header.size());
  MINIM_CHECK(table->fields.size() <= bytes + 1);
  const std::vector<int64_t> rows = InOrder(table->row_count());
  const auto encoding = LearnEncoding(*table, rows, {.target = std::string(table->header[0])});
  if (!encoding.ok()) return;
  const auto features = EncodeFeatures(*table, rows, *encoding);
  MINIM_CHECK(features.ok() && features->dims()[1] == encoding->width());
  (void)EncodeLabels(*table, rows, *encoding).ok();
  const auto back = EncodingFromJson(EncodingToJson(*encoding));
  MINIM_CHECK(back.ok() && back->width() == encoding->width());
}

}  // namespace
}  // namespace minim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  minim::FuzzTable(text);
  (void)minim::EncodingFromJson(text).ok();
  return 0;
}
