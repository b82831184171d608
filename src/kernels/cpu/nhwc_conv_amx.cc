#include "kernels/cpu/nhwc_amx.h"
#include "kernels/cpu/nhwc_half_level.h"

namespace minim {
namespace {

struct Tiles : Dots {
  template <int sum, int x, int y>
  static void AddTiles() {
    AddBf16Tiles<sum, x, y>();
  }
};

void Run(const NhwcHalves& halves, int64_t pixels) { TileRunner<Tiles>(halves, pixels).Run(); }

}  // namespace

const NhwcHalfLevel& NhwcHalfAmx() {
  static constexpr NhwcHalfLevel kLevel{.name = "amx 32x32",
                                        .products_per_thread = 6e6,
                                        .least_products = 100e3,
                                        .run = Run,
                                        .pack = PackColumns,
                                        .joins_lines = true,
                                        .release = ReleaseTiles};
  return kLevel;
}

}  // namespace minim
