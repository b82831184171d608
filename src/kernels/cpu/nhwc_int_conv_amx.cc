#include "kernels/cpu/nhwc_amx.h"
#include "kernels/cpu/nhwc_int_level.h"

namespace minim {
namespace {

template <typename Base>
struct Amx : Base {
  template <int sum, int x, int y>
  static void AddTiles() {
    AddByteTiles<sum, x, y>();
  }
};

template <typename Level>
void Run(const typename Level::Args& args, int64_t pixels) {
  TileRunner<Level>(args, pixels).Run();
}

}  // namespace

const NhwcIntLevel& NhwcIntAmx() {
  static constexpr NhwcIntLevel kLevel{.name = "amx 32x32",
                                       .quads_per_thread = 3e6,
                                       .to_bytes = Run<Amx<ToBytes>>,
                                       .to_sums = Run<Amx<ToSums>>,
                                       .to_floats = Run<Amx<ToFloats>>,
                                       .joins_lines = true,
                                       .release = ReleaseTiles};
  return kLevel;
}

}  // namespace minim
