// Scaled dot-product attention, written out in simpler ops: what every form of attention expands
// to.
#pragma once

#include "ops/builder.h"

namespace minim::ops {

/// One attention over heads: q[B,Hq,S,D], k[B,Hkv,T,D], v[B,Hkv,T,Dv] of known shapes, Hq a
/// multiple of Hkv. Each kv head serves Hq / Hkv query heads in a row.
struct AttentionForm {
  ValueId q = kNoValue, k = kNoValue, v = kNoValue;
  /// Added to the scores, broadcast to [B,Hq,S,T]; bool: false forbids. Its last axis may be
  /// shorter than T: the rest is forbidden.
  ValueId mask = kNoValue;
  /// False if the mask leaves some key to every row.
  bool mask_forbids_rows = true;
  /// i64[B]: keys from this place on are padding, and query i stands at key (length - S + i).
  ValueId lengths = kNoValue;
  /// Keys before the query block; query i stands at key `offset` + i. Not with lengths.
  int64_t offset = 0;
  /// How far a query sees behind and ahead of its place; -1: without bound. 0 ahead is causal.
  int64_t behind = -1, ahead = -1;
  double scale = 1;
  double softcap = 0;
  DType softmax_dtype = DType::f32;
  /// Rewrite the scores before the bias, and the weights after the softmax.
  std::function<ValueId(ValueId)> score_mod = {}, weight_mod = {};
  /// Logits [1,Hq,1,1] of one more key for every row, which takes weight and has no value.
  ValueId sink = kNoValue;
};

struct AttentionParts {
  ValueId y;                                // [B,Hq,S,Dv]
  ValueId scores, capped, biased, weights;  // [B,Hq,S,T], one after another
};

AttentionParts EmitAttention(Builder& b, const AttentionForm& form);

/// a[B,Hq,M,N] times c[B,Hkv,N,P], where each head of c serves Hq / Hkv heads of a in a row.
ValueId GroupedProduct(Builder& b, ValueId a, ValueId c);

/// The dtype of attribute softmax_precision; without it two-byte floats are summed in f32.
DType SoftmaxDType(const Attributes& attributes, DType dtype);

/// An error unless every input's shape is known, as expansions that read them need, and fits.
Status NeedShapes(ExpandContext& e);

/// [B,S,H*D] as [B,H,S,D], and back.
ValueId SplitHeads(Builder& b, ValueId x, int64_t heads);
ValueId MergeHeads(Builder& b, ValueId x);

/// x[..,D] turned in the plane of its first `count` elements: halves (or, interleaved, neighbours)
/// are the coordinates. cos and sin broadcast to [..,count/2].
ValueId EmitRotation(Builder& b, ValueId x, ValueId cos, ValueId sin, int64_t count,
                     bool interleaved);

}  // namespace minim::ops
