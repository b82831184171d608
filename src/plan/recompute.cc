#include "plan/recompute.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "core/dtype.h"
#include "ops/op_def.h"

namespace minim {
namespace {

constexpr double kWorkPerByte = 4;   // a core's arithmetic in the time that a byte of memory takes
constexpr int kMostTakenBack = 64;   // trials of keeping a value after all
constexpr int kMostCorrections = 8;  // of the target, for what fragments
constexpr int kMostSetbacks = 8;     // values in a row whose loss would raise the live bytes
constexpr size_t kLeastEncoded = 4096;  // bytes of a value that is worth encoding

using Values = std::set<ValueId>;
using Kept = std::map<ValueId, ActivationStorage>;

// What becomes of a value that was kept whole: nothing, which is to make it again, or codes.
struct Concession {
  ValueId value = kNoValue;
  std::optional<ActivationStorage> storage;
  double gain = 0;  // bytes for the work

  void ApplyTo(Kept& keep) const {
    if (storage)
      keep[value] = *storage;
    else
      keep.erase(value);
  }
};

// A choice of kept values and what it costs.
struct Choice {
  Kept keep;
  Graph graph;
  std::vector<int> origins;
  std::vector<StepTraits> traits;
  ArenaUse use;
  std::vector<size_t> live;  // by step
  size_t peak = 0;           // bytes
  double work = 0;           // of nodes that run again, encode or decode
};

class Search {
 public:
  Search(const Graph& graph, ValueId loss, const std::vector<StepTraits>& traits,
         const RecomputeGoal& goal, const ScratchOf& scratch_of)
      : graph_(graph),
        traits_(traits),
        goal_(goal),
        scratch_of_(scratch_of),
        forward_(graph, loss),
        fixed_(forward_.Fixed()) {
    for (const Node& node : graph.nodes) work_.push_back(WorkOf(graph, node));
    all_ = Evaluate(Whole(forward_.Saved()));
  }

  Result<RecomputePlan> Run() {
    if (goal_.mode == RecomputeMode::kNone) return Finish(all_);
    if (goal_.mode == RecomputeMode::kSqrt) return Finish(SmallestSegments());
    return WithinBudget();
  }

 private:
  size_t BytesOf(ValueId id) const { return BytesOf(graph_, id); }
  static size_t BytesOf(const Graph& graph, ValueId id) {
    return StoredBytes(graph.type(id), ActivationStorage::kWhole);
  }

  static Kept Whole(const Values& values) {
    Kept keep;
    for (ValueId id : values) keep[id] = ActivationStorage::kWhole;
    return keep;
  }

  double WorkOf(const Graph& graph, const Node& node) const {
    const OpDef* def = FindOp(node);
    if (def != nullptr && Has(def->traits, OpTrait::kAlias)) return 0;
    std::vector<TensorType> inputs, outputs;
    double bytes = 0, elements = 0;
    for (ValueId id : node.inputs) {
      inputs.push_back(id == kNoValue ? TensorType() : graph.type(id));
      if (id != kNoValue) bytes += static_cast<double>(BytesOf(graph, id));
    }
    for (ValueId id : node.outputs) {
      outputs.push_back(id == kNoValue ? TensorType() : graph.type(id));
      if (id == kNoValue) continue;
      bytes += static_cast<double>(BytesOf(graph, id));
      elements += static_cast<double>(graph.type(id).dims().Elements());
    }
    const double flops = def != nullptr && def->flops
                             ? static_cast<double>(def->flops(inputs, outputs, node.attributes))
                             : elements;
    return flops + kWorkPerByte * bytes;
  }

