#include "kernels/cpu/nhwc_int_level.h"
#include "kernels/cpu/nhwc_tile.h"

namespace minim {

const NhwcIntLevel& NhwcIntVnni() {
  static constexpr NhwcIntLevel kLevel{.name = "avx512_vnni 6x64",
                                       .quads_per_thread = 500e3,
                                       .to_bytes = RunTiles<ToBytes>,
                                       .to_sums = RunTiles<ToSums>,
                                       .to_floats = RunTiles<ToFloats>};
  return kLevel;
}

}  // namespace minim
