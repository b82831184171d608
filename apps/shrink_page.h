// What `minim shrink` measured, as a page: that of the command and a part of `minim report`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/file.h"

namespace minim {

/// The frontier of metric against latency and size, the table of variants, losses beside the
/// budget, times, memory, sensitivity of ops and ranges of values, as far as `report` (a
/// report.json) has them: what older reports lack is left out, and so is what has a wrong type.
std::string ShrinkSections(const nlohmann::json& report);

/// A page of them.
std::string ShrinkPage(const nlohmann::json& report);

/// The page of a report.json beside it, report.html. Errors: those of reading and writing.
Status WriteShrinkPage(const Path& report);

}  // namespace minim
