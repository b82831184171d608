// Program: a graph with symbolic shapes, compiled once per binding of input shapes. Where a shape
// depends on a computed value, or a value is no array of numbers, the graph is cut there: the first
// region runs, and what follows is a Program of its own, bound to what the region produced.
// Threads: Run may be called concurrently with distinct contexts.
#pragma once

#include <mutex>

#include "exec/cpu/executable.h"
#include "exec/held_constants.h"
#include "exec/tune.h"
#include "minim/host_value.h"
#include "passes/passes.h"

namespace minim {

class Region;

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

  /// Without its constants.
  const Graph& graph() const { return graph_; }
  const Runtime& runtime() const { return *runtime_; }
  /// Of the constants that are held beside what kernels packed.
  size_t constant_bytes() const { return constants_.bytes(); }

  /// What a run is given: a view of each tensor (an empty one for other kinds), and the values
  /// themselves where some input is not a tensor of a fixed-size dtype.
  struct Inputs {
    std::span<const ConstView> views;
    const HostValue* values = nullptr;

    size_t size() const { return views.size(); }
    const ConstView& operator[](size_t i) const { return views[i]; }
  };

  /// Runs on inputs of any fitting shape; returns freshly allocated outputs.
  /// Errors: kInvalidArgument names the input whose dtype or shape disagrees; kUnsupported when an
  /// output is no tensor.
  Result<std::vector<Tensor>> Run(ExecContext& context, std::span<const ConstView> inputs);
  /// The same on values of any kind.
  Result<std::vector<HostValue>> Run(ExecContext& context, std::span<const HostValue> inputs);
  /// The same from within another program's run on this context.
  Result<std::vector<HostValue>> RunNested(ExecContext& context, std::span<const HostValue> inputs);
  /// True if the values have the kinds and dtypes of the inputs.
  bool Accepts(std::span<const HostValue> values) const;
  /// Runs into caller-owned buffers of the exact types; allocates nothing once this binding is
  /// compiled, unless shapes depend on values.
  Status RunInto(ExecContext& context, std::span<const ConstView> inputs,
                 std::span<const View> outputs);
  /// Compiles the binding for these input dims and readies `context` for it.
  Status Prepare(ExecContext& context, const std::vector<Dims>& input_dims);

  size_t arena_bytes() const;
  std::string Explain() const;
  /// A table of what each step takes: medians over `runs` runs on these inputs. Errors:
  /// kUnsupported when shapes depend on values or a value is no array of numbers.
  Result<std::string> Profile(ExecContext& context, std::span<const ConstView> inputs, int runs);
  /// Measures for about `seconds` what is fastest for these inputs; changes nothing of the program.
  /// Errors: as of Profile.
  Result<TuneReport> Tune(std::span<const ConstView> inputs, double seconds);

 private:
  struct Entry;
  struct Specialized;

  Status CheckInputs(const Inputs& inputs) const;
  Result<const Region*> Find(ExecContext& context, const Inputs& inputs);
  Result<std::shared_ptr<const Entry>> FindShared(const Inputs& inputs);
  Result<Specialized> SpecializedFor(const Inputs& inputs);
  Result<std::shared_ptr<const Region>> Compile(const Inputs& inputs);
  Status CheckOutput(size_t index, const TensorType& type, const View& buffer) const;
  HeldConstants constants_;
  Graph graph_;
  std::shared_ptr<Runtime> runtime_;
  ProgramOptions options_;
  mutable std::mutex mutex_;
  std::vector<int> awaited_;  // inputs whose values shapes depend on; guarded by mutex_
  std::vector<std::shared_ptr<const Entry>> entries_;  // latest use first; guarded by mutex_
};

}  // namespace minim
