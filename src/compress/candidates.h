// Candidates: the variants of a model as sessions, judged on the gate's samples and timed.
#pragma once

#include <memory>

#include "compress/shrink.h"
#include "compress/stream.h"
#include "data/dataset.h"
#include "graph/graph.h"
#include "minim/session.h"

namespace minim {

class Candidates {
 public:
  /// The first candidate is the model itself, "fp32", the reference of all. `gate` and `feedback`
  /// outlive them.
  /// Errors: kInvalidArgument for labels that the metric cannot read, an output that is not there,
  /// answers that are not finite.
  static Result<std::unique_ptr<Candidates>> Make(const Graph& model, const Dataset& gate,
                                                  const Feedback& feedback,
                                                  const ShrinkOptions& options);

  /// Judges what `graph` answers; a candidate of the same name is replaced. An error of
  /// kUnsupported makes a report that says so. The result is valid until the next call.
  Result<VariantReport*> Add(const std::string& name, const Result<Graph>& graph);
  /// At batch 1 and 32, or the batch size that the model fixes.
  Status Time();

  const Metric& metric() const { return metric_; }
  size_t output() const { return output_; }
  /// "fp32" first, the others as they came.
  std::vector<VariantReport> Reports() const;
  /// Writes the file of a variant; `model` itself is not written over.
  Status Write(const VariantReport& variant, const Path& version, const Path& model) const;

 private:
  struct Candidate {
    VariantReport report;
    std::string bytes;  // of the ONNX file
    std::shared_ptr<Session> session;
  };

  Candidates(const Dataset& gate, const Feedback& feedback, const ShrinkOptions& options)
      : gate_(gate), feedback_(feedback), options_(options), metric_(*Metric::Parse("accuracy")) {}
  Status AddReference(const Graph& model);
  Result<Candidate> Load(const std::string& name, const std::string& file,
                         const Graph& graph) const;
  Status ChooseMetric();
  Result<Measured> Measure(const Tensor& scores) const;
  Result<Tensor> Answer(const Candidate& candidate) const;
  Status JudgeOne(Candidate& candidate, const Tensor& scores) const;
  Candidate& Slot(const std::string& name);

  const Dataset& gate_;
  const Feedback& feedback_;
  const ShrinkOptions& options_;
  Metric metric_;
  size_t output_ = 0;
  Tensor labels_;     // as the metric reads them
  Tensor reference_;  // answers of fp32
  Measured measured_;
  std::vector<std::unique_ptr<Candidate>> all_;
};

}  // namespace minim