  Choice Evaluate(Kept keep) const {
    Choice choice{.keep = std::move(keep), .graph = graph_};
    choice.origins = Rematerialize(choice.graph, forward_, {choice.keep, goal_.draw});
    std::vector<bool> seen(graph_.nodes.size(), false);
    for (size_t i = 0; i < choice.origins.size(); ++i) {
      const int origin = choice.origins[i];
      choice.traits.push_back(
          origin < 0 ? StepTraits{.scratch_bytes = scratch_of_(choice.graph, choice.graph.nodes[i])}
                     : traits_[origin]);
      if (origin < 0)
        choice.work += WorkOf(choice.graph, choice.graph.nodes[i]);
      else if (seen[origin])
        choice.work += work_[origin];
      else
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
    const auto encoding = std::count(choice.origins.begin(), choice.origins.end(), -1);
    result.cost.nodes =
        static_cast<int>(choice.origins.size() - graph_.nodes.size()) - static_cast<int>(encoding);
    for (const auto& [id, storage] : choice.keep) {
      result.cost.encoded += storage != ActivationStorage::kWhole;
      if (storage != ActivationStorage::kWhole) result.cost.storage = storage;
    }
    result.cost.kept_bytes = all_.peak;
    double all = 0;
    for (double work : work_) all += work;
    result.cost.work = all > 0 ? choice.work / all : 0;
    result.plan = BuildPlan(std::move(choice.graph), choice.traits);
    result.origins = std::move(choice.origins);
    return result;
  }

  // Keeps what crosses the borders of `count` segments that save equal bytes.
  Kept Segments(int count) const {
    size_t total = 0;
    for (const auto& [id, storage] : all_.keep) total += BytesOf(id);
    std::vector<int> segment(graph_.nodes.size(), 0);
    size_t before = 0;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      segment[i] = static_cast<int>(before * static_cast<size_t>(count) / (total + 1));
      for (ValueId id : graph_.nodes[i].outputs)
        if (id != kNoValue && all_.keep.contains(id)) before += BytesOf(id);
    }
    Kept keep = Whole(fixed_);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!forward_.Runs(static_cast<int>(i))) continue;
      for (ValueId id : graph_.nodes[i].inputs) {
        if (id == kNoValue || !forward_.Makes(id)) continue;
        const ValueId stored = forward_.Stored(id);
        if (segment[forward_.ProducerOf(stored)] < segment[i])
          keep[stored] = ActivationStorage::kWhole;
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
  double AddedWork(ValueId value, const Kept& keep, const std::vector<bool>& repeated) const {
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

  // Giving up the value wholly or, if the level allows, but for its codes: whichever is worth more.
  Concession BestOf(ValueId id, double work, ActivationStorage level) const {
    const size_t bytes = BytesOf(id);
    Concession best{id, std::nullopt, static_cast<double>(bytes) / (work + 1)};
    if (level == ActivationStorage::kWhole || bytes < kLeastEncoded ||
        !IsFloat(graph_.type(id).dtype))
      return best;
    const size_t codes = StoredBytes(graph_.type(id), level);
    if (codes >= bytes) return best;
    const double moved = kWorkPerByte * 2 * static_cast<double>(bytes + codes);
    const double gain = static_cast<double>(bytes - codes) / moved;
    return gain > best.gain ? Concession{id, level, gain} : best;
  }

  // Values that lie idle at the step with the most live bytes, the most bytes for the least work
  // first.
  std::vector<Concession> IdleAtPeak(const Choice& choice, const Values& banned,
                                     ActivationStorage level) const {
    const auto peak = static_cast<int>(std::max_element(choice.live.begin(), choice.live.end()) -
                                       choice.live.begin());
    Values used;
    if (peak < static_cast<int>(choice.graph.nodes.size()))
      for (ValueId id : choice.graph.nodes[peak].inputs)
        if (id != kNoValue) used.insert(id);
    std::vector<bool> repeated(graph_.nodes.size(), false), seen = repeated;
    for (int origin : choice.origins) {
      if (origin < 0) continue;
      repeated[origin] = seen[origin];
      seen[origin] = true;
    }
    std::vector<Concession> ranked;
    for (const auto& [id, storage] : choice.keep) {
      if (fixed_.contains(id) || banned.contains(id) || used.contains(id)) continue;
      if (storage != ActivationStorage::kWhole) continue;
      const int buffer = choice.use.buffer_of[id];
      if (buffer < 0) continue;
      const BufferRequest& request = choice.use.requests[buffer];
      if (request.first >= peak || request.last <= peak) continue;
      ranked.push_back(BestOf(id, AddedWork(id, choice.keep, repeated), level));
    }
    std::sort(ranked.begin(), ranked.end(), [](const Concession& a, const Concession& b) {
      return std::tie(a.gain, a.value) > std::tie(b.gain, b.value);
    });
    return ranked;
  }

  // Gives values up until the live bytes fit, or no value is left whose loss would not raise them.
  Choice GiveUp(size_t target, ActivationStorage level) const {
    Choice now = all_, best = all_;
    Values banned;
    int setbacks = 0;
    while (best.peak > target && setbacks < kMostSetbacks) {
      const std::vector<Concession> idle = IdleAtPeak(now, banned, level);
      if (idle.empty()) break;
      const size_t wanted = (now.peak - std::min(now.peak, target)) / 4;
      Kept keep = now.keep;
      size_t given = 0;
      int count = 0;
      for (const Concession& concession : idle) {
        if (count > 0 && given >= wanted) break;
        concession.ApplyTo(keep);
        given += BytesOf(concession.value);
        ++count;
      }
      Choice next = Evaluate(std::move(keep));
      if (next.peak > now.peak && count > 1) {
        keep = now.keep;
        idle[0].ApplyTo(keep);
        next = Evaluate(std::move(keep));
      }
      if (next.peak > now.peak) {
        banned.insert(idle[0].value);
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
    for (const auto& [id, whole] : all_.keep) {
      const auto it = choice.keep.find(id);
      if (it == choice.keep.end() || it->second != ActivationStorage::kWhole)
        given.push_back({work_[forward_.ProducerOf(id)], id});
    }
    std::sort(given.begin(), given.end(), std::greater<>());
    if (given.size() > kMostTakenBack) given.resize(kMostTakenBack);
    for (const auto& [work, id] : given) {
      Kept keep = choice.keep;
      keep[id] = ActivationStorage::kWhole;
      Choice next = Evaluate(std::move(keep));
      if (next.peak <= target && next.work <= choice.work) choice = std::move(next);
    }
    return choice;
  }

  Choice Cheapest(size_t target) const {
    Choice best = Cheapest(target, ActivationStorage::kWhole);
    for (ActivationStorage level :
         {ActivationStorage::kHalf, ActivationStorage::kInt8, ActivationStorage::kInt4}) {
      if (level > goal_.storage) break;
      Choice lossy = Cheapest(target, level);
      if (best.peak <= target ? lossy.peak <= target && lossy.work < best.work
                              : lossy.peak < best.peak)
        best = std::move(lossy);
    }
    return best;
  }

  Choice Cheapest(size_t target, ActivationStorage level) const {
    Choice best = GiveUp(target, level);
    for (int count : SegmentCounts()) {
      Choice segments = Evaluate(Segments(count));
      const bool fits = segments.peak <= target;
      const bool better =
          best.peak <= target ? fits && segments.work < best.work : segments.peak < best.peak;
      if (better) best = std::move(segments);
    }
    return best.peak <= target ? TakeBack(std::move(best), target) : best;
  }

  Result<RecomputePlan> WithinBudget() const {
    const size_t bytes = goal_.budget_bytes - std::min(goal_.budget_bytes, goal_.state_bytes);
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
    RecomputePlan least = Finish(Cheapest(0));
    if (least.plan.arena_bytes <= bytes) return least;
    return ResourceExhausted(
        "a training step does not fit {} bytes; the least found is {}, without recomputation {}, "
        "of "
        "which weights, moments and gradients are {}",
        goal_.budget_bytes, goal_.state_bytes + least.plan.arena_bytes,
        goal_.state_bytes + Finish(all_).plan.arena_bytes, goal_.state_bytes);
  }

  const Graph& graph_;
  const std::vector<StepTraits>& traits_;
  const RecomputeGoal& goal_;
  const ScratchOf& scratch_of_;
  const ForwardPart forward_;
  const Values fixed_;
  std::vector<double> work_;  // by node
  Choice all_;                // everything is kept
};

}  // namespace

Result<RecomputePlan> PlanRecompute(const Graph& graph, ValueId loss,
                                    const std::vector<StepTraits>& traits,
                                    const RecomputeGoal& goal, const ScratchOf& scratch_of) {
  return Search(graph, loss, traits, goal, scratch_of).Run();
}

}  // namespace minim
