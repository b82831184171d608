// minim shrink --repository: every model of a repository that has data.
#pragma once

#include "compress/shrink.h"

namespace minim {

struct RepositoryOptions {
  std::string folder;
  ShrinkOptions defaults;
  int jobs = 1;        // models at a time; timing waits until no other is at work
  bool again = false;  // also models whose report is of the same files and options
};

/// One line a model as it is done, then one table. Models that fail keep what they had; the result
/// is the number of those.
Result<int> ShrinkRepository(const RepositoryOptions& options);

}  // namespace minim
