// The curves of a training log: what `minim train` and `minim report` show.
#pragma once

#include <string>

#include "minim/status.h"

namespace minim {

/// Charts of loss, metrics of the test set, learning rate, gradient norm and loss scale, as SVG,
/// from the JSON lines that training writes. Curves that the log has nothing about are left out.
/// Errors: kNotFound.
Result<std::string> TrainCharts(const std::string& log);

/// A page of the charts. Errors: those of reading the log and writing the page.
Status WriteTrainPage(const std::string& log, const std::string& page);

}  // namespace minim
