// OpDef: everything minim knows about an operator except its fast kernels. Values of this type are
// made by one function per op file and listed in src/ops/CMakeLists.txt.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace minim {

class InferContext;
class GradContext;
class ExpandContext;
class RefContext;
class HostContext;
struct UpgradeContext;

/// How autocast treats an op: computed in the lower precision, always in FP32, in the widest of
/// its inputs, or on integers only. kLowerWeights is kLower, except that where the weights (inputs
/// 1 and 2) are constant only they are lowered: their bytes bind a recurrent step, and its state
/// stays FP32.
enum class PrecisionClass { kLower, kLowerWeights, kFp32, kWidest, kInteger };

/// What the planner and the fuser may assume about an op.
enum class OpTrait : unsigned {
  kNone = 0,
  kElementwise = 1,  // each output element depends on the broadcast input elements at its place
  kAlias = 2,        // output 0 is input 0's bytes under another shape
  kRandom = 4,       // never folded or merged
  kStrings = 8,      // only moves, compares or orders elements, so strings are taken too
};
constexpr OpTrait operator|(OpTrait a, OpTrait b) {
  return static_cast<OpTrait>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool Has(OpTrait set, OpTrait trait) {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(trait)) != 0;
}

using DTypeList = std::vector<DType>;
extern const DTypeList kFloatTypes;    // f64 f32 f16 bf16
extern const DTypeList kNumericTypes;  // floats and integers
extern const DTypeList kSignedTypes;   // floats and signed integers
extern const DTypeList kSmallTypes;    // those that are stored only
extern const DTypeList kAllTypes;      // all but the small ones
/// Both lists as one.
DTypeList Joined(DTypeList a, const DTypeList& b);

struct OpDef {
  std::string name;
  std::string domain = {};
  /// Opset versions at which the op changed. Import lifts older forms to the last one, which
  /// stays open. Empty for ops that no ONNX file names.
  std::vector<int> onnx_since = {};
  int min_inputs = 1;
  int max_inputs = 1;  // -1: any number
  /// Accepted dtypes of input 0; empty: any.
  DTypeList dtypes = {};
  std::function<Status(InferContext&)> infer = {};
  std::function<Status(GradContext&)> gradient = {};
  /// The gradient is chosen for training; it is not that of the function.
  bool surrogate_gradient = false;
  /// Outputs past this many are statistics that no gradient flows through; -1: all carry one.
  int differentiable_outputs = -1;
  /// At most one of `reference` and `expand` is set.
  std::function<Status(RefContext&)> reference = {};
  std::function<Status(ExpandContext&)> expand = {};
  /// Evaluates what tensors of fixed-size dtypes cannot express (strings, sequences, optionals,
  /// maps, sub-graphs): always where the op has neither `reference` nor `expand`, else when an
  /// input or output is such a value.
  std::function<Status(HostContext&)> host = {};
  /// Rewrites a node of an older opset version; not called for the newest.
  std::function<Status(UpgradeContext&)> upgrade = {};
  PrecisionClass precision = PrecisionClass::kWidest;
  OpTrait traits = OpTrait::kNone;
  /// Floating-point operations of one call; null: one per output element.
  std::function<int64_t(const std::vector<TensorType>& inputs,
                        const std::vector<TensorType>& outputs, const Attributes&)>
      flops = {};
  /// One call a line, in the text form of samples.h. They drive the generated tests.
  std::string samples = {};
};

/// True if the node's `host` evaluates it.
bool RunsOnHost(const Graph& graph, const Node& node);

/// Null if unknown.
const OpDef* FindOp(std::string_view domain, std::string_view name);
inline const OpDef* FindOp(const Node& node) { return FindOp(node.domain, node.op); }
/// Every op, sorted by domain and name.
const std::vector<const OpDef*>& AllOps();

/// Lifts one node of an older opset. `before` and `after` are inserted around the node.
struct UpgradeContext {
  Graph& graph;
  Node node;
  int from_version = 0;  // the newest of onnx_since that the file's opset covers
  std::vector<Node> before = {};
  std::vector<Node> after = {};

  /// Makes attribute `name` (ints or int) the constant input `index`, if it is there.
  void AttributeToInput(std::string_view name, size_t index);
  /// Puts a constant at input `index`.
  void SetInput(size_t index, Tensor value);
};

}  // namespace minim
