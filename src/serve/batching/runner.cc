#include "serve/batching/runner.h"

#include <new>

#include "serve/batching/rows.h"

namespace minim::serve {
namespace {

constexpr size_t kMaxKnownDims = 4096;

std::vector<ConstView> ViewsOf(const std::vector<Tensor>& tensors) {
  std::vector<ConstView> views;
  views.reserve(tensors.size());
  for (const Tensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

// Two sets of dims that share one would at worst not be counted as cold.
class DimsDigest {
 public:
  void Add(const Dims& dims) {
    Mix(static_cast<uint64_t>(dims.rank()));
    for (const int64_t size : dims) Mix(static_cast<uint64_t>(size));
  }
  uint64_t value() const { return value_; }

 private:
  void Mix(uint64_t word) {
    value_ = (value_ ^ word) * 0x9E3779B97F4A7C15u;
    value_ ^= value_ >> 29;
  }
  uint64_t value_ = 0;
};

// Joins the inputs of several jobs, input by input.
std::vector<Tensor> JoinInputs(const std::vector<JobPtr>& batch) {
  std::vector<Tensor> joined;
  std::vector<const Tensor*> parts(batch.size());
  for (size_t i = 0; i < batch[0]->job.inputs.size(); ++i) {
    for (size_t j = 0; j < batch.size(); ++j) parts[j] = &batch[j]->job.inputs[i];
    joined.push_back(ConcatRows(parts));
  }
  return joined;
}

Status CheckRows(const Model& model, const std::vector<Tensor>& outputs, int64_t rows) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].dims().rank() == 0 || outputs[i].dims()[0] != rows)
      return Internal(
          "output '{}' has dims {} for a batch of {} rows: the model mixes rows, ask "
          "for \"use_batching\": false",
          model.outputs()[i].name, outputs[i].dims().ToString(), rows);
  }
  return {};
}

}  // namespace

BatchRunner::BatchRunner(std::shared_ptr<const Model> model,
                         std::function<void(const RunReport&)> on_run)
    : model_(std::move(model)), on_run_(std::move(on_run)), batchable_(IsBatchable(*model_)) {}

BatchRunner::Outcome BatchRunner::Run(Order order) {
  Context context{order.reason, order.max_rows, Clock::now()};
  std::vector<JobPtr>& batch = order.batch;
  bool together = batch.size() > 1;
  if (together) {
    BatchTimes times;
    for (const JobPtr& queued : batch) times.batch_rows += queued->rows;
    const std::vector<Tensor> inputs = JoinInputs(batch);
    times.input = Clock::now() - context.taken;
    auto outputs = RunModel(inputs, times.batch_rows, times, context);
    together = outputs.ok() && CheckRows(*model_, *outputs, times.batch_rows).ok();
    if (together) AnswerParts(batch, *outputs, times, context);
  }
  // Together they failed: one may be the cause, and the others must not suffer for it.
  if (!together)
    for (const JobPtr& queued : batch) RunOne(*queued, context);
  return {.time = Clock::now() - context.taken, .typical = context.runs == 1 && !context.odd};
}

void BatchRunner::RunOne(QueuedJob& queued, Context& context) {
  BatchTimes times{.queue = context.taken - queued.arrival, .batch_rows = queued.rows};
  const bool above_cap = queued.may_slice && queued.rows > context.max_rows;
  auto outputs = above_cap ? RunSliced(queued, times, context)
                           : RunModel(queued.job.inputs, queued.rows, times, context);
  queued.job.done({std::move(outputs), times});
}

void BatchRunner::AnswerParts(std::vector<JobPtr>& batch, const std::vector<Tensor>& outputs,
                              BatchTimes times, const Context& context) {
  int64_t first = 0;
  for (const JobPtr& queued : batch) {
    const TimePoint start = Clock::now();
    std::vector<Tensor> rows;
    rows.reserve(outputs.size());
    for (const Tensor& output : outputs)
      rows.push_back(SliceRows(output.view(), first, queued->rows));
    first += queued->rows;
    times.queue = context.taken - queued->arrival;
    times.output = Clock::now() - start;
    queued->job.done({std::move(rows), times});
  }
}

// A request above the cap runs in slices, so that the cap bounds memory whatever clients send.
Result<std::vector<Tensor>> BatchRunner::RunSliced(const QueuedJob& queued, BatchTimes& times,
                                                   Context& context) {
  const int64_t cap = context.max_rows;
  std::vector<std::vector<Tensor>> slices;
  for (int64_t first = 0; first < queued.rows; first += cap) {
    const int64_t rows = std::min(cap, queued.rows - first);
    std::vector<Tensor> inputs;
    for (const Tensor& input : queued.job.inputs)
      inputs.push_back(SliceRows(input.view(), first, rows));
    MINIM_TRY(std::vector<Tensor> outputs, RunModel(inputs, rows, times, context));
    MINIM_TRY(CheckRows(*model_, outputs, rows));
    slices.push_back(std::move(outputs));
  }
  std::vector<Tensor> joined;
  std::vector<const Tensor*> parts(slices.size());
  for (size_t i = 0; i < slices[0].size(); ++i) {
    for (size_t s = 0; s < slices.size(); ++s) parts[s] = &slices[s][i];
    joined.push_back(ConcatRows(parts));
  }
  times.batch_rows = cap;
  return joined;
}

bool BatchRunner::FirstWith(uint64_t dims) {
  std::lock_guard lock(mutex_);
  if (known_dims_.size() >= kMaxKnownDims) known_dims_.clear();
  return known_dims_.insert(dims).second;
}

Result<std::vector<Tensor>> BatchRunner::RunModel(const std::vector<Tensor>& inputs, int64_t rows,
                                                  BatchTimes& times, Context& context) {
  DimsDigest dims;
  for (const Tensor& input : inputs) dims.Add(input.dims());
  RunReport report{.rows = rows,
                   .max_rows = context.max_rows,
                   .reason = context.reason,
                   .cold = FirstWith(dims.value())};
  const TimePoint start = Clock::now();
  auto outputs = [&]() -> Result<std::vector<Tensor>> {
    try {
      return model_->Run(ViewsOf(inputs));
    } catch (const std::bad_alloc&) {
      return ResourceExhausted("not enough memory for a run with {} rows", rows);
    }
  }();
  report.time = Clock::now() - start;
  report.ok = outputs.ok();
  times.infer += report.time;
  ++context.runs;
  context.odd |= report.cold || !report.ok;
  if (outputs.ok() && outputs->size() != model_->outputs().size())
    outputs = Internal("the model gave {} outputs, it declares {}", outputs->size(),
                       model_->outputs().size());
  if (on_run_) on_run_(report);
  return outputs;
}

Status BatchRunner::Warm(int64_t rows) {
  const auto all = DimsForRows(*model_, rows);
  if (!all) return {};
  DimsDigest digest;
  for (const Dims& dims : *all) digest.Add(dims);
  if (!FirstWith(digest.value())) return {};
  return Annotate(model_->Warm(*all), fmt::format("preparing a batch of {}", rows));
}

}  // namespace minim::serve
