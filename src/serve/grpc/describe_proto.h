// What the small JSON documents of protocol/documents.h say, as protobuf messages.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/repository/repository.h"

namespace inference {
class ModelConfig;
class ModelMetadataResponse;
class ModelStatisticsResponse;
class RepositoryIndexResponse;
class ServerMetadataResponse;
}  // namespace inference

namespace minim::serve {

void DescribeServer(std::string_view server_version, inference::ServerMetadataResponse& message);
void DescribeModel(const ServedVersion& version, const std::vector<std::string>& all_versions,
                   inference::ModelMetadataResponse& message);
void DescribeConfig(const ServedVersion& version, inference::ModelConfig& message);
void DescribeStats(const std::vector<std::shared_ptr<const ServedVersion>>& versions,
                   inference::ModelStatisticsResponse& message);
void DescribeIndex(const std::vector<IndexEntry>& entries, bool only_ready,
                   inference::RepositoryIndexResponse& message);

}  // namespace minim::serve
