#include "compress/shrink_data.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "data/table_encoding.h"

namespace minim {
namespace {

constexpr int64_t kFewest = 8;     // of which anything is estimated
constexpr int64_t kAdvised = 100;  // under which estimates are poor

// The dims of a sample as the model declares them; empty if one is not known.
std::vector<int64_t> SampleDims(const Graph& model) {
  std::vector<int64_t> dims;
  const Shape& shape = *model.type(model.inputs[0]).shape;
  for (size_t i = 1; i < shape.size(); ++i) {
    if (!shape[i].known()) return {};
    dims.push_back(shape[i].value());
  }
  return dims;
}

Result<Dataset> ReadTable(const Graph& model, const Path& file) {
  MINIM_TRY(const TableEncoding encoding, EncodingOf(model.metadata));
  MINIM_TRY(const CsvTable table, ReadCsv(file));
  const std::vector<int64_t> rows = InOrder(table.row_count());
  Dataset data;
  MINIM_TRY(data.samples, EncodeFeatures(table, rows, encoding));
  if (table.FindColumn(encoding.target).ok()) {
    MINIM_TRY(data.labels, EncodeLabels(table, rows, encoding));
  }
  return data;
}

Status CheckFinite(const Tensor& rows, std::string_view what) {
  if (!rows.defined() || !IsFloat(rows.dtype())) return {};
  const int64_t width = rows.size() / std::max<int64_t>(1, rows.dims()[0]);
  const Tensor wide = Converted(rows.view(), DType::f32);
  const auto values = wide.as<float>();
  for (int64_t i = 0; i < wide.size(); ++i)
    if (!std::isfinite(values[i]))
      return InvalidArgument("{} {} holds {}; leave such samples out or impute them", what,
                             i / width, values[i]);
  return {};
}

Result<Dataset> ReadPart(const Graph& model, const std::string& samples,
                         const std::string& labels) {
  Result<Dataset> data = IsTableFile(samples) && labels.empty()
                             ? ReadTable(model, samples)
                             : ReadDataset(samples, labels, SampleDims(model));
  if (!data.ok()) return Annotate(data.status(), samples);
  MINIM_TRY(Annotate(CheckFinite(data->samples, "sample"), samples));
  MINIM_TRY(Annotate(CheckFinite(data->labels, "the label of sample"), labels));
  return data;
}

Dataset Subset(const Dataset& data, std::span<const int64_t> rows) {
  Batch batch = GatherBatch(data, rows);
  return {std::move(batch.samples), data.labels.defined() ? std::move(batch.labels) : Tensor()};
}

Status CheckCount(const std::string& what, int64_t count, std::vector<std::string>& warnings) {
  if (count < kFewest)
    return InvalidArgument("{}: found {} samples, expected at least {} ({} or more are advised)",
                           what, count, kFewest, kAdvised);
  if (count < kAdvised)
    warnings.push_back(
        fmt::format("{}: {} samples are few; {} or more are advised", what, count, kAdvised));
  return {};
}

// A part of the gate's samples in their order becomes those of calibration.
void SplitOff(ShrinkData& data, const ShrinkOptions& options) {
  std::vector<int64_t> order = ShuffledOrder(data.gate.size(), options.seed, 0);
  const int64_t count = std::min(options.calibration_count, data.gate.size() / 5);
  std::sort(order.begin(), order.begin() + count);
  std::sort(order.begin() + count, order.end());
  data.calibration = Subset(data.gate, std::span(order).first(count));
  data.gate = Subset(data.gate, std::span(order).subspan(count));
}

}  // namespace

Result<ShrinkData> ReadShrinkData(const Graph& model, const ShrinkOptions& options) {
  ShrinkData data;
  MINIM_TRY(data.gate, ReadPart(model, options.data, options.labels));
  if (options.calibration.empty()) {
    SplitOff(data, options);
  } else {
    MINIM_TRY(const Dataset all, ReadPart(model, options.calibration, ""));
    data.calibration = FirstSamples(all, options.calibration_count);
  }
  MINIM_TRY(CheckCount("data", data.gate.size(), data.warnings));
  MINIM_TRY(CheckCount("calibration", data.calibration.size(), data.warnings));
  if (options.train_data.empty()) {
    for (const std::string& step : options.recipe)
      if (step != "quantize")
        return InvalidArgument("recipe step {}: needs --train-data and --train-labels", step);
    return data;
  }
  MINIM_TRY(data.train, ReadPart(model, options.train_data, options.train_labels));
  if (!data.train.labels.defined())
    return InvalidArgument("{}: training needs labels; give --train-labels", options.train_data);
  MINIM_TRY(CheckCount("train-data", data.train.size(), data.warnings));
  return data;
}

Dataset FirstSamples(const Dataset& data, int64_t count) {
  return Subset(data, InOrder(std::min(count, data.size())));
}

}  // namespace minim
