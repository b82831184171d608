#include "kernels/cpu/nhwc_conv.h"
#include "kernels/cpu/nhwc_tile.h"

namespace minim {
namespace {

struct Fma {
  using Args = NhwcFloats;
  using Vector = __m512;
  static Vector Start(const Args& args, int panel) {
    return _mm512_loadu_ps(args.starts + panel * kPanel);
  }
  static Vector Pixel(const std::byte* quad) {
    return _mm512_set1_ps(*reinterpret_cast<const float*>(quad));
  }
  static Vector Weights(const std::byte* w) { return _mm512_loadu_ps(w); }
  static Vector Add(Vector sum, Vector x, Vector y) { return _mm512_fmadd_ps(x, y, sum); }
  static void Advance(Args& args, int64_t pixels) {
    if (args.residual) args.residual += pixels * args.run.dst_step;
  }
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    const NhwcRun& t = args.run;
    const __m512 low = _mm512_set1_ps(args.low), high = _mm512_set1_ps(args.high);
    const int64_t last = t.filters - (panels - 1) * kPanel;
    for (int i = 0; i < pixels; ++i)
      for (int j = 0; j < panels; ++j) {
        const auto there =
            static_cast<__mmask16>(j + 1 < panels ? 0xFFFF : (uint32_t{1} << last) - 1);
        const int64_t at = i * t.dst_step + j * kPanel * 4;
        __m512 y = sum[i][j];
        if (args.residual) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(there, args.residual + at));
        y = _mm512_min_ps(high, _mm512_max_ps(low, y));
        _mm512_mask_storeu_ps(t.dst + at, there, y);
      }
  }
};

}  // namespace

void RunNhwcFloatsAvx512(const NhwcFloats& floats, int64_t pixels) {
  RunTiles<Fma>(floats, pixels);
}

}  // namespace minim
