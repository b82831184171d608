// A pass is a function and a line in pipelines.cc. The runner times it, verifies the IR after it,
// and can dump or skip it by name.
#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/isa.h"
#include "graph/graph.h"

namespace minim {

struct PassContext {
  /// True if the executor has a fast kernel for an op of this name; others are expanded where an
  /// expansion exists, and left out of fusions.
  std::function<bool(std::string_view op)> has_kernel = [](std::string_view) { return true; };
  /// The level of the machine, where what pays depends on it.
  Isa isa = Isa::kPortable;
  /// In which products are asked to compute.
  DType precision = DType::f32;
  /// Constants that will change: nodes that read one are not folded.
  std::set<ValueId> variables;
  std::vector<std::string> skip;
  /// Called with the graph after each pass that changed it.
  std::function<void(std::string_view pass, const Graph&)> dump;
};

using PassFn = Result<bool> (*)(Graph& graph, const PassContext& context);

struct Pass {
  std::string_view name;
  PassFn run;
};
using Pipeline = std::vector<Pass>;

struct PassReport {
  std::string_view name;
  std::chrono::microseconds time{0};
  bool changed = false;
  bool skipped = false;
};

/// Once per model, on symbolic shapes.
extern const Pipeline kLoadPipeline;
/// Once per binding of input shapes, on static shapes.
extern const Pipeline kSpecializePipeline;
/// For training step graphs, after autodiff.
extern const Pipeline kTrainPipeline;

/// Runs the passes in order. Errors: those of a pass, or a broken invariant after it, with its
/// name.
Result<std::vector<PassReport>> RunPipeline(const Pipeline& pipeline, Graph& graph,
                                            const PassContext& context);

}  // namespace minim
