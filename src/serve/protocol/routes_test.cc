#include "serve/protocol/routes.h"

#include <gtest/gtest.h>

namespace minim::serve {
namespace {

struct Row {
  const char* method;
  const char* target;
  Endpoint endpoint;
  std::string model;
  std::string version;
};

const Row kRows[] = {
    {"GET", "/v2", Endpoint::kServerMetadata},
    {"GET", "/v2/", Endpoint::kServerMetadata},
    {"HEAD", "/v2/health/live", Endpoint::kLive},
    {"GET", "/v2/health/ready?x=1", Endpoint::kReady},
    {"GET", "/v2/models/stats", Endpoint::kAllStats},
    {"GET", "/v2/models/m%20n", Endpoint::kModelMetadata, "m n"},
    {"GET", "/v2/models/m/versions/2", Endpoint::kModelMetadata, "m", "2"},
    {"GET", "/v2/models/m/ready", Endpoint::kModelReady, "m"},
    {"GET", "/v2/models/m/versions/2/config", Endpoint::kModelConfig, "m", "2"},
    {"GET", "/v2/models/m/stats", Endpoint::kModelStats, "m"},
    {"POST", "/v2/models/m/infer", Endpoint::kInfer, "m"},
    {"POST", "/v2/models/%2e%2e%2fetc/infer", Endpoint::kInfer, "../etc"},
    {"POST", "/v2/models/m/versions/9/infer", Endpoint::kInfer, "m", "9"},
    {"POST", "/v2/repository/index", Endpoint::kRepositoryIndex},
    {"POST", "/v2/repository/models/m/load", Endpoint::kRepositoryLoad, "m"},
    {"POST", "/v2/repository/models/m/unload", Endpoint::kRepositoryUnload, "m"},
    {"GET", "/metrics", Endpoint::kMetrics},
};

TEST(RoutesTest, Table) {
  for (const Row& row : kRows) {
    const auto route = FindRoute(row.method, row.target);
    ASSERT_TRUE(route.ok()) << row.target;
    EXPECT_EQ(route->endpoint, row.endpoint) << row.target;
    EXPECT_EQ(route->model, row.model) << row.target;
    EXPECT_EQ(route->version, row.version) << row.target;
  }
}

TEST(RoutesTest, OtherPathsAndMethods) {
  for (const char* target :
       {"/", "/v1", "/v2/models", "/v2/models/m/infer/x", "/v2/models/m/versions/1/versions/2"})
    EXPECT_EQ(FindRoute("GET", target).status().code(), StatusCode::kNotFound) << target;
  EXPECT_EQ(FindRoute("GET", "/v2/models/m/infer").status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(FindRoute("DELETE", "/v2").status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(FindRoute("GET", "/%zz").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace minim::serve
