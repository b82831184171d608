#include "serve/protocol/routes.h"

#include <algorithm>
#include <vector>

#include "serve/http/url.h"

namespace minim::serve {
namespace {

struct Pattern {
  std::string_view method;
  std::string_view path;  // "*" takes a model's name, "#" a version
  Endpoint endpoint;
};

// The first pattern that fits wins: "/v2/models/stats" stands before models of that name.
constexpr Pattern kPatterns[] = {
    {"GET", "v2", Endpoint::kServerMetadata},
    {"GET", "metrics", Endpoint::kMetrics},
    {"GET", "v2/memory", Endpoint::kMemory},
    {"GET", "v2/health/live", Endpoint::kLive},
    {"GET", "v2/health/ready", Endpoint::kReady},
    {"GET", "v2/models/stats", Endpoint::kAllStats},
    {"GET", "v2/models/*", Endpoint::kModelMetadata},
    {"GET", "v2/models/*/versions/#", Endpoint::kModelMetadata},
    {"GET", "v2/models/*/ready", Endpoint::kModelReady},
    {"GET", "v2/models/*/versions/#/ready", Endpoint::kModelReady},
    {"GET", "v2/models/*/config", Endpoint::kModelConfig},
    {"GET", "v2/models/*/versions/#/config", Endpoint::kModelConfig},
    {"GET", "v2/models/*/stats", Endpoint::kModelStats},
    {"GET", "v2/models/*/versions/#/stats", Endpoint::kModelStats},
    {"GET", "v2/models/*/settings", Endpoint::kModelSettings},
    {"POST", "v2/models/*/settings", Endpoint::kChangeSettings},
    {"GET", "v2/models/*/tiers", Endpoint::kModelTiers},
    {"GET", "v2/models/*/versions/#/tiers", Endpoint::kModelTiers},
    {"GET", "v2/models/*/rollout", Endpoint::kModelRollout},
    {"POST", "v2/models/*/rollout", Endpoint::kChangeRollout},
    {"POST", "v2/models/*/infer", Endpoint::kInfer},
    {"POST", "v2/models/*/versions/#/infer", Endpoint::kInfer},
    {"POST", "v2/repository/index", Endpoint::kRepositoryIndex},
    {"POST", "v2/repository/models/*/load", Endpoint::kRepositoryLoad},
    {"POST", "v2/repository/models/*/unload", Endpoint::kRepositoryUnload},
};

bool Matches(std::string_view pattern, const std::vector<std::string>& segments, Route& route) {
  for (const std::string& segment : segments) {
    if (pattern.empty()) return false;
    const size_t slash = std::min(pattern.find('/'), pattern.size());
    const std::string_view part = pattern.substr(0, slash);
    pattern.remove_prefix(std::min(slash + 1, pattern.size()));
    if (part == "*") {
      route.model = segment;
    } else if (part == "#") {
      route.version = segment;
    } else if (part != segment) {
      return false;
    }
  }
  return pattern.empty();
}

}  // namespace

Result<Route> FindRoute(std::string_view method, std::string_view target) {
  MINIM_TRY(const std::vector<std::string> segments, PathSegments(target));
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  std::string_view other;
  for (const Pattern& pattern : kPatterns) {
    Route route{.endpoint = pattern.endpoint};
    if (segments.empty() || !Matches(pattern.path, segments, route)) continue;
    if (pattern.method == wanted) return route;
    other = pattern.method;
  }
  if (!other.empty())
    return Unsupported("{} is not offered here; use {}", method.substr(0, 32), other);
  return NotFound(
      "no such path; GET /v2 describes the server, POST /v2/models/NAME/infer asks a "
      "model");
}

}  // namespace minim::serve
