#include "compress/stream.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/dtype.h"
#include "core/error.h"
#include "train/metrics.h"

namespace minim {
namespace {

std::string NamesOf(const Graph& graph, const std::vector<ValueId>& values) {
  std::string names;
  for (ValueId id : values) names += (names.empty() ? "" : ", ") + graph.value(id).name;
  return names;
}

Result<size_t> FindNamed(const Graph& graph, const std::vector<ValueId>& values,
                         const std::string& name, const char* what) {
  for (size_t i = 0; i < values.size(); ++i)
    if (graph.value(values[i]).name == name) return i;
  return InvalidArgument("state: '{}' is no {} of the model; it has {}", name, what,
                         NamesOf(graph, values));
}

// A state starts as zeros, so nothing but its batch size may be open.
Status CheckState(const Graph& graph, ValueId input, ValueId output) {
  const TensorType &in = graph.type(input), &out = graph.type(output);
  const std::string& name = graph.value(input).name;
  if (in.dtype != out.dtype)
    return InvalidArgument("state '{}' is {}, but the output '{}' that feeds it is {}", name,
                           Name(in.dtype), graph.value(output).name, Name(out.dtype));
  if (!in.ranked())
    return InvalidArgument("state '{}' declares no shape; export the model with one", name);
  if (in.rank() >= kMaxRank)
    return Unsupported("state '{}' has {} dims, expected less than {}", name, in.rank(), kMaxRank);
  std::set<std::string> open;
  for (const Dim& dim : *in.shape)
    if (!dim.known()) open.insert(dim.symbol());
  if (open.size() > 1)
    return InvalidArgument(
        "state '{}' has the shape {}; expected all but the batch size to be known", name,
        in.ToString());
  return {};
}

Dims StateDims(const TensorInfo& info, int64_t batch) {
  Dims dims;
  for (int64_t dim : info.dims) dims.push_back(dim < 0 ? batch : dim);
  return dims;
}

Result<std::vector<Tensor>> StepInputs(const Session& session, const Feedback& feedback,
                                       DataSource& data, int64_t index) {
  const int64_t indices[] = {index};
  MINIM_TRY(const Batch batch, data.Gather(indices));
  return DataTensors(session, feedback, batch);
}

// Copies `row` to place `i` of a tensor that becomes [count, dims of row...].
void PutRow(const Tensor& row, int64_t i, int64_t count, Tensor& all) {
  Dims dims = {count};
  for (int64_t dim : row.dims()) dims.push_back(dim);
  if (!all.defined()) all = Tensor(row.dtype(), dims);
  std::memcpy(static_cast<std::byte*>(all.data()) + static_cast<size_t>(i) * row.bytes(),
              row.data(), row.bytes());
}

}  // namespace

bool Feedback::IsState(size_t input) const {
  return std::any_of(links.begin(), links.end(), [&](const Link& l) { return l.input == input; });
}

bool Feedback::StartsAt(int64_t sample) const {
  return sample == 0 || (sequence_length > 0 && sample % sequence_length == 0);
}

Result<Feedback> FeedbackOf(const Graph& model, const std::map<std::string, std::string>& states,
                            int64_t sequence_length) {
  Feedback feedback{.sequence_length = sequence_length};
  for (const auto& [input, output] : states) {
    Feedback::Link link{};
    MINIM_TRY(link.input, FindNamed(model, model.inputs, input, "input"));
    MINIM_TRY(link.output, FindNamed(model, model.outputs, output, "output"));
    MINIM_TRY(CheckState(model, model.inputs[link.input], model.outputs[link.output]));
    feedback.links.push_back(link);
  }
  if (sequence_length < 0 || (sequence_length > 0 && feedback.empty()))
    return InvalidArgument("sequence length is {}; it is of models with states, and above 0",
                           sequence_length);
  return feedback;
}

Result<std::vector<Tensor>> DataTensors(const Session& session, const Feedback& feedback,
                                        const Batch& batch) {
  std::vector<Tensor> inputs = {batch.samples};
  inputs.insert(inputs.end(), batch.others.begin(), batch.others.end());
  size_t next = 0;
  for (size_t i = 0; i < session.inputs().size(); ++i) {
    if (feedback.IsState(i)) continue;
    const DType wanted = session.inputs()[i].dtype;
    if (next < inputs.size() && inputs[next].dtype() != wanted)
      inputs[next] = Converted(inputs[next].view(), wanted);
    ++next;
  }
  if (next == inputs.size()) return inputs;
  return InvalidArgument("the model needs data for {} inputs, found that for {}", next,
                         inputs.size());
}

Stream::Stream(const Session& session, const Feedback& feedback, int64_t batch)
    : session_(session), feedback_(feedback) {
  for (const Feedback::Link& link : feedback.links) {
    const TensorInfo& info = session.inputs()[link.input];
    zeros_.emplace_back(info.dtype, StateDims(info, batch));
  }
  Reset();
}

Result<std::vector<Tensor>> Stream::Step(const std::vector<Tensor>& inputs) {
  if (states_.empty()) return session_.Run(ViewsOf(inputs));
  std::vector<ConstView> views(session_.inputs().size());
  for (size_t k = 0; k < states_.size(); ++k) views[feedback_.links[k].input] = states_[k].view();
  auto next = inputs.begin();
  for (size_t i = 0; i < views.size() && next != inputs.end(); ++i)
    if (!feedback_.IsState(i)) views[i] = (next++)->view();
  MINIM_TRY(std::vector<Tensor> outputs, session_.Run(views));
  for (size_t k = 0; k < states_.size(); ++k) states_[k] = outputs[feedback_.links[k].output];
  return outputs;
}

Result<Tensor> PredictSteps(const Session& session, DataSource& data, const Feedback& feedback,
                            size_t output) {
  if (feedback.empty()) return Predict(session, data, output);
  Stream stream(session, feedback, 1);
  Tensor all;
  for (int64_t i = 0; i < data.size(); ++i) {
    if (feedback.StartsAt(i)) stream.Reset();
    MINIM_TRY(const std::vector<Tensor> inputs, StepInputs(session, feedback, data, i));
    MINIM_TRY(const std::vector<Tensor> outputs, stream.Step(inputs));
    const Tensor row = Converted(outputs[output].view(), DType::f32);
    const Dims& dims = row.dims();
    if (dims.rank() == 0 || dims[0] != 1 || (i > 0 && row.size() * data.size() != all.size()))
      return InvalidArgument("the model's output '{}' has shape {} at step {}, expected [1,...]",
                             session.outputs()[output].name, dims.ToString(), i);
    PutRow(row.Reshaped(Dims(dims.span().subspan(1))), i, data.size(), all);
  }
  return all;
}

Result<Dataset> WithStates(const Session& session, const Dataset& data, const Feedback& feedback) {
  if (feedback.empty()) return data;
  Stream stream(session, feedback, 1);
  ArraySource source(data);
  std::vector<Tensor> states(feedback.links.size());
  for (int64_t i = 0; i < data.size(); ++i) {
    if (feedback.StartsAt(i)) stream.Reset();
    for (size_t k = 0; k < states.size(); ++k)
      PutRow(stream.states()[k], i, data.size(), states[k]);
    MINIM_TRY(const std::vector<Tensor> inputs, StepInputs(session, feedback, source, i));
    MINIM_TRY(stream.Step(inputs).status());
  }
  std::vector<Tensor> given = {data.samples}, all(session.inputs().size());
  given.insert(given.end(), data.others.begin(), data.others.end());
  for (size_t k = 0; k < states.size(); ++k) all[feedback.links[k].input] = states[k];
  auto next = given.begin();
  for (size_t i = 0; i < all.size(); ++i)
    if (!feedback.IsState(i)) all[i] = *next++;
  Dataset result{.samples = all[0], .labels = data.labels};
  result.batch_dtype = feedback.IsState(0) ? all[0].dtype() : data.batch_dtype;
  result.others.assign(all.begin() + 1, all.end());
  return result;
}

}  // namespace minim
