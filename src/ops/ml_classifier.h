// What the classifiers and regressors of ai.onnx.ml share: labels and post transforms, as ONNX
// Runtime computes them where the specification is silent.
#pragma once

#include "ops/builder.h"
#include "ops/infer.h"

namespace minim {

/// The labels of a classifier, i64 or string, from `classlabels_ints`, `classlabels_int64s` or
/// `classlabels_strings`; undefined when none is given.
Tensor ClassLabels(const Attributes& attributes);

/// NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT of each row of `scores`.
ValueId PostTransform(Builder& b, ValueId scores, const std::string& kind);

/// How the one score of a classifier with two labels becomes two.
enum class SecondScore { kComplement, kNegative };
/// Two columns from one, post transform included; a PROBIT stays one column.
ValueId BothScores(Builder& b, ValueId score, SecondScore form, const std::string& kind);

/// labels[index], one per row. `index` is i64 [N].
ValueId PickLabels(Builder& b, const Tensor& labels, ValueId index);
/// 1 where `score`, [N,1], exceeds `threshold`, else 0, as i64 [N].
ValueId Exceeds(Builder& b, ValueId score, double threshold);
/// The first largest score of each row as i64 [N].
ValueId LargestOf(Builder& b, ValueId scores);

/// `x` as f32 [N, features]; one row if it has rank 1.
ValueId FeatureRows(Builder& b, ValueId x);
/// N of x [N, features]; 1 of x [features].
Dim RowCountOf(const InferContext& op);

}  // namespace minim
