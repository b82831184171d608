// Every pass: what it needs, keeps and leaves. Each returns true if the graph changed.
#pragma once

#include <map>

#include "minim/session.h"
#include "minim/train.h"
#include "passes/pass.h"

namespace minim {

/// Removes nodes and constants that no output or state needs.
Result<bool> EliminateDeadCode(Graph& graph, const PassContext& context);

/// Folds nodes whose inputs are all constant, and Shape/Size of statically shaped values.
/// Needs: inferred types. Keeps: outputs, dtypes. Leaves: no foldable node. Random ops stay.
Result<bool> FoldConstants(Graph& graph, const PassContext& context);

/// An If whose condition is constant becomes the branch it takes.
/// Needs: inferred types. Leaves: an Identity for each output.
Result<bool> InlineBranches(Graph& graph, const PassContext& context);

/// Replaces ops that have no kernel but an expansion by their expansion.
Result<bool> ExpandFunctions(Graph& graph, const PassContext& context);

/// Removes Identity, Dropout in inference whose mask nothing reads, Casts to the same dtype and
/// Sums of one value. A Sum of two becomes an Add, an AveragePool of whole images a
/// GlobalAveragePool.
Result<bool> Simplify(Graph& graph, const PassContext& context);

/// What only scales or shifts channels by constants (inference BatchNormalization, Mul, Add) moves
/// into the Conv or, a Mul or Add, into the BatchNormalization before it.
Result<bool> FoldBatchNorm(Graph& graph, const PassContext& context);

/// What is left of inference BatchNormalization with constants becomes a Mul and an Add of
/// constants per channel, which chains of element-wise nodes take in.
Result<bool> LowerBatchNorm(Graph& graph, const PassContext& context);

/// Q/DQ islands around matmul, gemm and convolution become QLinearConv, QLinearMatMul; DQ -> op ->
/// Q around shape-only ops moves to integers by itself because the ops take any dtype.
Result<bool> FuseQdq(Graph& graph, const PassContext& context);

/// The exported form of dynamic per-row INT8 (ReduceMax(Abs)/127, Div, Round, Cast, MatMulInteger,
/// Mul) becomes RowQuantizedMatMul.
Result<bool> FuseRowQuantized(Graph& graph, const PassContext& context);

/// MatMul of rank 3 or more by a constant matrix, with the Add of a bias and perhaps an activation
/// after it, is computed as rows of a matrix, between two Reshapes. Needs: inferred types. Leaves:
/// a MatMul of rank 2, which FuseEpilogue makes a Gemm.
Result<bool> FlattenProducts(Graph& graph, const PassContext& context);

/// Bias Add, Add of a value of the same shape, and activation after Conv, Gemm or MatMul move into
/// FusedConv and FusedGemm.
Result<bool> FuseEpilogue(Graph& graph, const PassContext& context);

/// For BF16 on tiles: a convolution of a few groups becomes one of all channels, whose filters are
/// zero for those of other groups, and a shuffle of its channels (two Reshapes around a Transpose)
/// an order of its filters. Needs: inferred types.
Result<bool> JoinGroups(Graph& graph, const PassContext& context);

/// A transposition of the last two axes before MatMul or Gemm becomes their transA or transB: the
/// kernels read either way. Leaves transpositions that nothing else reads dead.
Result<bool> FuseTranspose(Graph& graph, const PassContext& context);

/// An InstanceNormalization of groups of channels between two Reshapes, with the Mul and Add of
/// constants per channel, y * Sigmoid(y) and Casts around it, becomes one GroupNorm of its image.
/// Needs: static shapes. Leaves what it replaces dead.
Result<bool> FuseGroupNorm(Graph& graph, const PassContext& context);

/// MatMul, a scale, perhaps the Add of a mask, Softmax and MatMul become one FusedAttention, with
/// the Transposes of its operands and result; of BF16, whose scores stay FP32 then, where the
/// machine has its products. Needs: static shapes. Leaves what it replaces dead.
Result<bool> FuseAttention(Graph& graph, const PassContext& context);

/// Trees of element-wise nodes become one FusedElementwise each.
/// Needs: static shapes.
Result<bool> FuseElementwise(Graph& graph, const PassContext& context);

/// Convolutions by constant filters, and what only follows the layout between them (element-wise
/// nodes, also with constants of the channels, MaxPool, Concat of channels), take their images with
/// the channels last; Transposes at the edges of such a region. FP32 from AVX-512 on, bytes from
/// AVX512-VNNI on and BF16 from AVX512-BF16 on, whose kernels want them so. Needs: static shapes.
Result<bool> AssignLayouts(Graph& graph, const PassContext& context);

/// Q(DQ(y) + DQ(z)), perhaps with a Relu before Q, becomes part of the NhwcQLinearConv that alone
/// makes y: to the same bits. Needs: layouts, fused chains.
Result<bool> FuseShortcut(Graph& graph, const PassContext& context);

/// x * scale + shift by constants for each place of the last axis, perhaps with a Relu and a
/// QuantizeLinear after it, becomes one ConcatScale of x or, where x is a Concat along that axis,
/// of its parts or of the bytes that these are dequantized from: to the same bits, with AVX-512.
/// Needs: layouts, fused chains. Leaves what nothing else reads dead.
Result<bool> FuseConcatScale(Graph& graph, const PassContext& context);

/// Gradients of the scalar `loss` with respect to `wrt`, appended to the graph, in order; kNoValue
/// where the loss does not depend on a value. Needs: static shapes, semantic ops.
/// Errors: kUnsupported names an op without a gradient.
Result<std::vector<ValueId>> Autodiff(Graph& graph, ValueId loss, const std::vector<ValueId>& wrt);

struct AutocastOptions {
  DType precision = DType::bf16;
  /// Element-wise and moving ops whose inputs are all in the lower precision stay there, so that
  /// what training keeps takes half the bytes; else every result is FP32 between products.
  bool keep_low = false;
  /// Op types or node names that are computed in `precision`, or in FP32, whatever their class.
  std::vector<std::string> lower = {}, fp32 = {};
  /// Whether an op gains by the lower precision; null: each whose class is lower. Weights that are
  /// only stored in it are not asked about.
  std::function<bool(const Graph& graph, const Node& node)> gains = {};
};

/// Inserts Casts so that ops of class kLower compute in the lower precision and kFp32 ops in FP32.
Status Autocast(Graph& graph, const AutocastOptions& options);

/// Autocast for inference: where the context's precision is BF16 and the machine gains by its
/// arithmetic, products compute in it, what lies between them stays in it, and casts to it come
/// before what only moves elements. Elsewhere only recurrent weights are stored in it. Needs: fused
/// epilogues, whose sums then are rounded once.
Result<bool> LowerPrecision(Graph& graph, const PassContext& context);

/// The nodes that a loss depends on, among those of a training step. The graph outlives it and does
/// not change but by Rematerialize.
class ForwardPart {
 public:
  ForwardPart(const Graph& graph, ValueId loss);

