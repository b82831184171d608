// TreeScores: the weights of the leaves that each row reaches, added up in double. Every branch is
// brought to the form x <= value, so that a step is one load, one compare and one select; leaves
// lead to themselves, so that a walk of fixed depth needs no test for its end; eight walks go side
// by side to hide each other's latency (eight rows through one tree, or one row through eight).
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/forest.h"
#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

constexpr int kLanes = 8;

template <typename T>
struct PackedNode {
  T value;
  int32_t feature;  // its sign bit: a missing value goes to `next[1]`
  int32_t next[2];  // where x > value, where x <= value
};

constexpr int32_t kMissing = std::numeric_limits<int32_t>::min();

template <typename T>
struct PackedForest {
  std::vector<PackedNode<T>> nodes;  // branches, then leaves
  std::vector<int32_t> roots;
  std::vector<int> depths;  // of each tree, in steps
  Forest forest;
};

// The largest T that is at most `value`, or below it.
template <typename T>
T Border(double value, bool below) {
  T border = static_cast<T>(value);
  const T least = -std::numeric_limits<T>::infinity();
  if (static_cast<double>(border) > value) border = std::nextafter(border, least);
  if (below && static_cast<double>(border) == value) border = std::nextafter(border, least);
  return border;
}

template <typename T>
PackedNode<T> Packed(const Forest::Branch& b, int32_t on_true, int32_t on_false) {
  const bool turned = b.mode == TreeMode::kGt || b.mode == TreeMode::kGte;
  const bool below = b.mode == TreeMode::kLt || b.mode == TreeMode::kGte;
  const bool missing = b.missing_tracks_true != turned;
  return {Border<T>(b.value, below),
          b.feature | (missing ? kMissing : 0),
          {turned ? on_true : on_false, turned ? on_false : on_true}};
}

int DepthOf(const Forest& forest, int root) {
  int deepest = 0;
  std::vector<std::pair<int, int>> open = {{root, 0}};
  while (!open.empty()) {
    const auto [at, depth] = open.back();
    open.pop_back();
    deepest = std::max(deepest, depth);
    if (at < 0) continue;
    open.push_back({forest.branches[at].on_true, depth + 1});
    open.push_back({forest.branches[at].on_false, depth + 1});
  }
  return deepest;
}

template <typename T>
PackedForest<T> Pack(Forest forest) {
  PackedForest<T> packed;
  const auto branches = static_cast<int32_t>(forest.branches.size());
  const auto place = [&](int at) { return at >= 0 ? at : branches + ~at; };
  for (const Forest::Branch& b : forest.branches)
    packed.nodes.push_back(Packed<T>(b, place(b.on_true), place(b.on_false)));
  for (size_t leaf = 0; leaf < forest.leaves.size(); ++leaf) {
    const auto self = branches + static_cast<int32_t>(leaf);
    packed.nodes.push_back({T{}, 0, {self, self}});
  }
  for (int root : forest.roots) {
    packed.roots.push_back(place(root));
    packed.depths.push_back(DepthOf(forest, root));
  }
  packed.forest = std::move(forest);
  return packed;
}

// Takes `depth` steps from at[lane] with the features rows[lane].
template <typename T, int kCount>
void Walk(const PackedNode<T>* nodes, const T* const* rows, int depth, int32_t* at) {
  for (int step = 0; step < depth; ++step) {
#pragma GCC unroll 8
    for (int lane = 0; lane < kCount; ++lane) {
      const PackedNode<T>& node = nodes[at[lane]];
      const T x = rows[lane][node.feature & ~kMissing];
      // Without a branch: which way a row goes cannot be foretold.
      const int low = int{x <= node.value} | (int{node.feature < 0} & int{x != x});
      at[lane] = node.next[low];
    }
  }
}

template <typename T>
class Scorer {
 public:
  Scorer(std::shared_ptr<const PackedForest<T>> packed, int64_t features, int64_t columns)
      : packed_(std::move(packed)), features_(features), columns_(columns) {}

  void Rows(const T* x, float* y, int64_t first, int64_t last) const {
    int64_t row = first;
    for (; row + kLanes <= last; row += kLanes) EightRows(x + row * features_, y + row * columns_);
    for (; row < last; ++row) OneRow(x + row * features_, y + row * columns_);
  }

 private:
  // Columns are few; more are done in groups.
  static constexpr int kColumns = 16;

