#include "core/forest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/dtype.h"

namespace minim {
namespace {

using NodeKey = std::pair<int64_t, int64_t>;  // tree, node

std::vector<double> Doubles(const Tensor& tensor) {
  const Tensor wide = Converted(tensor.view(), DType::f64);
  return {wide.as<double>().begin(), wide.as<double>().end()};
}

Result<TreeMode> ModeOf(const std::string& name) {
  constexpr std::pair<std::string_view, TreeMode> kModes[] = {
      {"BRANCH_LEQ", TreeMode::kLeq}, {"BRANCH_LT", TreeMode::kLt}, {"BRANCH_GTE", TreeMode::kGte},
      {"BRANCH_GT", TreeMode::kGt},   {"BRANCH_EQ", TreeMode::kEq}, {"BRANCH_NEQ", TreeMode::kNeq}};
  for (const auto& [known, mode] : kModes)
    if (known == name) return mode;
  return InvalidArgument("nodes_modes holds '{}'", name);
}

Result<TreeAggregate> AggregateOf(const std::string& name) {
  if (name == "AVERAGE") return TreeAggregate::kAverage;
  if (name == "SUM") return TreeAggregate::kSum;
  if (name == "MIN") return TreeAggregate::kMin;
  if (name == "MAX") return TreeAggregate::kMax;
  return InvalidArgument("aggregate_function is '{}'", name);
}

// Every branch must be reached at most once, so that evaluation ends.
Status CheckTrees(const Forest& forest) {
  std::vector<bool> seen(forest.branches.size(), false);
  std::vector<int> open;
  for (int root : forest.roots) open.push_back(root);
  while (!open.empty()) {
    const int at = open.back();
    open.pop_back();
    if (at < 0) continue;
    if (seen[at]) return InvalidArgument("tree node {} is reached twice", at);
    seen[at] = true;
    open.push_back(forest.branches[at].on_true);
    open.push_back(forest.branches[at].on_false);
  }
  return {};
}

Status CheckFeature(Forest& forest, int64_t feature) {
  if (feature < 0 || feature > std::numeric_limits<int>::max() - 1)
    return InvalidArgument("nodes_featureids holds {}", feature);
  forest.features = std::max(forest.features, static_cast<int>(feature) + 1);
  return {};
}

// Reads the form in which nodes are named by (tree, node).
class NodeReader {
 public:
  NodeReader(const Attributes& attributes, const std::string& group)
      : a_(attributes), group_(group), modes_(a_.Strings("nodes_modes")) {}

  Result<Forest> Run() {
    MINIM_TRY(ReadKeys());
    MINIM_TRY(ReadWeights());
    MINIM_TRY(ReadBranches());
    MINIM_TRY(forest_.aggregate, AggregateOf(a_.String("aggregate_function", "SUM")));
    MINIM_TRY(CheckTrees(forest_));
    return std::move(forest_);
  }

 private:
  Result<std::vector<int64_t>> Ints(const std::string& name) const {
    std::vector<int64_t> values = a_.Ints(name);
    if (values.size() == modes_.size()) return values;
    return InvalidArgument("{} has {} entries, nodes_modes {}", name, values.size(), modes_.size());
  }

  // Numbers the branches and leaves in the order of the file.
  Status ReadKeys() {
    MINIM_TRY(trees_, Ints("nodes_treeids"));
    MINIM_TRY(ids_, Ints("nodes_nodeids"));
    std::set<int64_t> seen;
    for (size_t i = 0; i < modes_.size(); ++i) {
      const bool leaf = modes_[i] == "LEAF";
      const int place = leaf ? ~static_cast<int>(forest_.leaves.size())
                             : static_cast<int>(forest_.branches.size());
      if (leaf)
        forest_.leaves.emplace_back();
      else
        forest_.branches.emplace_back();
      if (!places_.emplace(NodeKey(trees_[i], ids_[i]), place).second)
        return InvalidArgument("node {} of tree {} appears twice", ids_[i], trees_[i]);
      if (seen.insert(trees_[i]).second)
        forest_.roots.push_back(place);  // the first node of a tree is its root
    }
    return {};
  }

  Status ReadWeights() {
    const auto trees = a_.Ints(group_ + "_treeids"), nodes = a_.Ints(group_ + "_nodeids");
    const auto targets = a_.Ints(group_ + "_ids");
    const std::vector<double> values = Doubles(FloatsOf(a_, group_ + "_weights"));
    if (trees.size() != nodes.size() || trees.size() != targets.size() ||
        trees.size() != values.size())
      return InvalidArgument("{}_treeids, _nodeids, _ids and _weights differ in length", group_);
    std::map<int, std::vector<Forest::Weight>> by_leaf;
    for (size_t i = 0; i < trees.size(); ++i) {
      const auto place = places_.find({trees[i], nodes[i]});
      if (place == places_.end())
        return InvalidArgument("{}_nodeids names node {} of tree {}, which is not there", group_,
                               nodes[i], trees[i]);
      if (targets[i] < 0 || targets[i] > 1'000'000)
        return InvalidArgument("{}_ids holds {}", group_, targets[i]);
      forest_.targets = std::max(forest_.targets, static_cast<int>(targets[i]) + 1);
      if (place->second < 0)  // weights of branches count for nothing
        by_leaf[~place->second].push_back({static_cast<int>(targets[i]), values[i]});
    }
    for (const auto& [leaf, weights] : by_leaf) {
      forest_.leaves[leaf].begin = static_cast<int>(forest_.weights.size());
      forest_.weights.insert(forest_.weights.end(), weights.begin(), weights.end());
      forest_.leaves[leaf].end = static_cast<int>(forest_.weights.size());
    }
    return {};
  }

