#include "compress/distill.h"

#include <cstring>

#include "core/dtype.h"
#include "session/session_impl.h"
#include "train/metrics.h"

namespace minim {
namespace {

// The elements of one row.
int64_t Width(const Tensor& tensor) { return tensor.dims().Elements(1, tensor.dims().rank()); }

// Batches whose labels are f32[count, own labels and teacher's outputs].
class TaughtSource final : public DataSource {
 public:
  TaughtSource(DataSource& data, Tensor outputs) : data_(data), outputs_(std::move(outputs)) {}

  int64_t size() const override { return data_.size(); }
  Result<Batch> Gather(std::span<const int64_t> indices) override {
    MINIM_TRY(Batch batch, data_.Gather(indices));
    const Tensor own = Converted(batch.labels.view(), DType::f32);
    const int64_t count = static_cast<int64_t>(indices.size()), taught = outputs_.dims()[1];
    const int64_t given = Width(own);
    Tensor labels(DType::f32, {count, given + taught});
    float* to = labels.as<float>().data();
    for (int64_t i = 0; i < count; ++i) {
      to = std::copy_n(own.as<float>().data() + i * given, given, to);
      to = std::copy_n(Outputs() + indices[static_cast<size_t>(i)] * taught, taught, to);
    }
    batch.labels = std::move(labels);
    return batch;
  }

 private:
  const float* Outputs() const { return static_cast<const float*>(outputs_.data()); }

