#include "compress/candidates.h"

#include <algorithm>
#include <cmath>

#include "compress/metric_command.h"
#include "compress/timing.h"
#include "core/dtype.h"
#include "onnx/onnx.h"
#include "train/metrics.h"

namespace minim {
namespace {

Status CheckFinite(const Tensor& scores) {
  const auto values = scores.as<float>();
  const int64_t width = std::max<int64_t>(1, scores.size() / scores.dims()[0]);
  for (int64_t i = 0; i < scores.size(); ++i)
    if (!std::isfinite(values[i]))
      return InvalidArgument("the answer to sample {} holds {}", i / width, values[i]);
  return {};
}

bool AreIntegers(const Tensor& tensor) {
  const auto values = tensor.as<float>();
  return std::all_of(values.begin(), values.end(), [](float v) { return v == std::floor(v); });
}

Result<size_t> FindOutput(const Session& session, const std::string& name) {
  const std::vector<TensorInfo>& outputs = session.outputs();
  std::string names;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const bool number = outputs[i].other_type.empty() && IsFloat(outputs[i].dtype);
    if (number && (name.empty() || outputs[i].name == name)) return i;
    names += (i ? ", " : "") + outputs[i].name;
  }
  return InvalidArgument("there is no output '{}' of floats; the model has {}",
                         name.empty() ? "*" : name, names);
}

std::vector<int64_t> Batches(const Session& session, const Feedback& feedback) {
  for (size_t i = 0; i < session.inputs().size(); ++i) {
    const std::vector<int64_t>& dims = session.inputs()[i].dims;
    if (!feedback.IsState(i) && !dims.empty() && dims[0] > 0) return {dims[0]};
  }
  return {1, 32};
}

}  // namespace

Result<std::unique_ptr<Candidates>> Candidates::Make(const Graph& model, const Dataset& gate,
                                                     const Feedback& feedback,
                                                     const ShrinkOptions& options) {
  auto candidates = std::unique_ptr<Candidates>(new Candidates(gate, feedback, options));
  MINIM_TRY(Annotate(candidates->AddReference(model), options.model));
  return candidates;
}

Status Candidates::AddReference(const Graph& model) {
  MINIM_TRY(Candidate fp32, Load("fp32", "model.onnx", model));
  MINIM_TRY(output_, FindOutput(*fp32.session, options_.output));
  MINIM_TRY(reference_, Answer(fp32));
  MINIM_TRY(CheckFinite(reference_));
  MINIM_TRY(ChooseMetric());
  MINIM_TRY(measured_, Measure(reference_));
  MINIM_TRY(JudgeOne(fp32, reference_));
  all_.push_back(std::make_unique<Candidate>(std::move(fp32)));
  return {};
}

Status Candidates::ChooseMetric() {
  labels_ = gate_.labels;
  metric_ = Metric::Default(reference_, labels_);
  if (!options_.metric.empty()) {
    MINIM_TRY(metric_, Metric::Parse(options_.metric));
  }
  if (!options_.metric_command.empty()) metric_ = Metric::OfCommand(!options_.lower_is_better);
  // Tools often write class ids as floats.
  if (metric_.of_classes() && labels_.defined() && labels_.dtype() == DType::f32 &&
      AreIntegers(labels_))
    labels_ = Converted(labels_.view(), DType::i64);
  if (labels_.defined() && labels_.dtype() == DType::i64 && metric_.of_classes() &&
      labels_.size() == labels_.dims()[0])
    labels_ = labels_.Reshaped({labels_.size()});
  return {};
}

// The session is made from the file's own bytes: what is judged is what is written.
Result<Candidates::Candidate> Candidates::Load(const std::string& name, const std::string& file,
                                               const Graph& graph) const {
  Candidate candidate;
  candidate.report.name = name;
  candidate.report.file = file;
  MINIM_TRY(candidate.bytes, SerializeOnnx(graph));
  candidate.report.bytes = static_cast<int64_t>(candidate.bytes.size());
  MINIM_TRY(candidate.session, Session::FromBytes(candidate.bytes));
  return candidate;
}

