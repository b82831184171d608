// If, Loop, Scan: ops that run sub-graphs.
#include <algorithm>

#include "core/dtype.h"
#include "ops/movement.h"
#include "ops/stack.h"
#include "ops/subgraph.h"

namespace minim::ops {
namespace {

std::vector<TensorType> InputTypes(const InferContext& op, int first) {
  std::vector<TensorType> types;
  for (int i = first; i < op.input_count(); ++i)
    types.push_back(op.has_input(i) ? op.input(i) : TensorType{});
  return types;
}

TensorType WithoutShape(TensorType type) {
  if (type.is_tensor()) type.shape = std::nullopt;
  return type;
}

TensorType WithAxis(TensorType type, int axis, Dim size) {
  if (!type.ranked() || axis > type.rank() || axis < -type.rank() - 1) return WithoutShape(type);
  type.shape->insert(type.shape->begin() + (axis < 0 ? axis + type.rank() + 1 : axis), size);
  return type;
}

// If(cond, captured...)

// Which branch a constant condition takes; empty if both are open.
std::string TakenBranch(const InferContext& op) {
  const Tensor* condition = op.PeekConstant(0);
  if (condition == nullptr || condition->dtype() != DType::bool_ || condition->size() != 1)
    return "";
  return condition->as<bool>()[0] ? "then_branch" : "else_branch";
}

// With shapes known, the branch that will not be taken need not make sense; the other then decides.
Status InferIf(InferContext& op) {
  const std::string taken = TakenBranch(op);
  auto then_branch = InferSubgraph(op, "then_branch", InputTypes(op, 1));
  auto else_branch = InferSubgraph(op, "else_branch", InputTypes(op, 1));
  if (!then_branch.ok() && !else_branch.ok()) return then_branch.status();
  if (!then_branch.ok() && taken == "then_branch") return then_branch.status();
  if (!else_branch.ok() && taken == "else_branch") return else_branch.status();
  const bool then_only = taken == "then_branch" || !else_branch.ok();
  const bool else_only = taken == "else_branch" || !then_branch.ok();
  const auto& then_types = else_only ? *else_branch : *then_branch;
  const auto& else_types = then_only ? *then_branch : *else_branch;
  if (then_types.size() != else_types.size() ||
      then_types.size() < static_cast<size_t>(op.output_count()))
    return op.Error("the branches give {} and {} outputs, the node has {}", then_types.size(),
                    else_types.size(), op.output_count());
  for (int i = 0; i < op.output_count(); ++i) {
    if (then_types[i].is_tensor() && then_types[i].dtype != else_types[i].dtype)
      return op.Error("output {} is {} in one branch and {} in the other", i,
                      then_types[i].ToString(), else_types[i].ToString());
    const bool guessed = taken.empty() && (!then_branch.ok() || !else_branch.ok());
    const TensorType merged = Merged(then_types[i], else_types[i]);
    MINIM_TRY(op.SetOutput(i, guessed ? WithoutShape(merged) : merged));
  }
  return {};
}

Status HostIf(HostContext& op) {
  MINIM_TRY(const int64_t condition, op.IntInput(0));
  MINIM_TRY(std::vector<HostValue> values,
            op.RunSubgraph(condition ? "then_branch" : "else_branch", op.InputsFrom(1)));
  if (static_cast<int>(values.size()) < op.output_count())
    return op.Error("the branch gives {} outputs, the node has {}", values.size(),
                    op.output_count());
  for (int i = 0; i < op.output_count(); ++i) op.SetOutput(i, std::move(values[i]));
  return {};
}

// Loop(trip count, condition, carried..., captured...) -> carried..., scanned...

int LoopCarried(int input_count, const Attributes& attributes) {
  return std::max(0, input_count - 2 - CaptureCount(attributes));
}

std::vector<TensorType> LoopBodyTypes(const InferContext& op, bool shapes) {
  const int carried = LoopCarried(op.input_count(), op.attributes());
  std::vector<TensorType> types = {{DType::i64, Shape()}, {DType::bool_, Shape()}};
  for (int i = 2; i < op.input_count(); ++i) {
    const TensorType type = op.has_input(i) ? op.input(i) : TensorType{};
    types.push_back(i < 2 + carried && !shapes ? WithoutShape(type) : type);
  }
  return types;
}

Status InferLoop(InferContext& op) {
  const int carried = LoopCarried(op.input_count(), op.attributes());
  // A carried value may change its shape from turn to turn.
  MINIM_TRY(const auto types, InferSubgraph(op, "body", LoopBodyTypes(op, false)));
  if (static_cast<int>(types.size()) < 1 + carried ||
      static_cast<int>(types.size()) - 1 < op.output_count())
    return op.Error("the body gives {} outputs, expected a condition, {} carried and {} scanned",
                    types.size(), carried, op.output_count() - carried);
  for (int i = 0; i < op.output_count(); ++i) {
    const TensorType& type = types[1 + i];
    MINIM_TRY(op.SetOutput(i, i < carried ? WithoutShape(type) : WithAxis(type, 0, Dim())));
  }
  return {};
}

Status HostLoop(HostContext& op) {
  const int carried = LoopCarried(op.input_count(), op.attributes());
  const int64_t unbounded = std::numeric_limits<int64_t>::max();
  int64_t trips = unbounded, condition = 1;
  if (op.has_input(0)) {
    MINIM_TRY(trips, op.IntInput(0));
  }
  if (op.has_input(1)) {
    MINIM_TRY(condition, op.IntInput(1));
  }
  std::vector<HostValue> values = op.InputsFrom(2);
  std::vector<Stack> scanned(static_cast<size_t>(std::max(0, op.output_count() - carried)));
  for (int64_t turn = 0; turn < trips && condition; ++turn) {
    std::vector<HostValue> inputs = {Tensor::Scalar<int64_t>(turn),
                                     Tensor::Scalar<bool>(condition != 0)};
    inputs.insert(inputs.end(), values.begin(), values.end());
    MINIM_TRY(std::vector<HostValue> results, op.RunSubgraph("body", std::move(inputs)));
    MINIM_TRY(condition, ScalarOf(op, results[0]));
    for (int i = 0; i < carried; ++i) values[i] = std::move(results[1 + i]);
    for (size_t s = 0; s < scanned.size(); ++s)
      MINIM_TRY(scanned[s].Push(op, results[1 + carried + s]));
  }
  for (int i = 0; i < std::min(carried, op.output_count()); ++i)
    op.SetOutput(i, std::move(values[i]));
  for (size_t s = 0; s < scanned.size(); ++s) {
    const int output = carried + static_cast<int>(s);
    MINIM_TRY(Tensor stacked, scanned[s].Join(op, op.output_type(output), 0, false));
    op.SetOutput(output, std::move(stacked));
  }
  return {};
}

// Scan(state..., scanned inputs..., captured...) -> state..., scanned outputs...
// Attribute `batched` marks the form of opset 8: a first input with lengths, and a batch axis.

struct ScanForm {
  int first = 0;  // 1 where the lengths come first
  int scans = 0;  // scanned inputs
  int states = 0;
  int captures = 0;

