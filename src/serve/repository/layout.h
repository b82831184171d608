// What lies where in a model repository: <repo>/<model>/<version>/model.onnx and its variants.
// Never follows a link out of the repository.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "serve/model.h"

namespace minim::serve {

struct VersionLayout {
  int64_t number = 1;
  std::vector<TierSource> tiers;  // "fp32" first
  std::string default_tier = "fp32";
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

 private:
  Result<Path> Inside(const Path& path) const;
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
