// Region: one compiled binding of a Program: an executable for what is foreseeable, then the host
// nodes one by one, then a Program for what waits for them.
// Threads: Run may be called concurrently with distinct contexts.
#pragma once

#include <mutex>

#include "exec/cut.h"
#include "exec/program.h"
#include "minim/host_value.h"
#include "ops/host.h"

namespace minim {

/// The programs of one sub-graph of a host node, one for each set of input types met.
/// Threads: may be used concurrently.
class BodyPrograms {
 public:
  BodyPrograms(std::shared_ptr<const Graph> graph, std::shared_ptr<Runtime> runtime,
               ProgramOptions options)
      : graph_(std::move(graph)), runtime_(std::move(runtime)), options_(std::move(options)) {}

  Result<std::vector<HostValue>> Run(ExecContext& context, std::span<const HostValue> values);
  std::string Explain() const;

 private:
  Result<Program*> Find(std::span<const HostValue> values);

  std::shared_ptr<const Graph> graph_;
  std::shared_ptr<Runtime> runtime_;
  ProgramOptions options_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Program>> programs_;  // guarded by mutex_
};

class Region {
 public:
  /// `inputs` are all of the program's inputs; those that have become constants are no longer
  /// among `graph`'s own.
  /// With `slices` above 1 `graph` is for that part of a batch.
  static Result<std::shared_ptr<const Region>> Build(Graph graph, Cut cut,
                                                     const std::vector<ValueId>& inputs,
                                                     std::shared_ptr<Runtime> runtime,
                                                     const ProgramOptions& options,
                                                     int64_t slices = 1);

  Result<std::vector<HostValue>> Run(ExecContext& context, const Program::Inputs& inputs) const;

  /// True if the executable's outputs are the program's, one for one.
  bool whole() const { return whole_; }
  const Executable& executable() const { return *executable_; }
  /// For each input of the executable the program's input.
  const std::vector<int>& input_map() const { return input_map_; }
  size_t arena_bytes() const;
  std::string Explain() const;

 private:
  // Where a value is: among the results (the executable's outputs, then those of the host nodes),
  // the program's inputs, the constants, or the outputs of the rest.
  struct Source {
    enum { kNone, kResult, kInput, kConstant, kRest } from = kNone;
    int index = -1;
  };
  struct HostNode {
    Node node;
    std::vector<TensorType> types;  // of the outputs
    bool reference = false;         // its shape depends on values; else the op's host function
    std::vector<Source> inputs;
    std::map<std::string, std::unique_ptr<BodyPrograms>> bodies;
  };
  class Builder;

  Status RunHostNodes(ExecContext& context, const Program::Inputs& inputs,
                      std::vector<HostValue>& results) const;
  HostValue Get(const Source& source, const Program::Inputs& inputs,
                const std::vector<HostValue>& results, const std::vector<HostValue>& rest) const;

  bool whole_ = false;
  std::unique_ptr<Executable> executable_;
  std::vector<int> input_map_;
  std::vector<HostNode> host_;
  std::vector<HostValue> constants_;
  std::unique_ptr<Program> rest_;
  std::vector<Source> rest_inputs_;
  std::vector<Source> outputs_;
  std::shared_ptr<Runtime> runtime_;
  int threads_ = 1;
};

}  // namespace minim
