#include "plan/recompute.h"

#include <algorithm>
#include <cmath>

#include "ops/op_def.h"
#include "passes/passes.h"

namespace minim {
namespace {

constexpr double kWorkPerByte = 4;   // a core's arithmetic in the time that a byte of memory takes
constexpr int kMostTakenBack = 64;   // trials of keeping a value after all
constexpr int kMostCorrections = 8;  // of the target, for what fragments
constexpr int kMostSetbacks = 8;     // values in a row whose loss would raise the live bytes

using Values = std::set<ValueId>;

// A choice of kept values and what it costs.
struct Choice {
  Values keep;
  Graph graph;
  std::vector<int> origins;
  std::vector<StepTraits> traits;
  ArenaUse use;
  std::vector<size_t> live;  // by step
  size_t peak = 0;           // bytes
  double work = 0;           // of nodes that run again
};

class Search {
 public:
  Search(const Graph& graph, ValueId loss, const std::vector<StepTraits>& traits)
      : graph_(graph), traits_(traits), forward_(graph, loss), fixed_(forward_.Fixed()) {
    for (const Node& node : graph.nodes) work_.push_back(WorkOf(node));
    all_ = Evaluate(forward_.Saved());
  }

  Result<RecomputePlan> Run(const RecomputeGoal& goal) {
    if (goal.mode == RecomputeMode::kNone) return Finish(all_);
    if (goal.mode == RecomputeMode::kSqrt) return Finish(SmallestSegments());
    return WithinBudget(goal);
  }

 private:
  size_t BytesOf(ValueId id) const {
    const TensorType& type = graph_.type(id);
    return static_cast<size_t>(type.dims().Elements()) * SizeOf(type.dtype);
  }

  double WorkOf(const Node& node) const {
    const OpDef* def = FindOp(node);
    if (def != nullptr && Has(def->traits, OpTrait::kAlias)) return 0;
    std::vector<TensorType> inputs, outputs;
    double bytes = 0, elements = 0;
    for (ValueId id : node.inputs) {
      inputs.push_back(id == kNoValue ? TensorType() : graph_.type(id));
      if (id != kNoValue) bytes += static_cast<double>(BytesOf(id));
    }
    for (ValueId id : node.outputs) {
      outputs.push_back(id == kNoValue ? TensorType() : graph_.type(id));
      if (id == kNoValue) continue;
      bytes += static_cast<double>(BytesOf(id));
      elements += static_cast<double>(graph_.type(id).dims().Elements());
    }
    const double flops = def != nullptr && def->flops
                             ? static_cast<double>(def->flops(inputs, outputs, node.attributes))
                             : elements;
    return flops + kWorkPerByte * bytes;
  }

  Choice Evaluate(Values keep) const {
    Choice choice{.keep = std::move(keep), .graph = graph_};
    choice.origins = Rematerialize(choice.graph, forward_, choice.keep);
    std::vector<bool> seen(graph_.nodes.size(), false);
    for (int origin : choice.origins) {
      choice.traits.push_back(traits_[origin]);
      if (seen[origin]) choice.work += work_[origin];
      seen[origin] = true;
    }
    choice.use = UseOfArena(choice.graph, choice.traits);
    choice.live = LiveBytes(choice.use.requests);
    if (!choice.live.empty())
      choice.peak = *std::max_element(choice.live.begin(), choice.live.end());
    return choice;
  }

  RecomputePlan Finish(Choice choice) const {
    RecomputePlan result;
    result.cost.nodes = static_cast<int>(choice.origins.size() - graph_.nodes.size());
    result.cost.kept_bytes = all_.peak;
    double all = 0;
    for (double work : work_) all += work;
    result.cost.work = all > 0 ? choice.work / all : 0;
    result.plan = BuildPlan(std::move(choice.graph), choice.traits);
    result.origins = std::move(choice.origins);
    return result;
  }

