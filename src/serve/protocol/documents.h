// The small JSON documents of the protocol: metadata, configuration, statistics, index.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/repository/repository.h"

namespace minim::serve {

/// How long a request may wait for others, as model configurations say it.
int64_t QueueDelayMicroseconds(const ServingConfig& config);

inline constexpr std::string_view kPlatform = "onnx_minim";
/// The parts of the protocol beyond its core that are offered.
std::span<const std::string_view> ServerExtensions();

std::string ServerMetadataJson(std::string_view server_version);
std::string ModelMetadataJson(const ServedVersion& version,
                              const std::vector<std::string>& all_versions);
std::string ModelConfigJson(const ServedVersion& version);
std::string ModelStatsJson(const std::vector<std::shared_ptr<const ServedVersion>>& versions);
std::string TiersJson(const ServedVersion& version);
std::string RolloutJson(const ServedVersion& version);
std::string IndexJson(const std::vector<IndexEntry>& entries);

}  // namespace minim::serve
