#include "train/metrics.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/dtype.h"
#include "core/stats.h"

namespace minim {
namespace {

constexpr int64_t kBatch = 100;

// The first `count` rows.
Tensor Head(const Tensor& tensor, int64_t count) {
  ConstView view = tensor.view();
  if (view.dims.rank() == 0 || view.dims[0] <= count) return tensor;
  view.dims[0] = count;
  return Tensor::Copy(view);
}

// The batch size that the model fixes; 0: none.
int64_t FixedBatch(const Session& session) {
  for (const TensorInfo& input : session.inputs())
    if (!input.dims.empty() && input.dims[0] > 0) return input.dims[0];
  return 0;
}

// Calls look(scores in f32, labels) for each batch. A model of a fixed batch size gets the last
// sample as often as it takes.
Status ForEachBatch(const Session& session, DataSource& data, size_t output,
                    const std::function<Status(const Tensor&, const Tensor&)>& look) {
  const int64_t fixed = FixedBatch(session);
  const int64_t size = fixed > 0 ? fixed : kBatch;
  const std::vector<int64_t> order = InOrder(data.size());
  for (int64_t first = 0; first < data.size(); first += size) {
    const int64_t count = std::min(size, data.size() - first);
    std::vector<int64_t> indices(order.begin() + first, order.begin() + first + count);
    if (fixed > 0) indices.resize(static_cast<size_t>(size), indices.back());
    MINIM_TRY(const Batch batch, data.Gather(indices));
    MINIM_TRY(const std::vector<Tensor> inputs, SessionInputs(session, batch));
    const std::vector<ConstView> views = ViewsOf(inputs);
    MINIM_TRY(const std::vector<Tensor> outputs, session.Run(views));
    MINIM_TRY(look(Converted(Head(outputs[output], count).view(), DType::f32),
                   Head(batch.labels, count)));
  }
  return {};
}

// Scores of classes: [rows, classes] or, of many places a sample, [rows, classes, places...].
class ClassScores {
 public:
  static Result<ClassScores> Of(const Tensor& scores, int64_t rows) {
    const Dims& dims = scores.dims();
    if (dims.rank() < 2 || dims[0] != rows)
      return InvalidArgument("the model's first output has shape {}, expected [{},classes]",
                             dims.ToString(), rows);
    return ClassScores(scores);
  }

  int64_t classes() const { return scores_.dims()[1]; }
  int64_t places() const { return scores_.dims().Elements(2, scores_.dims().rank()); }
  float at(int64_t row, int64_t place, int64_t c) const {
    return scores_.as<float>()[(row * classes() + c) * places() + place];
  }
  int64_t Best(int64_t row, int64_t place) const {
    int64_t best = 0;
    for (int64_t c = 1; c < classes(); ++c)
      if (at(row, place, c) > at(row, place, best)) best = c;
    return best;
  }
  double LogLoss(int64_t row, int64_t place, int64_t label) const {
    const double most = at(row, place, Best(row, place));
    double sum = 0;
    for (int64_t c = 0; c < classes(); ++c) sum += std::exp(at(row, place, c) - most);
    return std::log(sum) + most - at(row, place, label);
  }

 private:
  explicit ClassScores(const Tensor& scores) : scores_(scores) {}
  const Tensor& scores_;
};

// The sums behind Metrics.
class Tally {
 public:
  Status Add(LossKind loss, const Tensor& scores, const Tensor& labels) {
    if (loss == LossKind::kCrossEntropy) return AddClasses(scores, labels);
    if (scores.size() != labels.size())
      return InvalidArgument("test labels of shape {} do not fit predictions of shape {}",
                             labels.dims().ToString(), scores.dims().ToString());
    const Tensor targets = Converted(labels.view(), DType::f32);
    loss == LossKind::kBinaryCrossEntropy ? AddLogits(scores, targets) : AddErrors(scores, targets);
    return {};
  }

  Metrics Means() const {
    if (count_ == 0) return {};
    const auto count = static_cast<double>(count_);
    return {loss_ / count, classes_ ? static_cast<double>(right_) / count : -1,
            ranked_ ? Auc(scores_, positive_) : -1};
  }

