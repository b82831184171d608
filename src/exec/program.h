// Program: a graph with symbolic shapes, compiled once per binding of input shapes. Where a shape
// depends on a computed value, the graph is cut there: the first region runs, and what follows is
// a Program of its own, bound to what the region produced.
// Threads: Run may be called concurrently with distinct contexts.
#pragma once

#include <mutex>

#include "exec/cpu/executable.h"
#include "passes/passes.h"

namespace minim {

struct ProgramOptions {
  int threads = 1;
  std::vector<std::string> skip_passes;
  /// Compiled bindings kept; the least recently used goes first.
  size_t max_bindings = 64;
};

class Program {
 public:
  /// `graph` has been through the load pipeline.
  Program(Graph graph, std::shared_ptr<Runtime> runtime, ProgramOptions options);
  ~Program();

  const Graph& graph() const { return graph_; }

  /// Runs on inputs of any fitting shape; returns freshly allocated outputs.
  /// Errors: kInvalidArgument names the input whose dtype or shape disagrees.
  Result<std::vector<Tensor>> Run(ExecContext& context, std::span<const ConstView> inputs);
  /// Runs into caller-owned buffers of the exact types; allocates nothing once this binding is
  /// compiled, unless shapes depend on values.
  Status RunInto(ExecContext& context, std::span<const ConstView> inputs,
                 std::span<const View> outputs);
  /// Compiles the binding for these input dims and readies `context` for it.
  Status Prepare(ExecContext& context, const std::vector<Dims>& input_dims);

  size_t arena_bytes() const;
  std::string Explain() const;

 private:
  struct Region;
  struct Entry;

  Status CheckInputs(std::span<const ConstView> inputs) const;
  Result<const Region*> Find(ExecContext& context, std::span<const ConstView> inputs);
  Result<std::vector<Tensor>> RunRegion(ExecContext& context, const Region& region,
                                        std::span<const ConstView> inputs);
  Result<std::shared_ptr<const Entry>> FindShared(std::span<const ConstView> inputs);
  Result<std::shared_ptr<const Region>> Compile(std::span<const ConstView> inputs);
  Result<std::shared_ptr<const Region>> BuildRegion(Graph graph, std::vector<Node> early,
                                                    std::vector<Node> dynamic,
                                                    std::vector<Node> late,
                                                    const std::vector<ValueId>& handed,
                                                    std::vector<int> input_map);
  Status CheckOutput(size_t index, const TensorType& type, const View& buffer) const;
  Graph graph_;
  std::shared_ptr<Runtime> runtime_;
  ProgramOptions options_;
  mutable std::mutex mutex_;
  std::vector<int> awaited_;  // inputs whose values shapes depend on; guarded by mutex_
  std::vector<std::shared_ptr<const Entry>> entries_;  // latest use first; guarded by mutex_
};

}  // namespace minim
