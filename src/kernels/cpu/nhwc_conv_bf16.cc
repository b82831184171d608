#include "kernels/cpu/nhwc_half_store.h"
#include "kernels/cpu/nhwc_tile.h"

namespace minim {
namespace {

// A quad is two BF16.
struct Dots {
  using Args = NhwcHalves;
  using Vector = __m512;
  static Vector Start(const Args& args, int panel) {
    return _mm512_loadu_ps(args.starts + panel * kPanel);
  }
  static Vector Pixel(const std::byte* quad) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(quad))));
  }
  static Vector Weights(const std::byte* w) { return _mm512_loadu_ps(w); }
  static Vector Add(Vector sum, Vector x, Vector y) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
  }
  static void Advance(Args& args, int64_t pixels) {
    if (args.residual) args.residual += pixels * args.run.dst_step;
  }
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    const __mmask16 last = FiltersOf(args.run, panels - 1);
    for (int i = 0; i < pixels; ++i)
      for (int j = 0; j < panels; ++j)
        StoreHalves(args, i, j, j + 1 < panels ? __mmask16{0xFFFF} : last, sum[i][j]);
  }
};

}  // namespace

void RunNhwcHalvesBf16(const NhwcHalves& halves, int64_t pixels) { RunTiles<Dots>(halves, pixels); }

}  // namespace minim
