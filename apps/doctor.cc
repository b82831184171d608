// minim doctor: what this machine offers and what is missing.
#include <unistd.h>

#include <fstream>
#include <thread>

#include "apps/cli.h"
#include "core/isa.h"

namespace minim {
namespace {

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown CPU";
}

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
  fmt::print("cuda     not built in\n");
  return 0;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, int& exit_code) {
  AddVerb(app, "doctor", "Show instruction sets, cores, memory, and what is missing",
          "minim doctor", exit_code, Doctor);
}

}  // namespace minim