 private:
  Status AddClasses(const Tensor& scores, const Tensor& labels) {
    MINIM_TRY(const ClassScores rows, ClassScores::Of(scores, labels.dims()[0]));
    const int64_t places = rows.places();
    if (labels.dtype() != DType::i64 || labels.size() != labels.dims()[0] * places)
      return InvalidArgument("test labels {}{} do not fit class scores of shape {}",
                             Name(labels.dtype()), labels.dims().ToString(),
                             scores.dims().ToString());
    ranked_ = rows.classes() == 2 && places == 1;
    for (int64_t i = 0; i < labels.size(); ++i) {
      const int64_t label = labels.as<int64_t>()[i], row = i / places, place = i % places;
      if (label < 0 || label >= rows.classes())
        return InvalidArgument("test label {} is none of the model's {} classes", label,
                               rows.classes());
      loss_ += rows.LogLoss(row, place, label);
      right_ += rows.Best(row, place) == label;
      if (ranked_) Rank(rows.at(row, 0, 1) - rows.at(row, 0, 0), label == 1);
    }
    count_ += labels.size();
    return {};
  }

  void AddLogits(const Tensor& scores, const Tensor& targets) {
    ranked_ = scores.size() == scores.dims()[0];
    for (int64_t i = 0; i < scores.size(); ++i) {
      const float x = scores.as<float>()[i], y = targets.as<float>()[i];
      loss_ += std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(double{x}))) - double{x} * y;
      right_ += (x > 0) == (y > 0.5f);
      classes_ = classes_ && (y == 0 || y == 1);
      if (ranked_) Rank(x, y > 0.5f);
    }
    count_ += scores.size();
    ranked_ = ranked_ && classes_;
  }

  void AddErrors(const Tensor& scores, const Tensor& targets) {
    classes_ = false;
    for (int64_t i = 0; i < scores.size(); ++i) {
      const double error = double{scores.as<float>()[i]} - targets.as<float>()[i];
      loss_ += error * error;
    }
    count_ += scores.size();
  }

  void Rank(float score, bool positive) {
    scores_.push_back(score);
    positive_.push_back(positive);
  }

  double loss_ = 0;
  int64_t count_ = 0, right_ = 0;
  bool classes_ = true;  // every label is a class
  bool ranked_ = false;  // one score a sample
  std::vector<float> scores_;
  std::vector<bool> positive_;
};

}  // namespace

Result<std::vector<Tensor>> SessionInputs(const Session& session, const Batch& batch) {
  const std::vector<TensorInfo>& wanted = session.inputs();
  if (wanted.size() != 1 + batch.others.size())
    return InvalidArgument("the model has {} inputs, the data gives {}", wanted.size(),
                           1 + batch.others.size());
  const auto as = [](const Tensor& tensor, DType dtype) {
    return tensor.dtype() == dtype ? tensor : Converted(tensor.view(), dtype);
  };
  std::vector<Tensor> inputs = {as(batch.samples, wanted[0].dtype)};
  for (size_t i = 1; i < wanted.size(); ++i)
    inputs.push_back(as(batch.others[i - 1], wanted[i].dtype));
  return inputs;
}

std::vector<ConstView> ViewsOf(const std::vector<Tensor>& tensors) {
  std::vector<ConstView> views;
  for (const Tensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

Result<Tensor> Predict(const Session& session, DataSource& data, size_t output) {
  Tensor all;
  int64_t done = 0;
  MINIM_TRY(ForEachBatch(
      session, data, output, [&](const Tensor& scores, const Tensor& labels) -> Status {
        Dims dims = scores.dims();
        const int64_t count = labels.dims()[0];
        if (dims.rank() == 0 || dims[0] != count)
          return InvalidArgument("the model's output '{}' has shape {}, expected [{},...]",
                                 session.outputs()[output].name, dims.ToString(), count);
        dims[0] = data.size();
        if (!all.defined()) all = Tensor(DType::f32, dims);
        if (all.dims() != dims)
          return InvalidArgument("the model's output '{}' changes its shape from {} to {}",
                                 session.outputs()[output].name, all.dims().ToString(),
                                 dims.ToString());
        const int64_t width = dims.Elements(1, dims.rank());
        std::copy_n(scores.as<float>().data(), count * width,
                    all.as<float>().data() + done * width);
        done += count;
        return {};
      }));
  return all;
}

double Auc(std::span<const float> scores, const std::vector<bool>& positive) {
  const std::vector<double> placements = RankPlacements(scores, positive);
  if (placements.empty()) return -1;
  double sum = 0, count = 0;
  for (size_t i = 0; i < placements.size(); ++i) {
    sum += positive[i] ? placements[i] : 0;
    count += positive[i];
  }
  return sum / count;
}

Result<Metrics> Evaluate(const Session& session, DataSource& data, LossKind loss) {
  Tally tally;
  MINIM_TRY(ForEachBatch(session, data, 0, [&](const Tensor& scores, const Tensor& labels) {
    return tally.Add(loss, scores, labels);
  }));
  return tally.Means();
}

}  // namespace minim
