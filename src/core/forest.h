// A tree ensemble in the form that is evaluated: branches and leaves by index.
#pragma once

#include "core/attributes.h"

namespace minim {

enum class TreeMode : uint8_t { kLeq, kLt, kGte, kGt, kEq, kNeq, kMember };
enum class TreeAggregate : uint8_t { kAverage, kSum, kMin, kMax };

struct Forest {
  struct Branch {
    TreeMode mode = TreeMode::kLeq;
    bool missing_tracks_true = false;
    int feature = 0;
    double value = 0;
    int members_begin = 0, members_end = 0;  // of kMember
    // >= 0: a branch; else ~leaf.
    int on_true = 0, on_false = 0;
  };
  struct Leaf {
    int begin = 0, end = 0;  // its weights
  };
  struct Weight {
    int target = 0;
    double value = 0;
  };

  std::vector<Branch> branches;
  std::vector<Leaf> leaves;
  std::vector<Weight> weights;
  std::vector<double> members;
  std::vector<int> roots;  // as on_true
  int targets = 1;
  int features = 0;  // one more than the largest read
  TreeAggregate aggregate = TreeAggregate::kSum;
};

/// From the attributes of TreeEnsembleRegressor (attribute `form` = "target"), -Classifier
/// ("class") or TreeEnsemble ("splits") of ai.onnx.ml.
/// Errors: kInvalidArgument names what is missing, out of range or cyclic.
Result<Forest> ForestOf(const Attributes& attributes);

/// A list of floats: the tensor attribute `name`_as_tensor if given, else `name`.
Tensor FloatsOf(const Attributes& attributes, const std::string& name);

/// Aggregated weights of one row of features, one per target, base values not included.
void EvaluateForest(const Forest& forest, std::span<const double> row, std::span<double> scores);

}  // namespace minim
