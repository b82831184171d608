#include "compress/shrink_data.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "data/table_encoding.h"
#include "session/session_impl.h"

namespace minim {
namespace {

constexpr int64_t kFewest = 8;     // of which anything is estimated
constexpr int64_t kAdvised = 100;  // under which estimates are poor

// An input that data is given for.
struct DataInput {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> dims;  // of a sample as the model declares them; empty if one is not known
};

Result<DataInput> DataInputOf(const Graph& model, ValueId id) {
  const TensorType& type = model.type(id);
  DataInput input{.name = model.value(id).name, .dtype = type.dtype};
  if (!type.dense() || !type.ranked() || type.rank() == 0)
    return InvalidArgument(
        "input '{}' is {}; expected a tensor of numbers of known rank whose first dim counts "
        "samples",
        input.name, type.ToString());
  for (size_t i = 1; i < type.shape->size(); ++i) {
    const Dim& dim = (*type.shape)[i];
    if (!dim.known()) {
      input.dims.clear();
      break;
    }
    input.dims.push_back(dim.value());
  }
  return input;
}

Result<std::vector<DataInput>> DataInputs(const Graph& model, const Feedback& feedback) {
  std::vector<DataInput> inputs;
  for (size_t i = 0; i < model.inputs.size(); ++i) {
    if (feedback.IsState(i)) continue;
    MINIM_TRY(DataInput input, DataInputOf(model, model.inputs[i]));
    inputs.push_back(std::move(input));
  }
  if (inputs.empty()) return InvalidArgument("the model has no input that data is given for");
  return inputs;
}

std::string NamesOf(const std::vector<DataInput>& inputs) {
  std::string names;
  for (const DataInput& input : inputs) names += (names.empty() ? "" : ", ") + input.name;
  return names;
}

// The file of each input. A name with '=' in it is a file if the part before it is no input.
Result<std::vector<std::string>> FilesOf(const std::vector<DataInput>& inputs,
                                         const std::vector<std::string>& given) {
  std::vector<std::string> files(inputs.size());
  const auto put = [&](size_t i, const std::string& file) -> Status {
    if (!files[i].empty())
      return InvalidArgument("input '{}' was given twice: {} and {}", inputs[i].name, files[i],
                             file);
    files[i] = file;
    return {};
  };
  for (const std::string& text : given) {
    const std::string name = text.substr(0, text.find('='));
    const auto named = std::find_if(inputs.begin(), inputs.end(),
                                    [&](const DataInput& input) { return input.name == name; });
    if (named != inputs.end() && name.size() < text.size()) {
      MINIM_TRY(put(static_cast<size_t>(named - inputs.begin()), text.substr(name.size() + 1)));
    } else if (inputs.size() == 1) {
      MINIM_TRY(put(0, text));
    } else if (text.ends_with(".npz")) {
      for (size_t i = 0; i < inputs.size(); ++i) MINIM_TRY(put(i, text + ":" + inputs[i].name));
    } else {
      return InvalidArgument(
          "{}: of which input? The model has {}; write NAME=FILE for each, or one .npz with arrays "
          "of these names",
          text, NamesOf(inputs));
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (files[i].empty())
      return InvalidArgument("input '{}' was not given; add {}=FILE", inputs[i].name,
                             inputs[i].name);
  return files;
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

// Floats become f32, integers those of the input.
Result<Tensor> AsInput(const DataInput& input, const Tensor& read) {
  const DType dtype = IsFloat(input.dtype) ? DType::f32 : input.dtype;
  Tensor tensor = read.dtype() == dtype ? read : Converted(read.view(), dtype);
  if (IsFloat(dtype) || read.dtype() == dtype) return tensor;
  const Tensor back = Converted(tensor.view(), DType::f64);
  const Tensor wide = Converted(read.view(), DType::f64);
  for (int64_t i = 0; i < wide.size(); ++i)
    if (back.as<double>()[i] != wide.as<double>()[i])
      return InvalidArgument("element {} is {}, which the input's dtype {} cannot hold", i,
                             wide.as<double>()[i], Name(dtype));
  return tensor;
}

// The arrays of all inputs, with as many samples each.
Result<Dataset> ReadInputs(const std::vector<DataInput>& inputs,
                           const std::vector<std::string>& files, const std::string& labels) {
  Dataset data;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string where = fmt::format("input '{}': {}", inputs[i].name, files[i]);
    auto part = ReadDataset(files[i], i == 0 ? labels : "", inputs[i].dims);
    if (!part.ok()) return Annotate(part.status(), where);
    MINIM_TRY(Annotate(CheckFinite(part->samples, "sample"), where));
    auto read = AsInput(inputs[i], part->samples);
    if (!read.ok()) return Annotate(read.status(), where);
    if (i == 0) {
      data = {.samples = *std::move(read), .labels = std::move(part->labels)};
      data.batch_dtype = data.samples.dtype();
    } else if (part->size() != data.size()) {
      return InvalidArgument("{}: found {} samples, expected {} as of input '{}'", where,
                             part->size(), data.size(), inputs[0].name);
    } else {
      data.others.push_back(*std::move(read));
    }
  }
  return data;
}

Result<Dataset> ReadPart(const std::vector<DataInput>& inputs, const Graph& model,
                         const std::vector<std::string>& given, const std::string& labels) {
  MINIM_TRY(const std::vector<std::string> files, FilesOf(inputs, given));
  Dataset data;
  if (inputs.size() == 1 && IsTableFile(files[0]) && labels.empty()) {
    Result<Dataset> table = ReadTable(model, files[0]);
    if (!table.ok()) return Annotate(table.status(), files[0]);
    data = *std::move(table);
    MINIM_TRY(Annotate(CheckFinite(data.samples, "sample"), files[0]));
  } else {
    MINIM_TRY(data, ReadInputs(inputs, files, labels));
  }
  MINIM_TRY(Annotate(CheckFinite(data.labels, "the label of sample"),
                     labels.empty() ? files[0] : labels));
  return data;
}

Dataset Subset(const Dataset& data, std::span<const int64_t> rows) {
  Batch batch = GatherBatch(data, rows);
  return {std::move(batch.samples), data.labels.defined() ? std::move(batch.labels) : Tensor(),
          std::move(batch.others), data.batch_dtype};
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

// How many of the gate's samples become those of calibration: of a stream whole sequences.
Result<int64_t> SplitCount(const ShrinkData& data, const ShrinkOptions& options) {
  const int64_t count = std::min(options.calibration_count, data.gate.size() / 5);
  const int64_t length = data.feedback.sequence_length;
  if (length == 0) return count;
  if (data.gate.size() < 2 * length)
    return InvalidArgument(
        "data: {} steps are less than two sequences of {}; give more, or calibration samples of "
        "their own",
        data.gate.size(), length);
  return std::max(count / length, int64_t{1}) * length;
}

// A part of the gate's samples in their order becomes those of calibration.
Status SplitOff(ShrinkData& data, const ShrinkOptions& options) {
  MINIM_TRY(const int64_t count, SplitCount(data, options));
  std::vector<int64_t> order = data.feedback.empty()
                                   ? ShuffledOrder(data.gate.size(), options.seed, 0)
                                   : InOrder(data.gate.size());
  std::sort(order.begin(), order.begin() + count);
  std::sort(order.begin() + count, order.end());
  data.calibration = Subset(data.gate, std::span(order).first(count));
  data.gate = Subset(data.gate, std::span(order).subspan(count));
  return {};
}

// States as the FP32 model makes them.
Status AddStates(const Graph& model, ShrinkData& data) {
  if (data.feedback.empty()) {
    data.profiled = data.calibration;
    return {};
  }
  MINIM_TRY(const std::shared_ptr<Session> session, MakeSession(model, {}));
  MINIM_TRY(data.profiled, WithStates(*session, data.calibration, data.feedback));
  return {};
}

}  // namespace

Result<ShrinkData> ReadShrinkData(const Graph& model, const ShrinkOptions& options) {
  ShrinkData data;
  MINIM_TRY(data.feedback, FeedbackOf(model, options.states, options.sequence_length));
  MINIM_TRY(const std::vector<DataInput> inputs, DataInputs(model, data.feedback));
  if (!data.feedback.empty() && !options.train_data.empty())
    return InvalidArgument(
        "train-data: a model with states is not trained, as a step knows nothing of the gradient "
        "through time; train it on windows before it is exported");
  MINIM_TRY(data.gate, ReadPart(inputs, model, options.data, options.labels));
  if (options.calibration.empty()) {
    MINIM_TRY(SplitOff(data, options));
  } else {
    MINIM_TRY(const Dataset all, ReadPart(inputs, model, options.calibration, ""));
    data.calibration = FirstSamples(all, options.calibration_count);
  }
  MINIM_TRY(CheckCount("data", data.gate.size(), data.warnings));
  MINIM_TRY(CheckCount("calibration", data.calibration.size(), data.warnings));
  MINIM_TRY(AddStates(model, data));
  if (options.train_data.empty()) {
    for (const std::string& step : options.recipe)
      if (step != "quantize")
        return InvalidArgument("recipe step {}: needs --train-data and --train-labels", step);
    return data;
  }
  MINIM_TRY(data.train, ReadPart(inputs, model, options.train_data, options.train_labels));
  if (!data.train.labels.defined())
    return InvalidArgument("{}: training needs labels; give --train-labels", options.train_data[0]);
  MINIM_TRY(CheckCount("train-data", data.train.size(), data.warnings));
  return data;
}

Dataset FirstSamples(const Dataset& data, int64_t count) {
  return Subset(data, InOrder(std::min(count, data.size())));
}

}  // namespace minim