  // Keeps what crosses the borders of `count` segments that save equal bytes.
  Values Segments(int count) const {
    size_t total = 0;
    for (ValueId id : all_.keep) total += BytesOf(id);
    std::vector<int> segment(graph_.nodes.size(), 0);
    size_t before = 0;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      segment[i] = static_cast<int>(before * static_cast<size_t>(count) / (total + 1));
      for (ValueId id : graph_.nodes[i].outputs)
        if (id != kNoValue && all_.keep.contains(id)) before += BytesOf(id);
    }
    Values keep = fixed_;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!forward_.Runs(static_cast<int>(i))) continue;
      for (ValueId id : graph_.nodes[i].inputs) {
        if (id == kNoValue || !forward_.Makes(id)) continue;
        const ValueId stored = forward_.Stored(id);
        if (segment[forward_.ProducerOf(stored)] < segment[i]) keep.insert(stored);
      }
    }
    return keep;
  }

  // About evenly spaced on a logarithmic scale up to twice the root of the number of saved values.
  std::vector<int> SegmentCounts() const {
    const double most = 2 + 2 * std::sqrt(static_cast<double>(all_.keep.size()));
    std::vector<int> counts;
    for (int count = 1; count <= most; count += 1 + count / 4) counts.push_back(count);
    return counts;
  }

  Choice SmallestSegments() const {
    Choice best = all_;
    for (int count : SegmentCounts()) {
      Choice choice = Evaluate(Segments(count));
      if (choice.peak < best.peak) best = std::move(choice);
    }
    return best;
  }

  // What it costs to make a value again when `keep` is there: nodes that are not made again yet.
  double AddedWork(ValueId value, const Values& keep, const std::vector<bool>& repeated) const {
    double work = 0;
    Values seen = {value};
    std::vector<ValueId> open = {value};
    while (!open.empty()) {
      const int producer = forward_.ProducerOf(open.back());
      open.pop_back();
      if (repeated[producer]) continue;
      work += work_[producer];
      for (ValueId id : graph_.nodes[producer].inputs)
        if (id != kNoValue && forward_.Makes(id) && !keep.contains(id) && seen.insert(id).second)
          open.push_back(id);
    }
    return work;
  }

  // Values that lie idle at the step with the most live bytes, the most bytes for the least work
  // first.
  std::vector<ValueId> IdleAtPeak(const Choice& choice, const Values& banned) const {
    const auto peak = static_cast<int>(std::max_element(choice.live.begin(), choice.live.end()) -
                                       choice.live.begin());
    Values used;
    if (peak < static_cast<int>(choice.graph.nodes.size()))
      for (ValueId id : choice.graph.nodes[peak].inputs)
        if (id != kNoValue) used.insert(id);
    std::vector<bool> repeated(graph_.nodes.size(), false), seen = repeated;
    for (int origin : choice.origins) {
      repeated[origin] = seen[origin];
      seen[origin] = true;
    }
    std::vector<std::pair<double, ValueId>> ranked;
    for (ValueId id : choice.keep) {
      if (fixed_.contains(id) || banned.contains(id) || used.contains(id)) continue;
      const int buffer = choice.use.buffer_of[id];
      if (buffer < 0) continue;
      const BufferRequest& request = choice.use.requests[buffer];
      if (request.first >= peak || request.last <= peak) continue;
      const double work = AddedWork(id, choice.keep, repeated);
      ranked.push_back({static_cast<double>(BytesOf(id)) / (work + 1), id});
    }
    std::sort(ranked.begin(), ranked.end(), std::greater<>());
    std::vector<ValueId> idle;
    for (const auto& [score, id] : ranked) idle.push_back(id);
    return idle;
  }

  // Gives values up until the live bytes fit, or no value is left whose loss would not raise them.
  Choice GiveUp(size_t target) const {
    Choice now = all_, best = all_;
    Values banned;
    int setbacks = 0;
    while (best.peak > target && setbacks < kMostSetbacks) {
      const std::vector<ValueId> idle = IdleAtPeak(now, banned);
      if (idle.empty()) break;
      const size_t wanted = (now.peak - std::min(now.peak, target)) / 4;
      Values keep = now.keep;
      size_t given = 0;
      int count = 0;
      for (ValueId id : idle) {
        if (count > 0 && given >= wanted) break;
        keep.erase(id);
        given += BytesOf(id);
        ++count;
      }
      Choice next = Evaluate(std::move(keep));
      if (next.peak > now.peak && count > 1) {
        keep = now.keep;
        keep.erase(idle[0]);
        next = Evaluate(std::move(keep));
      }
      if (next.peak > now.peak) {
        banned.insert(idle[0]);
        ++setbacks;
        continue;
      }
      now = std::move(next);
      setbacks = 0;
      if (now.peak < best.peak) best = now;
    }
    return best;
  }

  // Keeps the values after all whose repetition costs most, where there is room.
  Choice TakeBack(Choice choice, size_t target) const {
    std::vector<std::pair<double, ValueId>> given;
    for (ValueId id : all_.keep)
      if (!choice.keep.contains(id)) given.push_back({work_[forward_.ProducerOf(id)], id});
    std::sort(given.begin(), given.end(), std::greater<>());
    if (given.size() > kMostTakenBack) given.resize(kMostTakenBack);
    for (const auto& [work, id] : given) {
      Values keep = choice.keep;
      keep.insert(id);
      Choice next = Evaluate(std::move(keep));
      if (next.peak <= target && next.work <= choice.work) choice = std::move(next);
    }
    return choice;
  }

  Choice Cheapest(size_t target) const {
    Choice best = GiveUp(target);
    for (int count : SegmentCounts()) {
      Choice segments = Evaluate(Segments(count));
      const bool fits = segments.peak <= target;
      const bool better =
          best.peak <= target ? fits && segments.work < best.work : segments.peak < best.peak;
      if (better) best = std::move(segments);
    }
    return best.peak <= target ? TakeBack(std::move(best), target) : best;
  }

  Result<RecomputePlan> WithinBudget(const RecomputeGoal& goal) const {
    const size_t bytes = goal.budget_bytes - std::min(goal.budget_bytes, goal.state_bytes);
    size_t target = bytes;
    if (all_.peak <= target) {
      RecomputePlan plan = Finish(all_);
      if (plan.plan.arena_bytes <= bytes) return plan;
    }
    for (int i = 0; i < kMostCorrections; ++i) {
      Choice choice = Cheapest(target);
      if (choice.peak > target) break;
      RecomputePlan plan = Finish(std::move(choice));
      if (plan.plan.arena_bytes <= bytes) return plan;
      target -= std::min(target, plan.plan.arena_bytes - bytes);
    }
    const auto total = [&](Choice choice) {
      return goal.state_bytes + Finish(std::move(choice)).plan.arena_bytes;
    };
    return ResourceExhausted(
        "a training step does not fit {} bytes; the least found is {}, without recomputation {}, "
        "{} "
        "of them weights, moments and gradients",
        goal.budget_bytes, total(Cheapest(0)), total(all_), goal.state_bytes);
  }

  const Graph& graph_;
  const std::vector<StepTraits>& traits_;
  const ForwardPart forward_;
  const Values fixed_;
  std::vector<double> work_;  // by node
  Choice all_;                // everything is kept
};

}  // namespace

Result<RecomputePlan> PlanRecompute(const Graph& graph, ValueId loss,
                                    const std::vector<StepTraits>& traits,
                                    const RecomputeGoal& goal) {
  return Search(graph, loss, traits).Run(goal);
}

}  // namespace minim