  Status ReadBranches() {
    MINIM_TRY(const std::vector<int64_t> features, Ints("nodes_featureids"));
    MINIM_TRY(const std::vector<int64_t> on_true, Ints("nodes_truenodeids"));
    MINIM_TRY(const std::vector<int64_t> on_false, Ints("nodes_falsenodeids"));
    const auto missing = a_.Ints("nodes_missing_value_tracks_true");
    const std::vector<double> values = Doubles(FloatsOf(a_, "nodes_values"));
    if (values.size() != modes_.size())
      return InvalidArgument("nodes_values has {} entries, nodes_modes {}", values.size(),
                             modes_.size());
    for (size_t i = 0; i < modes_.size(); ++i) {
      const int place = places_.at({trees_[i], ids_[i]});
      if (place < 0) continue;
      Forest::Branch& branch = forest_.branches[place];
      MINIM_TRY(branch.mode, ModeOf(modes_[i]));
      MINIM_TRY(CheckFeature(forest_, features[i]));
      branch.feature = static_cast<int>(features[i]);
      branch.value = values[i];
      branch.missing_tracks_true = i < missing.size() && missing[i] != 0;
      MINIM_TRY(branch.on_true, PlaceOf(trees_[i], on_true[i]));
      MINIM_TRY(branch.on_false, PlaceOf(trees_[i], on_false[i]));
    }
    return {};
  }

  Result<int> PlaceOf(int64_t tree, int64_t node) const {
    const auto it = places_.find({tree, node});
    if (it != places_.end()) return it->second;
    return InvalidArgument("tree {} has no node {}", tree, node);
  }

  const Attributes& a_;
  std::string group_;
  std::vector<std::string> modes_;
  std::vector<int64_t> trees_, ids_;
  std::map<NodeKey, int> places_;
  Forest forest_;
};

bool Holds(const Forest& forest, const Forest::Branch& branch, double x) {
  if (std::isnan(x)) return branch.missing_tracks_true;
  switch (branch.mode) {
    case TreeMode::kLeq: return x <= branch.value;
    case TreeMode::kLt: return x < branch.value;
    case TreeMode::kGte: return x >= branch.value;
    case TreeMode::kGt: return x > branch.value;
    case TreeMode::kEq: return x == branch.value;
    case TreeMode::kNeq: return x != branch.value;
    case TreeMode::kMember: break;
  }
  const auto begin = forest.members.begin();
  return std::find(begin + branch.members_begin, begin + branch.members_end, x) !=
         begin + branch.members_end;
}

// Reads the form of ai.onnx.ml 5, where nodes are named by index and leaves are apart.
class SplitReader {
 public:
  explicit SplitReader(const Attributes& attributes) : a_(attributes) {}

  Result<Forest> Run() {
    MINIM_TRY(ReadLeaves());
    MINIM_TRY(ReadBranches());
    MINIM_TRY(ReadMembers());
    for (int64_t root : a_.Ints("tree_roots")) {
      if (root < 0 || root >= static_cast<int64_t>(forest_.branches.size()))
        return InvalidArgument("tree_roots holds {}", root);
      const Forest::Branch& branch = forest_.branches[root];
      // A tree of one leaf is a branch whose both ways lead to it.
      const bool leaf = branch.on_true < 0 && branch.on_true == branch.on_false;
      forest_.roots.push_back(leaf ? branch.on_true : static_cast<int>(root));
    }
    const int64_t aggregate = a_.Int("aggregate_function", 1);
    if (aggregate < 0 || aggregate > 3)
      return InvalidArgument("aggregate_function is {}", aggregate);
    forest_.aggregate = static_cast<TreeAggregate>(aggregate);
    MINIM_TRY(CheckTrees(forest_));
    return std::move(forest_);
  }

 private:
  Status ReadLeaves() {
    const auto targets = a_.Ints("leaf_targetids");
    const Tensor given = a_.Tensor("leaf_weights");
    if (!given.defined()) return InvalidArgument("leaf_weights must be given, as a tensor");
    const std::vector<double> weights = Doubles(given);
    if (targets.size() != weights.size())
      return InvalidArgument("leaf_targetids has {} entries, leaf_weights {}", targets.size(),
                             weights.size());
    const int64_t count = a_.Int("n_targets", 1);
    for (size_t i = 0; i < targets.size(); ++i) {
      if (targets[i] < 0 || targets[i] >= count)
        return InvalidArgument("leaf_targetids holds {}, n_targets is {}", targets[i], count);
      const int at = static_cast<int>(i);
      forest_.leaves.push_back({at, at + 1});
      forest_.weights.push_back({static_cast<int>(targets[i]), weights[i]});
    }
    forest_.targets = static_cast<int>(count);
    return {};
  }

