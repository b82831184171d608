// Instruction-set levels of the CPU kernels.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace minim {

enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };
inline constexpr Isa kIsas[] = {Isa::kPortable,   Isa::kAvx2,       Isa::kAvx512,
                                Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmx};

/// "portable", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx".
std::string_view Name(Isa isa);
Result<Isa> IsaFromName(std::string_view name);
/// The processor's name as the operating system gives it.
std::string CpuName();
/// The best level this CPU and operating system run. kAvx512 is F, BW, VL and DQ; kAvx512Vnni adds
/// dot products of integers, kAvx512Bf16 those of BF16, kAmx tiles of both, for which the first
/// call asks the operating system on behalf of the process.
Isa DetectIsa();
/// Whether products of BF16 outrun those of FP32 at a level of this CPU: by tiles; without, on
/// AMD's, which do two for one. Intel's start a quarter as many.
bool GainsByBf16(Isa isa);
/// MINIM_ISA if set (an error if unknown or above what the CPU runs), else DetectIsa(). Reads the
/// environment: call at start-up only.
Result<Isa> IsaFromEnvironment();

}  // namespace minim