  ScanForm(const Attributes& attributes, int input_count)
      : first(attributes.Int("batched", 0) ? 1 : 0),
        scans(static_cast<int>(attributes.Int("num_scan_inputs", 0))),
        states(input_count - first - scans - CaptureCount(attributes)),
        captures(CaptureCount(attributes)) {}
};

int64_t At(const std::vector<int64_t>& values, size_t i) {
  return i < values.size() ? values[i] : 0;
}

TensorType WithoutAxis(TensorType type, int axis) {
  if (!type.ranked() || type.rank() == 0) return WithoutShape(type);
  const int at = axis < 0 ? axis + type.rank() : axis;
  if (at < 0 || at >= type.rank()) return WithoutShape(type);
  type.shape->erase(type.shape->begin() + at);
  return type;
}

std::vector<TensorType> ScanBodyTypes(const InferContext& op, const ScanForm& form) {
  const std::vector<int64_t> axes = op.attributes().Ints("scan_input_axes");
  std::vector<TensorType> types;
  for (int i = 0; i < form.states; ++i)
    types.push_back(form.first ? WithoutAxis(op.input(form.first + i), 0)
                               : op.input(form.first + i));
  for (int i = 0; i < form.scans; ++i) {
    const TensorType type = op.input(form.first + form.states + i);
    types.push_back(form.first ? WithoutAxis(WithoutAxis(type, 0), 0)
                               : WithoutAxis(type, static_cast<int>(At(axes, i))));
  }
  for (int i = 0; i < form.captures; ++i)
    types.push_back(op.input(form.first + form.states + form.scans + i));
  return types;
}

Status InferScan(InferContext& op) {
  const ScanForm form(op.attributes(), op.input_count());
  if (form.scans < 1 || form.states < 0)
    return op.Error("has {} scanned inputs and {} states", form.scans, form.states);
  for (int i = form.first; i < op.input_count(); ++i)
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
  MINIM_TRY(const auto types, InferSubgraph(op, "body", ScanBodyTypes(op, form)));
  if (static_cast<int>(types.size()) < std::max(form.states, op.output_count()))
    return op.Error("the body gives {} outputs, the node has {} and {} states", types.size(),
                    op.output_count(), form.states);
  const std::vector<int64_t> axes = op.attributes().Ints("scan_output_axes");
  for (int i = 0; i < op.output_count(); ++i) {
    const auto axis = static_cast<int>(At(axes, static_cast<size_t>(std::max(0, i - form.states))));
    const TensorType type = i < form.states ? types[i] : WithAxis(types[i], axis, Dim());
    MINIM_TRY(op.SetOutput(i, form.first ? WithAxis(type, 0, Dim()) : type));
  }
  return {};
}

// One sequence through the body: `states` in and out, `scans` sliced along `axes`.
Result<std::vector<HostValue>> ScanOnce(HostContext& op, const ScanForm& form,
                                        std::vector<HostValue> states,
                                        const std::vector<Tensor>& scans, int64_t length) {
  const Attributes& a = op.attributes();
  const auto axes = a.Ints("scan_input_axes"), backward = a.Ints("scan_input_directions");
  const auto out_axes = a.Ints("scan_output_axes"), reversed = a.Ints("scan_output_directions");
  const int scanned = op.output_count() - form.states;
  std::vector<Stack> stacks(static_cast<size_t>(std::max(0, scanned)));
  for (int64_t step = 0; step < length; ++step) {
    std::vector<HostValue> inputs = states;
    for (size_t s = 0; s < scans.size(); ++s) {
      const int64_t at = At(backward, s) ? length - 1 - step : step;
      MINIM_TRY(Tensor slice, SliceAt(op, scans[s], static_cast<int>(At(axes, s)), at));
      inputs.emplace_back(std::move(slice));
    }
    for (HostValue& value : op.InputsFrom(form.first + form.states + form.scans))
      inputs.push_back(std::move(value));
    MINIM_TRY(std::vector<HostValue> results, op.RunSubgraph("body", std::move(inputs)));
    for (int i = 0; i < form.states; ++i) states[i] = std::move(results[i]);
    for (size_t s = 0; s < stacks.size(); ++s)
      MINIM_TRY(stacks[s].Push(op, results[form.states + s]));
  }
  for (size_t s = 0; s < stacks.size(); ++s) {
    const int output = form.states + static_cast<int>(s);
    MINIM_TRY(Tensor joined, stacks[s].Join(op, op.output_type(output),
                                            static_cast<int>(At(out_axes, s)), At(reversed, s)));
    states.emplace_back(std::move(joined));
  }
  return states;
}

Result<int64_t> ScanLength(HostContext& op, const std::vector<Tensor>& scans) {
  const auto axes = op.attributes().Ints("scan_input_axes");
  int64_t length = -1;
  for (size_t s = 0; s < scans.size(); ++s) {
    const int rank = scans[s].dims().rank();
    const auto axis = static_cast<int>(At(axes, s) < 0 ? At(axes, s) + rank : At(axes, s));
    if (axis < 0 || axis >= rank) return op.Error("scanned input {} has no axis {}", s, axis);
    const int64_t size = scans[s].dims()[axis];
    if (length >= 0 && size != length)
      return op.Error("scanned inputs have lengths {} and {}", length, size);
    length = size;
  }
  return length;
}

Status HostBatchedScan(HostContext& op, const ScanForm& form) {
  std::vector<Tensor> inputs;
  for (int i = 0; i < form.states + form.scans; ++i) {
    MINIM_TRY(Tensor tensor, op.TensorInput(form.first + i));
    inputs.push_back(std::move(tensor));
  }
  const int64_t batch = inputs.empty() || inputs[0].dims().rank() == 0 ? 0 : inputs[0].dims()[0];
  std::vector<Stack> stacks(static_cast<size_t>(op.output_count()));
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<HostValue> states;
    std::vector<Tensor> scans;
    for (int i = 0; i < form.states + form.scans; ++i) {
      MINIM_TRY(Tensor slice, SliceAt(op, inputs[i], 0, b));
      if (i < form.states)
        states.emplace_back(std::move(slice));
      else
        scans.push_back(std::move(slice));
    }
    MINIM_TRY(const int64_t length, ScanLength(op, scans));
    MINIM_TRY(const auto results, ScanOnce(op, form, std::move(states), scans, length));
    for (size_t o = 0; o < stacks.size(); ++o) MINIM_TRY(stacks[o].Push(op, results[o]));
  }
  for (int o = 0; o < op.output_count(); ++o) {
    MINIM_TRY(Tensor joined, stacks[o].Join(op, op.output_type(o), 0, false));
    op.SetOutput(o, std::move(joined));
  }
  return {};
}

Status HostScan(HostContext& op) {
  const ScanForm form(op.attributes(), op.input_count());
  if (form.first) {
    if (op.has_input(0))
      return Unsupported("Scan '{}': sequence lengths are not supported", op.node().name);
    return HostBatchedScan(op, form);
  }
  std::vector<HostValue> states = op.InputsFrom(0);
  states.resize(static_cast<size_t>(form.states));
  std::vector<Tensor> scans;
  for (int i = 0; i < form.scans; ++i) {
    MINIM_TRY(Tensor tensor, op.TensorInput(form.states + i));
    scans.push_back(std::move(tensor));
  }
  MINIM_TRY(const int64_t length, ScanLength(op, scans));
  MINIM_TRY(std::vector<HostValue> results, ScanOnce(op, form, std::move(states), scans, length));
  for (int o = 0; o < op.output_count(); ++o) op.SetOutput(o, std::move(results[o]));
  return {};
}

Status UpgradeScan(UpgradeContext& c) {
  if (c.from_version == 8) c.node.attributes.Set("batched", int64_t{1});
  return {};
}

}  // namespace

std::vector<OpDef> ControlFlow() {
  return {{.name = "If",
           .onnx_since = {1, 11, 13, 16, 19, 21, 23, 24, 25},
           .max_inputs = -1,
           .infer = InferIf,
           .host = HostIf},
          {.name = "Loop",
           .onnx_since = {1, 11, 13, 16, 19, 21, 23, 24, 25},
           .min_inputs = 0,
           .max_inputs = -1,
           .infer = InferLoop,
           .host = HostLoop},
          {.name = "Scan",
           .onnx_since = {8, 9, 11, 16, 19, 21, 23, 24, 25},
           .min_inputs = 0,
           .max_inputs = -1,
           .infer = InferScan,
           .host = HostScan,
           .upgrade = UpgradeScan}};
}

}  // namespace minim::ops
