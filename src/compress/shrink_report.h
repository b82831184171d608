// report.json: what shrink measured, for pages, servers and drift detection.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "compress/shrink.h"

namespace minim {

/// `key` names the files and options of the run.
nlohmann::json ShrinkReportJson(const ShrinkReport& report, const ShrinkOptions& options,
                                const std::string& key);
/// The numbers of the variants of such a text, if it is of the run `key`.
std::optional<ShrinkReport> ReportOfRun(std::string_view text, const std::string& key);

nlohmann::json SensitivityJson(const std::vector<OpSensitivity>& sensitivity);
/// Errors: kDataLoss.
Result<std::vector<OpSensitivity>> SensitivityFromJson(std::string_view text);

/// The files in variants/ that such a text names.
std::vector<std::string> VariantFiles(std::string_view text);

}  // namespace minim
