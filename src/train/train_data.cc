#include "train/train_data.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "core/error.h"
#include "data/dataset.h"
#include "data/table_encoding.h"

namespace minim {
namespace {

Status CheckLabels(const ConstView& labels, LossKind loss) {
  if (loss == LossKind::kMeanSquaredError) return {};
  const bool classes = loss == LossKind::kCrossEntropy;
  const Tensor wide = Converted(labels, DType::f64);
  for (double label : wide.as<double>()) {
    if (classes && label < 0) return InvalidArgument("class label {} is negative", label);
    if (!classes && !(label >= 0 && label <= 1))
      return InvalidArgument("label {} of binary_cross_entropy is not within 0 and 1", label);
  }
  return {};
}

// A step reads as many bytes as the first batch had: what a caller's source gives must fit.
class CheckedSource final : public DataSource {
 public:
  CheckedSource(std::shared_ptr<DataSource> source, LossKind loss)
      : source_(std::move(source)), loss_(loss) {}

  int64_t size() const override { return source_->size(); }

  Result<Batch> Gather(std::span<const int64_t> indices) override {
    MINIM_TRY(Batch batch, source_->Gather(indices));
    if (!first_.samples.defined()) first_ = batch;
    const auto count = static_cast<int64_t>(indices.size());
    MINIM_TRY(Check("samples", batch.samples, first_.samples, count, DType::f32));
    MINIM_TRY(CheckOthers(batch, count));
    const DType labels = first_.labels.dtype() == DType::i64 ? DType::i64 : DType::f32;
    MINIM_TRY(Check("labels", batch.labels, first_.labels, count, labels));
    MINIM_TRY(CheckLabels(batch.labels.view(), loss_));
    return batch;
  }

 private:
  Status CheckOthers(const Batch& batch, int64_t count) const {
    if (batch.others.size() != first_.others.size())
      return InvalidArgument("the data source gave {} further inputs, expected {} as before",
                             batch.others.size(), first_.others.size());
    for (size_t i = 0; i < batch.others.size(); ++i)
      MINIM_TRY(Check(fmt::format("input {}", i + 1), batch.others[i], first_.others[i], count,
                      first_.others[i].dtype()));
    return {};
  }

  static Status Check(std::string_view what, const Tensor& found, const Tensor& first,
                      int64_t count, DType dtype) {
    Dims expected = first.dims();
    if (expected.rank() == 0) expected = {0};
    expected[0] = count;
    if (found.defined() && found.dtype() == dtype && found.dims() == expected) return {};
    return InvalidArgument("the data source gave {} {}{}, expected {}{}", what, Name(found.dtype()),
                           found.dims().ToString(), Name(dtype), expected.ToString());
  }

