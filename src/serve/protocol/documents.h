// The small JSON documents of the protocol: metadata, configuration, statistics, index.
#pragma once

#include <string>
#include <vector>

#include "serve/repository/repository.h"

namespace minim::serve {

std::string ServerMetadataJson(std::string_view server_version);
std::string ModelMetadataJson(const ServedVersion& version,
                              const std::vector<std::string>& all_versions);
std::string ModelConfigJson(const ServedVersion& version);
std::string ModelStatsJson(const std::vector<std::shared_ptr<const ServedVersion>>& versions);
std::string TiersJson(const ServedVersion& version);
std::string RolloutJson(const ServedVersion& version);
std::string IndexJson(const std::vector<IndexEntry>& entries);

}  // namespace minim::serve
