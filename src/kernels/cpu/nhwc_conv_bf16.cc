#include "kernels/cpu/nhwc_half_level.h"
#include "kernels/cpu/nhwc_tile.h"

namespace minim {

const NhwcHalfLevel& NhwcHalfBf16() {
  static constexpr NhwcHalfLevel kLevel{.name = "avx512_bf16 6x64",
                                        .products_per_thread = 200e3,
                                        .run = RunTiles<Dots>,
                                        .pack = PackColumns};
  return kLevel;
}

}  // namespace minim