Result<Measured> Candidates::Measure(const Tensor& scores) const {
  if (options_.metric_command.empty()) return metric_.Measure({scores, reference_, labels_});
  return MeasureByCommand(options_.metric_command, scores, labels_);
}

Status Candidates::JudgeOne(Candidate& candidate, const Tensor& scores) const {
  MINIM_TRY(const Measured measured, Measure(scores));
  if (measured.each.size() != measured_.each.size())
    return InvalidArgument("metric command: printed another count of numbers for {} than for fp32",
                           candidate.report.name);
  VariantReport& report = candidate.report;
  report.gate = Judge(metric_, measured_, measured, options_.max_loss);
  if (metric_.of_classes()) report.likeness = CompareAnswers(scores, reference_);
  return {};
}

Result<Tensor> Candidates::Answer(const Candidate& candidate) const {
  ArraySource source(gate_);
  return PredictSteps(*candidate.session, source, feedback_, output_);
}

Candidates::Candidate& Candidates::Slot(const std::string& name) {
  for (const auto& candidate : all_)
    if (candidate->report.name == name) return *candidate;
  return *all_.emplace_back(std::make_unique<Candidate>());
}

Result<VariantReport*> Candidates::Add(const std::string& name, const Result<Graph>& graph) {
  // What cannot be made of this model is no variant; the others still are.
  if (!graph.ok() && graph.status().code() != StatusCode::kUnsupported)
    return Annotate(graph.status(), name);
  Candidate& slot = Slot(name);
  slot = {};
  slot.report.name = name;
  slot.report.reason = graph.status().message();
  if (!graph.ok()) return &slot.report;
  MINIM_TRY(slot, Load(name, "variants/" + name + ".onnx", *graph));
  MINIM_TRY(const Tensor scores, Answer(slot));
  if (const Status finite = CheckFinite(scores); !finite.ok()) {
    slot.report.gate.verdict = Verdict::kFail;
    slot.report.reason = finite.message();
    return &slot.report;
  }
  MINIM_TRY(JudgeOne(slot, scores));
  return &slot.report;
}

Status Candidates::Time() {
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<VariantReport*> reports;
  for (const auto& candidate : all_) {
    if (candidate->session == nullptr) continue;
    // One that was judged has planned for other batches.
    MINIM_TRY(std::shared_ptr<Session> session, Session::FromBytes(candidate->bytes));
    sessions.push_back(std::move(session));
    reports.push_back(&candidate->report);
  }
  for (int64_t batch : Batches(*sessions[0], feedback_)) {
    MINIM_TRY(const std::vector<Latency> times,
              TimeInTurns(sessions, gate_, batch, {.feedback = feedback_}));
    for (size_t i = 0; i < reports.size(); ++i) {
      reports[i]->latency[batch] = times[i];
      reports[i]->arena_bytes[batch] = sessions[i]->arena_bytes();
    }
  }
  return {};
}

std::vector<VariantReport> Candidates::Reports() const {
  std::vector<VariantReport> reports;
  for (const auto& candidate : all_) reports.push_back(candidate->report);
  return reports;
}

Status Candidates::Write(const VariantReport& variant, const Path& version,
                         const Path& model) const {
  const Path path = version / variant.file;
  std::error_code error;
  if (std::filesystem::equivalent(path, model, error)) return {};
  std::filesystem::create_directories(path.parent_path(), error);
  if (error)
    return InvalidArgument("{}: cannot be created ({}); choose a writable folder",
                           path.parent_path().string(), error.message());
  for (const auto& candidate : all_)
    if (candidate->report.name == variant.name) return WriteFileAtomic(path, candidate->bytes);
  return {};
}

}  // namespace minim