  const std::shared_ptr<DataSource> source_;
  const LossKind loss_;
  Batch first_;
};

struct Parts {
  std::vector<int64_t> train, test;
};

// Both in their order in the file.
Parts Split(int64_t size, const SplitSpec& split) {
  const auto count = static_cast<int64_t>(std::llround(split.test_fraction * size));
  std::vector<int64_t> order = InOrder(size);
  if (split.kind == SplitKind::kRandom) order = ShuffledOrder(size, split.seed, 0);
  const auto middle = order.end() - count;
  std::sort(order.begin(), middle);
  std::sort(middle, order.end());
  const bool gap = count > 0 && split.kind == SplitKind::kChronological;
  return {{order.begin(), middle - (gap ? std::min(split.gap, size - count) : 0)},
          {middle, order.end()}};
}

Status CheckData(const TrainConfig& config) {
  const bool files = !config.train_samples.empty(), csv = !config.csv.file.empty();
  const bool source = config.train_source != nullptr;
  if (files + csv + source != 1)
    return InvalidArgument("[data]: give either csv or train_samples and train_labels{}",
                           source || (!files && !csv) ? ", or in C++ train_source" : "");
  if (csv && config.csv.target.empty())
    return InvalidArgument("[data] target: name the column of {} that holds the labels",
                           config.csv.file);
  if (files && config.train_labels.empty())
    return InvalidArgument("[data] train_labels: name the file of labels of {}",
                           config.train_samples);
  if (config.test_samples.empty() != config.test_labels.empty())
    return InvalidArgument("[data]: test_samples and test_labels go together");
  const double fraction = config.split.test_fraction;
  if (!(fraction >= 0 && fraction < 1))
    return InvalidArgument("[data] test_fraction is {}, expected at least 0 and below 1", fraction);
  if (config.split.gap < 0)
    return InvalidArgument("[data] split_gap is {}, expected at least 0", config.split.gap);
  const bool tested =
      !config.test_samples.empty() || !config.csv.test_file.empty() || config.test_source;
  if (tested && fraction > 0)
    return InvalidArgument("[data]: give either test data or a test_fraction");
  return {};
}

Result<std::shared_ptr<ArraySource>> OpenFiles(const TrainConfig& config,
                                               const std::string& samples,
                                               const std::string& labels) {
  MINIM_TRY(std::shared_ptr<ArraySource> data, OpenDataset(samples, labels, config.model.input));
  MINIM_TRY(Annotate(CheckLabels(data->labels(), config.loss), labels));
  return data;
}

Result<TrainData> OpenArrays(const TrainConfig& config) {
  TrainData data;
  MINIM_TRY(const auto train, OpenFiles(config, config.train_samples, config.train_labels));
  data.train = train;
  data.classes = ClassCount(train->labels());
  if (config.test_samples.empty()) return data;
  MINIM_TRY(data.test, OpenFiles(config, config.test_samples, config.test_labels));
  return data;
}

TrainData WrapSources(const TrainConfig& config) {
  const auto wrap = [&](const std::shared_ptr<DataSource>& source) {
    return source ? std::make_shared<CheckedSource>(source, config.loss) : nullptr;
  };
  return {.train = wrap(config.train_source), .test = wrap(config.test_source)};
}

void SplitOff(TrainData& data, const SplitSpec& split) {
  Parts parts = Split(data.train->size(), split);
  if (parts.test.empty()) return;
  const std::shared_ptr<DataSource> whole = data.train;
  data.train = std::make_shared<SubsetSource>(whole, std::move(parts.train));
  data.test = std::make_shared<SubsetSource>(whole, std::move(parts.test));
}

Result<std::shared_ptr<DataSource>> EncodeRows(const CsvTable& table,
                                               const std::vector<int64_t>& rows,
                                               const TableEncoding& encoding, LossKind loss) {
  Dataset data;
  MINIM_TRY(data.samples, EncodeFeatures(table, rows, encoding));
  MINIM_TRY(data.labels, EncodeLabels(table, rows, encoding));
  MINIM_TRY(CheckLabels(data.labels.view(), loss));
  return std::shared_ptr<DataSource>(std::make_shared<ArraySource>(data));
}

Status CheckClasses(const TableEncoding& encoding, LossKind loss) {
  const size_t classes = encoding.classes.size();
  if (loss == LossKind::kMeanSquaredError && classes > 0)
    return InvalidArgument("column '{}' holds texts such as '{}', but mse takes numbers",
                           encoding.target, encoding.classes[0]);
  if (loss == LossKind::kBinaryCrossEntropy && classes > 0 && classes != 2)
    return InvalidArgument("column '{}' has {} classes, but binary_cross_entropy takes 2",
                           encoding.target, classes);
  return {};
}

struct EncodedTable {
  TableEncoding encoding;
  TrainData data;
};

Result<EncodedTable> EncodeTable(const TrainConfig& config, const CsvTable& table) {
  TableColumns columns{config.csv.target, config.csv.drop, config.csv.categorical};
  if (config.loss == LossKind::kCrossEntropy) columns.categorical.push_back(columns.target);
  const Parts parts = Split(table.row_count(), config.split);
  EncodedTable result;
  MINIM_TRY(result.encoding, LearnEncoding(table, parts.train, columns));
  MINIM_TRY(CheckClasses(result.encoding, config.loss));
  TrainData& data = result.data;
  data.one_hot = result.encoding.OneHot();
  data.classes = static_cast<int64_t>(result.encoding.classes.size());
  data.metadata.emplace(kEncodingKey, EncodingToJson(result.encoding));
  MINIM_TRY(data.train, EncodeRows(table, parts.train, result.encoding, config.loss));
  if (parts.test.empty()) return result;
  MINIM_TRY(data.test, EncodeRows(table, parts.test, result.encoding, config.loss));
  return result;
}

Result<TrainData> OpenCsv(const TrainConfig& config) {
  MINIM_TRY(const CsvTable table, ReadCsv(config.csv.file));
  auto encoded = EncodeTable(config, table);
  if (!encoded.ok()) return Annotate(encoded.status(), config.csv.file);
  TrainData data = std::move(encoded->data);
  if (config.csv.test_file.empty()) return data;
  MINIM_TRY(const CsvTable test, ReadCsv(config.csv.test_file));
  auto rows = EncodeRows(test, InOrder(test.row_count()), encoded->encoding, config.loss);
  if (!rows.ok()) return Annotate(rows.status(), config.csv.test_file);
  data.test = *std::move(rows);
  return data;
}

}  // namespace

int64_t ClassCount(const ConstView& labels) {
  if (IsFloat(labels.dtype) || labels.size() == 0) return 0;
  const Tensor ids = Converted(labels, DType::i64);
  const auto all = ids.as<int64_t>();
  return *std::max_element(all.begin(), all.end()) + 1;
}

Result<TrainData> OpenTrainData(const TrainConfig& config) {
  MINIM_TRY(CheckData(config));
  if (!config.csv.file.empty()) return OpenCsv(config);
  TrainData data;
  if (config.train_source) {
    data = WrapSources(config);
  } else {
    MINIM_TRY(data, OpenArrays(config));
  }
  SplitOff(data, config.split);
  return data;
}

}  // namespace minim