  bool Runs(int node) const { return runs_[node]; }
  /// True if such a node makes the value.
  bool Makes(ValueId id) const;
  int ProducerOf(ValueId id) const { return producers_[id]; }
  /// The value whose bytes an alias shows; others are their own.
  ValueId Stored(ValueId id) const;
  /// Stored values that later nodes read, and Fixed().
  std::set<ValueId> Saved() const;
  /// Values that must stay: outputs, what states become, and draws that cannot be repeated.
  std::set<ValueId> Fixed() const;

 private:
  const Graph& graph_;
  std::vector<int> producers_;
  std::vector<bool> runs_;  // by node
};

/// Bytes of a value of `type` that waits as `storage`.
size_t StoredBytes(const TensorType& type, ActivationStorage storage);

struct RematerializeOptions {
  /// Of the values that the forward part makes, nodes after it find only these, which contain
  /// Fixed() whole; others are made again.
  std::map<ValueId, ActivationStorage> keep;
  /// An i64 scalar that varies the rounding of kInt8 and kInt4; kNoValue: the same every step.
  ValueId draw = kNoValue;
};

/// Gradient checkpointing and activation compression. What is not kept is made again just before
/// its first late reader by copies of the nodes that made it: the same nodes on the same values
/// give the same bits, so nothing may merge duplicates later (Chen et al., "Training Deep Nets with
/// Sublinear Memory Cost", 2016). What is not kept whole is encoded where it is made and decoded
/// before its first late reader: as BF16, or by groups (core/group_codes.h), and what depends on it
/// changes. Returns, for each node, its index before; of a copy, that of its original; of one that
/// encodes or decodes, -1.
std::vector<int> Rematerialize(Graph& graph, const ForwardPart& forward,
                               const RematerializeOptions& options);

/// A copy whose tensor inputs have these dims, with inferred types. Errors: kInvalidArgument names
/// the input that disagrees with its declared shape or with another use of the same symbol.
Result<Graph> Specialize(const Graph& graph, const std::vector<Dims>& input_dims);

}  // namespace minim
