// A student for distillation: fewer blocks, fewer channels.
#include <algorithm>
#include <set>

#include "compress/distill.h"
#include "compress/fold_parameters.h"
#include "compress/prune.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

// A value that everything after node `node` (-1: the input) depends on, and on nothing else before.
struct Cut {
  int node = -1;
  ValueId value = kNoValue;
};

// Maps a value to one of its type.
struct Block {
  Cut from, to;
  std::string signature;
};

bool HasWeights(const Graph& graph, const Node& node) {
  constexpr std::string_view kLayers[] = {"Conv", "ConvTranspose", "Gemm", "MatMul"};
  return std::find(std::begin(kLayers), std::end(kLayers), node.op) != std::end(kLayers) &&
         node.input(1) != kNoValue && graph.constant(node.input(1)) != nullptr;
}

class BlockFinder {
 public:
  explicit BlockFinder(const Graph& graph) : graph_(graph) { FindCuts(); }

  std::vector<Block> Run() const {
    std::vector<Block> blocks;
    for (size_t i = 0; i + 1 < cuts_.size();) {
      const size_t end = Weighs(i, i + 1) ? EndOf(i) : i;
      if (end == i) {
        ++i;
        continue;
      }
      blocks.push_back({cuts_[i], cuts_[end], Signature(i, end)});
      i = end;
    }
    return blocks;
  }

 private:
  void FindCuts() {
    std::map<ValueId, int> last_read;
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
      for (ValueId id : graph_.nodes[i].inputs)
        if (id != kNoValue && graph_.constant(id) == nullptr) last_read[id] = static_cast<int>(i);
    const int end = static_cast<int>(graph_.nodes.size());
    for (ValueId id : graph_.outputs) last_read[id] = end;
    std::set<ValueId> waiting(graph_.inputs.begin(), graph_.inputs.end());
    if (waiting.size() == 1) cuts_.push_back({-1, *waiting.begin()});
    for (int i = 0; i < end; ++i) {
      for (ValueId id : graph_.nodes[i].outputs)
        if (id != kNoValue && last_read.contains(id)) waiting.insert(id);
      std::erase_if(waiting, [&](ValueId id) { return last_read[id] <= i; });
      if (waiting.size() == 1 && (cuts_.empty() || cuts_.back().value != *waiting.begin()))
        cuts_.push_back({i, *waiting.begin()});
    }
  }

  bool SameType(size_t a, size_t b) const {
    return graph_.type(cuts_[a].value) == graph_.type(cuts_[b].value);
  }
  bool Weighs(size_t a, size_t b) const {
    return std::any_of(graph_.nodes.begin() + cuts_[a].node + 1,
                       graph_.nodes.begin() + cuts_[b].node + 1,
                       [&](const Node& node) { return HasWeights(graph_, node); });
  }

  // The end of the shortest block from `begin`, with what follows it without weights; `begin` if
  // there is none.
  size_t EndOf(size_t begin) const {
    size_t end = begin + 1;
    while (end < cuts_.size() && !SameType(begin, end)) ++end;
    if (end == cuts_.size()) return begin;
    while (end + 1 < cuts_.size() && SameType(end, end + 1) && !Weighs(end, end + 1)) ++end;
    return end;
  }

  std::string Signature(size_t a, size_t b) const {
    std::string text;
    for (int i = cuts_[a].node + 1; i <= cuts_[b].node; ++i) {
      const Node& node = graph_.nodes[i];
      text += node.domain + "." + node.op;
      for (ValueId id : node.inputs)
        if (id != kNoValue && graph_.constant(id) != nullptr)
          text += graph_.constant(id)->dims().ToString();
      text += ";";
    }
    return text;
  }

  const Graph& graph_;
  std::vector<Cut> cuts_;
};

// Every second of like blocks in a row.
std::vector<Block> Droppable(const Graph& graph) {
  const std::vector<Block> blocks = BlockFinder(graph).Run();
  std::vector<Block> drop;
  for (size_t i = 1; i < blocks.size(); ++i) {
    const Block &block = blocks[i], &before = blocks[i - 1];
    const bool like = before.to.value == block.from.value && before.signature == block.signature;
    const bool leaves = std::find(graph.outputs.begin(), graph.outputs.end(), block.to.value) !=
                        graph.outputs.end();
    const bool dropped_before = !drop.empty() && drop.back().to.value == before.to.value;
    if (like && !dropped_before && !leaves) drop.push_back(block);
  }
  return drop;
}

Result<Graph> Shallower(const Graph& teacher) {
  MINIM_TRY(Graph graph, FoldParameters(teacher));
  MINIM_TRY(Simplify(graph, {}));
  const std::vector<Block> drop = Droppable(graph);
  if (drop.empty())
    return Unsupported("the model has no two like blocks in a row, of which one could be left out");
  std::set<ValueId> gone;
  for (const Block& block : drop) {
    for (int i = block.from.node + 1; i <= block.to.node; ++i)
      gone.insert(graph.nodes[i].outputs.begin(), graph.nodes[i].outputs.end());
    graph.ReplaceUses(block.to.value, block.from.value);
  }
  gone.erase(kNoValue);
  graph.RemoveNodes([&](const Node& node) {
    return std::any_of(node.outputs.begin(), node.outputs.end(),
                       [&](ValueId id) { return gone.contains(id); });
  });
  MINIM_TRY(InferGraph(graph));
  MINIM_TRY(EliminateDeadCode(graph, {}));
  MINIM_TRY(Verify(graph));
  return graph;
}

}  // namespace

Result<Graph> MakeStudent(const Graph& teacher, const StudentTemplate& student) {
  if (!(student.parameters > 0 && student.parameters <= 1))
    return InvalidArgument("the student's share of parameters is {}, expected above 0 and up to 1",
                           student.parameters);
  Graph graph = teacher;
  if (student.shallower) {
    MINIM_TRY(graph, Shallower(teacher));
  }
  const double wanted = student.parameters * static_cast<double>(ParameterCount(teacher));
  const double fraction = 1 - wanted / static_cast<double>(ParameterCount(graph));
  if (fraction <= 0) return graph;
  MINIM_TRY(Pruned pruned, PruneChannels(graph, fraction));
  return std::move(pruned.graph);
}

}  // namespace minim
