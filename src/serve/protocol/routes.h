// Which request is meant: the paths of the Open Inference Protocol.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace minim::serve {

enum class Endpoint {
  kServerMetadata,
  kLive,
  kReady,
  kModelMetadata,
  kModelReady,
  kModelConfig,
  kModelStats,
  kModelSettings,
  kChangeSettings,
  kModelTiers,
  kModelRollout,
  kChangeRollout,
  kInfer,
  kAllStats,
  kRepositoryIndex,
  kRepositoryLoad,
  kRepositoryUnload,
  kMetrics,
  kMemory,
};

struct Route {
  Endpoint endpoint = Endpoint::kServerMetadata;
  std::string model;
  std::string version;  // empty: the latest
};

/// Errors: kNotFound for an unknown path, kInvalidArgument for a broken one, kUnsupported when the
/// path exists with another method.
Result<Route> FindRoute(std::string_view method, std::string_view target);

}  // namespace minim::serve
