// minim doctor: what this machine offers and what is missing.
#include <unistd.h>

#include <thread>

#include "apps/cli.h"
#include "core/isa.h"
#include "exec/tuning.h"

namespace minim {
namespace {

int Doctor() {
  const double gib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                     static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1 << 30);
  fmt::print("cpu      {}, {} cores\n", CpuName(), std::thread::hardware_concurrency());
  fmt::print("memory   {:.1f} GiB\n", gib);
  fmt::print("isa      {} (the CPU's best)\n", Name(DetectIsa()));
  const auto isa = IsaFromEnvironment();
  if (!isa.ok()) return Report(isa.status());
  if (*isa != DetectIsa()) fmt::print("isa      {} in use: MINIM_ISA is set\n", Name(*isa));
  if (*isa < Isa::kAvx512Vnni)
    fmt::print("missing  AVX512-VNNI: INT8 runs on 16-bit multiply-adds, at most 2x FP32\n");
  if (!GainsByBf16(*isa))
    fmt::print(
        "missing  fast BF16 (AMX, or AMD's AVX512-BF16): models asked for in BF16 run in FP32\n");
  if (*isa == Isa::kPortable) fmt::print("missing  AVX2: every kernel is the portable one\n");
  if (const std::optional<Path> path = TuningFile::DefaultPath()) {
    const auto file = TuningFile::Read(*path);
    if (!file.ok()) return Report(file.status());
    if (!file->stale.empty())
      fmt::print("tuning   {}: measured by {}, not used\n", path->string(), file->stale);
    else if (const auto it = file->levels.find(std::string(Name(*isa))); it != file->levels.end())
      fmt::print("tuning   {}: {} steps, {} batches\n", path->string(), it->second.steps(),
                 it->second.batches());
    else
      fmt::print("tuning   none: kernels go by cost models (minim tune measures)\n");
  } else {
    fmt::print("tuning   off\n");
  }
  fmt::print("cuda     not built in\n");
  return 0;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, int& exit_code) {
  AddVerb(app, "doctor", "Show instruction sets, cores, memory, and what is missing",
          "minim doctor", exit_code, Doctor);
}

}  // namespace minim
