// WorkFolder: what a long run has made so far, so that an interrupted one continues.
#pragma once

#include <optional>
#include <string>

#include "core/file.h"

namespace minim {

class WorkFolder {
 public:
  /// Empties the folder unless it was left by a run of the same `key`.
  static Result<WorkFolder> Open(const Path& folder, const std::string& key);

  /// The bytes saved under a name; nullopt if there are none.
  std::optional<std::string> Load(const std::string& name) const;
  Status Save(const std::string& name, std::string_view bytes) const;
  /// Once all is done.
  void Remove() const;

 private:
  explicit WorkFolder(Path folder) : folder_(std::move(folder)) {}
  Path folder_;
};

/// Size and time of change: enough to see that a file is another. Empty if there is none.
std::string FileStamp(const Path& path);

/// 64 bits of FNV-1a in hexadecimal: tells keys apart, protects nothing.
std::string DigestOf(std::string_view text);

}  // namespace minim
