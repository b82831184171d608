// Tuning: what was measured on this machine and is better than what the cost models would choose.
// Threads: const access is safe from any thread.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "core/file.h"
#include "core/isa.h"
#include "graph/graph.h"

namespace minim {

class Tuning {
 public:
  /// The row of the kernel table for a step; empty where the first that fits is best or nothing was
  /// measured.
  std::string_view RowOf(const std::string& step) const;
  /// How many rows of a batch to compute together; 0 where nothing was measured.
  int64_t RowsTogether(const std::string& batch) const;

  void SetRow(const std::string& step, std::string_view row) { rows_[step] = row; }
  void SetRowsTogether(const std::string& batch, int64_t rows) { together_[batch] = rows; }
  /// Every step looked at goes by the cost models.
  void PreferModels();
  /// What `newer` has measured replaces what is here.
  void Merge(const Tuning& newer);

  bool empty() const { return rows_.empty() && together_.empty(); }
  size_t steps() const { return rows_.size(); }
  size_t batches() const { return together_.size(); }

 private:
  friend struct TuningFile;

  std::map<std::string, std::string> rows_;  // by step
  std::map<std::string, int64_t> together_;  // by batch
};

/// What tells a step from others: op, attributes, types, which inputs are constants, threads.
std::string StepSignature(const Graph& graph, const Node& node, int threads);
/// The same of a graph: a hash of its steps.
std::string BatchSignature(const Graph& graph, int threads);

/// The measurements of one machine, by instruction-set level, as JSON.
struct TuningFile {
  /// MINIM_TUNING, "off" for none; else minim/tuning.json in XDG_CACHE_HOME or ~/.cache; none
  /// without a home.
  static std::optional<Path> DefaultPath();
  /// Empty if there is no such file, or another processor or version of minim measured it. Errors:
  /// kDataLoss if it is no such file.
  static Result<TuningFile> Read(const Path& path);
  /// Writes beside the file and renames. Errors: those of creating files and folders.
  Status Write(const Path& path) const;

  std::map<std::string, Tuning> levels;  // by name of the level
  std::string stale;                     // who measured a file that does not count; else empty
};

}  // namespace minim
