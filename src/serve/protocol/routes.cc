#include "serve/protocol/routes.h"

#include <algorithm>
#include <array>
#include <vector>

#include "serve/http/url.h"

namespace minim::serve {
namespace {

constexpr size_t kMostParts = 6;

struct Pattern {
  consteval Pattern(std::string_view wanted, std::string_view path, Endpoint goes_to)
      : method(wanted), endpoint(goes_to) {
    for (size_t slash = 0; slash != std::string_view::npos; ++count) {
      slash = path.find('/');
      parts.at(count) = path.substr(0, slash);
      if (slash != std::string_view::npos) path.remove_prefix(slash + 1);
    }
  }

  std::string_view method;
  std::array<std::string_view, kMostParts> parts;  // "*" takes a model's name, "#" a version
  size_t count = 0;
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

bool Matches(const Pattern& pattern, const std::vector<std::string>& segments) {
  if (segments.size() != pattern.count) return false;
  for (size_t i = 0; i < pattern.count; ++i) {
    const std::string_view part = pattern.parts[i];
    if (part != "*" && part != "#" && part != segments[i]) return false;
  }
  return true;
}

Route RouteOf(const Pattern& pattern, std::vector<std::string>& segments) {
  Route route{.endpoint = pattern.endpoint};
  for (size_t i = 0; i < pattern.count; ++i) {
    if (pattern.parts[i] == "*") route.model = std::move(segments[i]);
    if (pattern.parts[i] == "#") route.version = std::move(segments[i]);
  }
  return route;
}

}  // namespace

Result<Route> FindRoute(std::string_view method, std::string_view target) {
  MINIM_TRY(std::vector<std::string> segments, PathSegments(target));
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  std::string_view other;
  for (const Pattern& pattern : kPatterns) {
    if (!Matches(pattern, segments)) continue;
    if (pattern.method == wanted) return RouteOf(pattern, segments);
    other = pattern.method;
  }
  if (!other.empty())
    return Unsupported("{} is not offered here; use {}", method.substr(0, 32), other);
  return NotFound(
      "no such path; GET /v2 describes the server, POST /v2/models/NAME/infer asks a "
      "model");
}

}  // namespace minim::serve
