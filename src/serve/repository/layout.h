// What lies where in a model repository: <repo>/<model>/<version>/model.onnx and its variants.
// Never follows a link out of the repository.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "serve/model.h"

namespace minim::serve {

/// What report.json says of one variant.
struct TierGate {
  bool passed = false;
  /// Why it did not pass.
  std::string reason;
  /// Share of rows that the gate saw differ from FP32.
  double disagreement = 0;
};

struct VersionLayout {
  int64_t number = 1;
  std::vector<TierSource> tiers;  // "fp32" first
  /// By tier; one that is not here was never judged.
  std::map<std::string, TierGate> gates;
};

struct ModelLayout {
  std::string name;
  std::vector<VersionLayout> versions;  // ascending
};

/// A repository, a single model's folder, or a single file.
class RepositoryLayout {
 public:
  /// Errors: kNotFound when there is nothing at `path` that could be served.
  static Result<RepositoryLayout> Open(const Path& path, bool offer_bf16);

  /// Names of the models there now, sorted.
  std::vector<std::string> ModelNames() const;
  /// Looks at the disk again. Errors: kInvalidArgument for a name no model may have, kNotFound.
  Result<ModelLayout> Scan(const std::string& name) const;
  /// "config.pbtxt" or "minim.toml" of a model; empty if it has none.
  Result<std::string> ReadConfig(const std::string& name, const std::string& file) const;
  /// Names, sizes and times of everything a model consists of: differs when a file does.
  std::string Signature(const std::string& name) const;

 private:
  Result<Path> Inside(const Path& path) const;
  Path FolderOf(const std::string& name) const;
  Result<VersionLayout> ScanVersion(const Path& folder, int64_t number) const;
  void AddVariants(const Path& folder, VersionLayout& version) const;

  Path root_;              // canonical
  std::string only_name_;  // set when the path is one model
  bool is_file_ = false;
  bool offer_bf16_ = false;
};

/// Printable, not a path, at most 255 bytes, valid UTF-8.
Status CheckModelName(std::string_view name);

}  // namespace minim::serve