  void EightRows(const T* x, float* y) const {
    const T* rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) rows[lane] = x + lane * features_;
    for (int64_t first = 0; first < columns_; first += kColumns) {
      double sums[kLanes][kColumns] = {};
      for (size_t tree = 0; tree < packed_->roots.size(); ++tree) {
        int32_t at[kLanes];
        std::fill_n(at, kLanes, packed_->roots[tree]);
        Walk<T, kLanes>(packed_->nodes.data(), rows, packed_->depths[tree], at);
        for (int lane = 0; lane < kLanes; ++lane) AddLeaf(at[lane], first, sums[lane]);
      }
      for (int lane = 0; lane < kLanes; ++lane) Store(sums[lane], first, y + lane * columns_);
    }
  }

  void OneRow(const T* x, float* y) const {
    const T* rows[kLanes];
    std::fill_n(rows, kLanes, x);
    const size_t trees = packed_->roots.size();
    for (int64_t first = 0; first < columns_; first += kColumns) {
      double sums[kColumns] = {};
      size_t tree = 0;
      for (; tree + kLanes <= trees; tree += kLanes) {
        int32_t at[kLanes];
        std::copy_n(packed_->roots.begin() + tree, kLanes, at);
        const auto depths = packed_->depths.begin() + tree;
        Walk<T, kLanes>(packed_->nodes.data(), rows, *std::max_element(depths, depths + kLanes),
                        at);
        for (int lane = 0; lane < kLanes; ++lane) AddLeaf(at[lane], first, sums);
      }
      for (; tree < trees; ++tree) {
        int32_t at = packed_->roots[tree];
        Walk<T, 1>(packed_->nodes.data(), rows, packed_->depths[tree], &at);
        AddLeaf(at, first, sums);
      }
      Store(sums, first, y);
    }
  }

  void AddLeaf(int32_t node, int64_t first, double* sums) const {
    const Forest& forest = packed_->forest;
    const Forest::Leaf leaf = forest.leaves[node - forest.branches.size()];
    for (int w = leaf.begin; w < leaf.end; ++w) {
      const int64_t column = forest.weights[w].target - first;
      if (column >= 0 && column < kColumns) sums[column] += forest.weights[w].value;
    }
  }

  void Store(const double* sums, int64_t first, float* y) const {
    const bool mean = packed_->forest.aggregate == TreeAggregate::kAverage;
    const double scale = mean ? 1.0 / static_cast<double>(packed_->roots.size()) : 1.0;
    const int64_t count = std::min<int64_t>(kColumns, columns_ - first);
    for (int64_t c = 0; c < count; ++c) y[first + c] = static_cast<float>(sums[c] * scale);
  }

  std::shared_ptr<const PackedForest<T>> packed_;
  int64_t features_;
  int64_t columns_;
};

Status CheckForest(const Forest& forest) {
  if (forest.aggregate == TreeAggregate::kMin || forest.aggregate == TreeAggregate::kMax)
    return Unsupported("aggregation by minimum or maximum");
  for (const Forest::Branch& branch : forest.branches)
    if (branch.mode == TreeMode::kEq || branch.mode == TreeMode::kNeq ||
        branch.mode == TreeMode::kMember)
      return Unsupported("branches on equality or membership");
  return {};
}

template <typename T>
BindResult BindTrees(const KernelRequest& request) {
  MINIM_TRY(Forest forest, ForestOf(AttributesOf(request)));
  MINIM_TRY(CheckForest(forest));
  const Dims &x = request.inputs[0].dims, &y = request.outputs[0].dims;
  const size_t trees = forest.roots.size();
  const Scorer<T> scorer(std::make_shared<const PackedForest<T>>(Pack<T>(std::move(forest))), x[1],
                         y[1]);
  const int64_t rows = x[0];
  return MakeKernel(
      fmt::format("{} trees, eight walks at once", trees), [scorer, rows](const KernelArgs& args) {
        args.threads.ParallelRange(rows, 2 * kLanes, [&](int64_t first, int64_t last) {
          scorer.Rows(In<T>(args, 0), Out<float>(args, 0), first, last);
        });
      });
}

}  // namespace

BindResult TreeScoresF32(const KernelRequest& request) { return BindTrees<float>(request); }
BindResult TreeScoresF64(const KernelRequest& request) { return BindTrees<double>(request); }

}  // namespace minim
