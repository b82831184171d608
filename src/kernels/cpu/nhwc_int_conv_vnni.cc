#include "kernels/cpu/nhwc_int_conv.h"
#include "kernels/cpu/nhwc_tile.h"
#include "kernels/cpu/requantizer.h"
#include "kernels/cpu/vnni.h"

namespace minim {
namespace {

struct Vnni {
  using Args = NhwcInts;
  using Vector = __m512i;
  static Vector Start(const Args& args, int panel) {
    return LoadInts(args.starts + panel * kPanel);
  }
  static Vector Pixel(const std::byte* quad) {
    return _mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(quad)));
  }
  static Vector Weights(const std::byte* w) { return LoadInts(w); }
  static Vector Add(Vector sum, Vector x, Vector y) { return AddQuads(sum, x, y); }
  static void Advance(Args&, int64_t) {}
  template <int pixels, int panels>
  static void Store(const Args& args, const Vector (&sum)[pixels][panels]) {
    const Requantizer requantizer(args.is_signed, args.zero_point);
    const int64_t filters = args.run.filters;
    const __mmask64 there = filters < 64 ? (__mmask64{1} << filters) - 1 : ~__mmask64{0};
    for (int i = 0; i < pixels; ++i) {
      __m512i x[4] = {};
      for (int j = 0; j < panels; ++j)
        x[j] = requantizer.Of(sum[i][j], _mm512_loadu_ps(args.scales + j * kPanel));
      _mm512_mask_storeu_epi8(args.run.dst + i * args.run.dst_step, there, requantizer.Join(x));
    }
  }
};

}  // namespace

void RunNhwcIntsVnni(const NhwcInts& ints, int64_t pixels) { RunTiles<Vnni>(ints, pixels); }

}  // namespace minim
