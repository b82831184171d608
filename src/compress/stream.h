// Stream: a model whose state comes back to it: outputs that are inputs of its next sample.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"
#include "graph/graph.h"
#include "minim/session.h"

namespace minim {

/// Which outputs are which inputs of the next sample. Samples are the steps of one stream, in
/// order, or of several, one after the other.
struct Feedback {
  struct Link {
    size_t input, output;  // positions in the model
  };
  std::vector<Link> links;
  int64_t sequence_length = 0;  // the steps of each stream; 0: all are of one

  bool empty() const { return links.empty(); }
  bool IsState(size_t input) const;
  /// Whether states are zeros before this sample.
  bool StartsAt(int64_t sample) const;
};

/// `states` names the output of each input that is a state.
/// Errors: kInvalidArgument for names that the model does not have, values of another type or
/// dtype, and a state of which more than the batch size is unknown.
Result<Feedback> FeedbackOf(const Graph& model, const std::map<std::string, std::string>& states,
                            int64_t sequence_length);

/// The tensors of a batch as the session reads those inputs that are no states.
/// Errors: kInvalidArgument for another number of them.
Result<std::vector<Tensor>> DataTensors(const Session& session, const Feedback& feedback,
                                        const Batch& batch);

/// Runs a session step by step.
class Stream {
 public:
  /// States are zeros. Both arguments outlive it. Dims of states that the model leaves open are
  /// `batch`.
  Stream(const Session& session, const Feedback& feedback, int64_t batch);

  void Reset() { states_ = zeros_; }
  const std::vector<Tensor>& states() const { return states_; }
  /// `inputs`: those that are no states, in order, in the session's dtypes. Returns all outputs and
  /// keeps the states among them. Errors: those of the session.
  Result<std::vector<Tensor>> Step(const std::vector<Tensor>& inputs);

 private:
  const Session& session_;
  const Feedback& feedback_;
  std::vector<Tensor> zeros_, states_;  // in the order of links
};

/// Predict of the samples as steps, one at a time; without states Predict itself.
Result<Tensor> PredictSteps(const Session& session, DataSource& data, const Feedback& feedback,
                            size_t output);

/// The samples with the states before each, as inputs like the others: [count, dims of the
/// state...]. Calibration then sees what each step does.
Result<Dataset> WithStates(const Session& session, const Dataset& data, const Feedback& feedback);

}  // namespace minim
