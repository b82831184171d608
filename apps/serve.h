// minim serve: models over HTTP.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "serve/server.h"

namespace minim {

/// Serves until SIGTERM or SIGINT, then drains. Returns the exit code; errors are one line on
/// stderr.
int RunServe(const serve::ServerOptions& options);

/// The verb. Its exit code goes to `exit_code`.
void AddServeCommand(CLI::App& app, int& exit_code);

}  // namespace minim
