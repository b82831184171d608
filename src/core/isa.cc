#include "core/isa.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace minim {
namespace {
constexpr std::string_view kNames[] = {"portable",    "avx2",        "avx512",
                                       "avx512_vnni", "avx512_bf16", "amx"};

// Linux keeps the registers of tiles (8 KiB a thread) only for processes that asked for them.
bool MayUseTiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  static const bool granted = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

}  // namespace

std::string_view Name(Isa isa) { return kNames[static_cast<int>(isa)]; }

Result<Isa> IsaFromName(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == name) return static_cast<Isa>(i);
  }
  return InvalidArgument("instruction set '{}' is unknown; expected one of: {}", name,
                         fmt::join(kNames, ", "));
}

Isa DetectIsa() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
  const bool amx = bf16 && __builtin_cpu_supports("amx-tile") &&
                   __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-bf16");
  if (amx && MayUseTiles()) return Isa::kAmx;
  if (bf16) return Isa::kAvx512Bf16;
  if (vnni) return Isa::kAvx512Vnni;
  if (avx512) return Isa::kAvx512;
  return avx2 ? Isa::kAvx2 : Isa::kPortable;
}

bool GainsByBf16(Isa isa) {
  return isa >= Isa::kAmx || (isa >= Isa::kAvx512Bf16 && __builtin_cpu_is("amd"));
}

Result<Isa> IsaFromEnvironment() {
  const Isa best = DetectIsa();
  const char* forced = std::getenv("MINIM_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  MINIM_TRY(const Isa isa, IsaFromName(forced));
  if (isa > best)
    return Unsupported(
        "MINIM_ISA={} but this CPU runs at most {}; unset it or choose a lower level", forced,
        Name(best));
  return isa;
}

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown CPU";
}

}  // namespace minim
