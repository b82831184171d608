#include <algorithm>

#include "passes/pass.h"
#include "passes/passes.h"

namespace minim {

// Read top to bottom, this is the compiler.
// clang-format off
const Pipeline kLoadPipeline = {
    {"eliminate-unread", EliminateDeadCode},
    {"simplify", Simplify},
    {"fuse-row-quantized", FuseRowQuantized},
    {"fuse-qdq", FuseQdq},
    {"fold-constants", FoldConstants},
    {"inline-branches", InlineBranches},
    {"expand-functions", ExpandFunctions},
    {"fold-batch-norm", FoldBatchNorm},
    {"flatten-products", FlattenProducts},
    {"fuse-epilogue", FuseEpilogue},
    {"fuse-transpose", FuseTranspose},
    {"join-groups", JoinGroups},
    {"lower-precision", LowerPrecision},
    {"fold-lowered", FoldConstants},
    {"eliminate-dead-code", EliminateDeadCode},
};
// clang-format on

const Pipeline kSpecializePipeline = {
    {"fold-shapes", FoldConstants},
    {"inline-branches", InlineBranches},
    {"expand-functions", ExpandFunctions},
    {"fold-constants", FoldConstants},
    {"lower-batch-norm", LowerBatchNorm},
    {"fuse-group-norm", FuseGroupNorm},
    {"fuse-attention", FuseAttention},
    {"eliminate-fused", EliminateDeadCode},
    {"fuse-elementwise", FuseElementwise},
    {"assign-layouts", AssignLayouts},
    {"fuse-shortcut", FuseShortcut},
    {"fuse-concat-scale", FuseConcatScale},
    {"eliminate-dead-code", EliminateDeadCode},
};

const Pipeline kTrainPipeline = {
    {"expand-functions", ExpandFunctions}, {"fold-constants", FoldConstants},
    {"fuse-transpose", FuseTranspose},     {"eliminate-dead-code", EliminateDeadCode},
    {"fuse-elementwise", FuseElementwise},
};

Result<std::vector<PassReport>> RunPipeline(const Pipeline& pipeline, Graph& graph,
                                            const PassContext& context) {
  std::vector<PassReport> reports;
  for (const Pass& pass : pipeline) {
    PassReport report{.name = pass.name};
    report.skipped =
        std::find(context.skip.begin(), context.skip.end(), pass.name) != context.skip.end();
    if (!report.skipped) {
      const auto start = std::chrono::steady_clock::now();
      auto changed = pass.run(graph, context);
      if (!changed.ok()) return Annotate(changed.status(), pass.name);
      report.changed = *changed;
      if (report.changed) MINIM_TRY(Annotate(Verify(graph), fmt::format("after {}", pass.name)));
      report.time = std::chrono::duration_cast<std::chrono::microseconds>(
          std::chrono::steady_clock::now() - start);
      if (report.changed && context.dump) context.dump(pass.name, graph);
    }
    reports.push_back(report);
  }
  return reports;
}

}  // namespace minim