  DataSource& data_;
  const Tensor outputs_;  // [size, outputs]
};

// The output of every sample, f32[size, elements].
Result<Tensor> RunTeacher(const Graph& teacher, DataSource& data, int threads) {
  MINIM_TRY(const std::shared_ptr<Session> session, MakeSession(teacher, {.threads = threads}));
  MINIM_TRY(const Tensor outputs, Predict(*session, data));
  return outputs.Reshaped({data.size(), Width(outputs)});
}

Status CheckWidth(Builder& b, ValueId labels, int64_t own, int64_t outputs) {
  if (b.DimsOf(labels)[1] == own + outputs) return {};
  return InvalidArgument(
      "distillation: the student has {} outputs a sample, but labels and teacher's outputs are {} "
      "numbers",
      outputs, b.DimsOf(labels)[1]);
}

// alpha CE + (1 - alpha) T^2 KL(teacher || student)
Result<ValueId> ClassLoss(Builder& b, ValueId logits, ValueId labels, double temperature,
                          double alpha) {
  const Dims dims = b.DimsOf(logits);
  if (dims.rank() != 2)
    return InvalidArgument("distillation: the student's logits have shape {}, expected [N,classes]",
                           dims.ToString());
  const int64_t classes = dims[1];
  MINIM_TRY(CheckWidth(b, labels, 1, classes));
  const ValueId ids = b.Cast(b.Reshape(b.Slice(labels, {0}, {1}, {1}), {dims[0]}), DType::i64);
  const ValueId teacher = b.Slice(labels, {1}, {1 + classes}, {1});
  const ValueId hard = b.EmitMany("SoftmaxCrossEntropyLoss", {logits, ids}, 2,
                                  {{"reduction", std::string("mean")}})[0];
  const Attributes last = {{"axis", int64_t{1}}};
  const ValueId log_q = b.Emit("LogSoftmax", {b.Mul(logits, 1 / temperature)}, last);
  const ValueId log_p = b.Emit("LogSoftmax", {b.Mul(teacher, 1 / temperature)}, last);
  const ValueId each = b.Mul(b.Emit("Exp", {log_p}), b.Sub(log_p, log_q));
  const ValueId soft = b.Emit("ReduceSum", {each}, {{"keepdims", int64_t{0}}});
  const double scale = (1 - alpha) * temperature * temperature / static_cast<double>(dims[0]);
  const ValueId loss = b.Add(b.Mul(hard, alpha), b.Mul(soft, scale));
  MINIM_TRY(b.status());
  return loss;
}

ValueId Mean(Builder& b, ValueId each) {
  return b.Emit("ReduceMean", {each}, {{"keepdims", int64_t{0}}});
}

// -log of what a logit says of events of these probabilities: softplus(x) - x p
ValueId BinaryEntropy(Builder& b, ValueId logits, ValueId probabilities) {
  return b.Sub(b.Emit("Softplus", {logits}), b.Mul(logits, probabilities));
}

// alpha BCE + (1 - alpha) T^2 KL(teacher || student) of each logit
Result<ValueId> EventLoss(Builder& b, ValueId logits, ValueId labels, double temperature,
                          double alpha) {
  const Dims dims = b.DimsOf(logits);
  const int64_t width = dims.Elements(1, dims.rank());
  MINIM_TRY(CheckWidth(b, labels, width, width));
  const ValueId target = b.Reshape(b.Slice(labels, {0}, {width}, {1}), dims);
  const ValueId teacher = b.Reshape(b.Slice(labels, {width}, {2 * width}, {1}), dims);
  const ValueId hard = Mean(b, BinaryEntropy(b, logits, target));
  const ValueId soft_teacher = b.Mul(teacher, 1 / temperature);
  const ValueId p = b.Emit("Sigmoid", {soft_teacher});
  const ValueId each =
      b.Sub(BinaryEntropy(b, b.Mul(logits, 1 / temperature), p), BinaryEntropy(b, soft_teacher, p));
  const ValueId soft = b.Mul(Mean(b, each), (1 - alpha) * temperature * temperature);
  const ValueId loss = b.Add(b.Mul(hard, alpha), soft);
  MINIM_TRY(b.status());
  return loss;
}

ValueId MeanSquare(Builder& b, ValueId x, ValueId target) {
  const ValueId error = b.Sub(x, b.Reshape(target, b.DimsOf(x)));
  return Mean(b, b.Mul(error, error));
}

// alpha MSE(targets) + (1 - alpha) MSE(teacher)
Result<ValueId> ValueLoss(Builder& b, ValueId values, ValueId labels, double alpha) {
  const Dims dims = b.DimsOf(values);
  const int64_t width = dims.Elements(1, dims.rank());
  MINIM_TRY(CheckWidth(b, labels, width, width));
  const ValueId hard = MeanSquare(b, values, b.Slice(labels, {0}, {width}, {1}));
  const ValueId soft = MeanSquare(b, values, b.Slice(labels, {width}, {2 * width}, {1}));
  const ValueId loss = b.Add(b.Mul(hard, alpha), b.Mul(soft, 1 - alpha));
  MINIM_TRY(b.status());
  return loss;
}

Status CheckOptions(const Graph& teacher, const DistillOptions& options) {
  if (teacher.outputs.size() != 1)
    return InvalidArgument("distillation needs a teacher with one output, found {}",
                           teacher.outputs.size());
  if (!(options.temperature > 0) || !(options.alpha >= 0 && options.alpha <= 1))
    return InvalidArgument(
        "distillation: temperature is {} and alpha {}, expected above 0 and between 0 and 1",
        options.temperature, options.alpha);
  return {};
}

}  // namespace

Result<Teaching> Teach(const Graph& teacher, DataSource& train, const DistillOptions& options) {
  MINIM_TRY(CheckOptions(teacher, options));
  if (train.size() < 1) return InvalidArgument("distillation: there are no training samples");
  MINIM_TRY(Tensor outputs, RunTeacher(teacher, train, options.tune.threads));
  Teaching teaching{.source = std::make_shared<TaughtSource>(train, std::move(outputs))};
  const double temperature = options.temperature, alpha = options.alpha;
  teaching.loss = [temperature, alpha, kind = options.tune.loss](
                      Builder& b, ValueId predictions, ValueId labels) -> Result<ValueId> {
    switch (kind) {
      case LossKind::kMeanSquaredError: return ValueLoss(b, predictions, labels, alpha);
      case LossKind::kBinaryCrossEntropy:
        return EventLoss(b, predictions, labels, temperature, alpha);
      case LossKind::kCrossEntropy: break;
    }
    return ClassLoss(b, predictions, labels, temperature, alpha);
  };
  return teaching;
}

Result<FineTuned> Distill(const Graph& teacher, const Graph& student, DataSource& train,
                          const DistillOptions& options) {
  MINIM_TRY(const Teaching teaching, Teach(teacher, train, options));
  return FineTune(student, *teaching.source, options.tune, {.loss = teaching.loss});
}

}  // namespace minim
