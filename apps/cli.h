// What every verb of the `minim` binary shares.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "minim/session.h"

namespace minim {

inline constexpr int kExitFailed = 1;  // the work itself failed: a mismatch, a refusal
inline constexpr int kExitUsage = 2;   // wrong arguments, missing or malformed files

/// Prints "minim: message" to stderr and returns the exit code for it.
int Report(const Status& status);

/// Adds a verb whose body is `run`; its exit code goes to `exit_code`.
CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& help,
                  const std::string& example, int& exit_code, std::function<int()> run);

/// Options that choose how a model is loaded: --threads, --precision, --skip-pass.
struct ModelOptions {
  std::string model;
  int threads = 1;
  std::string precision = "fp32";
  std::vector<std::string> skip_passes;
};
void AddModelOptions(CLI::App& verb, ModelOptions& options);
Result<std::shared_ptr<Session>> LoadModel(const ModelOptions& options);

/// Reads .npy, .npz (one tensor per input name), or ONNX TensorProto .pb files given as
/// [NAME=]FILE, in the order of the session's inputs.
Result<std::vector<Tensor>> ReadInputs(const Session& session,
                                       const std::vector<std::string>& files);

/// "name=1x3x224x224" pairs; dims for every input, symbolic ones taking `batch` when not named.
Result<std::vector<Dims>> InputDims(const Session& session, const std::vector<std::string>& shapes,
                                    int64_t batch);

/// Uniform in [0, 1); whole numbers below 8 where an input takes integers.
std::vector<Tensor> RandomInputs(const Session& session, const std::vector<Dims>& dims,
                                 uint64_t seed);

void AddTrainCommand(CLI::App& app, int& exit_code);
void AddShrinkCommand(CLI::App& app, int& exit_code);
void AddReportCommand(CLI::App& app, int& exit_code);
void AddRunCommand(CLI::App& app, int& exit_code);
void AddCompareCommand(CLI::App& app, int& exit_code);
void AddBenchCommand(CLI::App& app, int& exit_code);
void AddInspectCommand(CLI::App& app, int& exit_code);
void AddExplainCommand(CLI::App& app, int& exit_code);
void AddTuneCommand(CLI::App& app, int& exit_code);
void AddDoctorCommand(CLI::App& app, int& exit_code);
void AddLoadCommand(CLI::App& app, int& exit_code);
void AddWatchCommands(CLI::App& app, int& exit_code);  // stats, top

/// Prints what a running server holds in memory, and what to do about it.
Status ExplainServer(const std::string& url);

}  // namespace minim