  Status ReadBranches() {
    const Tensor modes = a_.Tensor("nodes_modes"), splits = a_.Tensor("nodes_splits");
    if (!modes.defined() || !splits.defined() || modes.dtype() != DType::u8)
      return InvalidArgument("nodes_modes and nodes_splits must be given, modes as u8");
    const std::vector<double> values = Doubles(splits);
    const auto features = a_.Ints("nodes_featureids"),
               missing = a_.Ints("nodes_missing_value_tracks_true");
    const auto on_true = a_.Ints("nodes_truenodeids"), on_false = a_.Ints("nodes_falsenodeids");
    const auto true_leafs = a_.Ints("nodes_trueleafs"), false_leafs = a_.Ints("nodes_falseleafs");
    const auto count = static_cast<size_t>(modes.size());
    for (size_t size : {values.size(), features.size(), on_true.size(), on_false.size(),
                        true_leafs.size(), false_leafs.size()})
      if (size != count)
        return InvalidArgument("nodes_modes has {} entries, another of nodes_* {}", count, size);
    for (size_t i = 0; i < count; ++i) {
      Forest::Branch branch;
      if (modes.as<uint8_t>()[i] > 6)
        return InvalidArgument("nodes_modes holds {}", modes.as<uint8_t>()[i]);
      branch.mode = static_cast<TreeMode>(modes.as<uint8_t>()[i]);
      MINIM_TRY(CheckFeature(forest_, features[i]));
      branch.feature = static_cast<int>(features[i]);
      branch.value = values[i];
      branch.missing_tracks_true = i < missing.size() && missing[i] != 0;
      MINIM_TRY(branch.on_true, PlaceOf(on_true[i], true_leafs[i] != 0, count));
      MINIM_TRY(branch.on_false, PlaceOf(on_false[i], false_leafs[i] != 0, count));
      forest_.branches.push_back(branch);
    }
    return {};
  }

  Result<int> PlaceOf(int64_t index, bool leaf, size_t branches) const {
    const size_t count = leaf ? forest_.leaves.size() : branches;
    if (index < 0 || index >= static_cast<int64_t>(count))
      return InvalidArgument("a node leads to {} {}, there are {}", leaf ? "leaf" : "node", index,
                             count);
    return leaf ? ~static_cast<int>(index) : static_cast<int>(index);
  }

  // Sets are listed one after the other, each closed by a NaN, for the member nodes in order.
  Status ReadMembers() {
    const Tensor tensor = a_.Tensor("membership_values");
    if (tensor.defined()) forest_.members = Doubles(tensor);
    int at = 0;
    for (Forest::Branch& branch : forest_.branches) {
      if (branch.mode != TreeMode::kMember) continue;
      branch.members_begin = at;
      const int size = static_cast<int>(forest_.members.size());
      while (at < size && !std::isnan(forest_.members[at])) ++at;
      if (at == size) return InvalidArgument("membership_values lacks a set for a member node");
      branch.members_end = at++;
    }
    return {};
  }

  const Attributes& a_;
  Forest forest_;
};

}  // namespace

Result<Forest> ForestOf(const Attributes& attributes) {
  const std::string form = attributes.String("form", "target");
  if (form == "splits") return SplitReader(attributes).Run();
  return NodeReader(attributes, form).Run();
}

Tensor FloatsOf(const Attributes& attributes, const std::string& name) {
  const Tensor tensor = attributes.Tensor(name + "_as_tensor");
  if (tensor.defined()) return tensor;
  const std::vector<float> floats = attributes.Floats(name);
  return Tensor::From<float>({static_cast<int64_t>(floats.size())}, floats);
}

void EvaluateForest(const Forest& forest, std::span<const double> row, std::span<double> scores) {
  std::vector<bool> met(scores.size(), false);
  std::fill(scores.begin(), scores.end(), 0);
  for (int at : forest.roots) {
    while (at >= 0) {
      const Forest::Branch& branch = forest.branches[at];
      at = Holds(forest, branch, row[branch.feature]) ? branch.on_true : branch.on_false;
    }
    const Forest::Leaf& leaf = forest.leaves[~at];
    for (int w = leaf.begin; w < leaf.end; ++w) {
      const auto [target, value] = forest.weights[w];
      double& score = scores[target];
      if (!met[target] || forest.aggregate == TreeAggregate::kAverage ||
          forest.aggregate == TreeAggregate::kSum)
        score += value;
      else
        score = forest.aggregate == TreeAggregate::kMin ? std::min(score, value)
                                                        : std::max(score, value);
      met[target] = true;
    }
  }
  if (forest.aggregate == TreeAggregate::kAverage)
    for (double& score : scores) score /= static_cast<double>(forest.roots.size());
}

}  // namespace minim
