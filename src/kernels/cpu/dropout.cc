// Dropout: element i stays if draw i of (seed, step) is at least the ratio.
#include "core/philox.h"
#include "kernels/cpu/bindings.h"

namespace minim {

BindResult DropoutF32(const KernelRequest& request) {
  constexpr int64_t kBlock = 4;  // draws of one Philox block
  const int64_t n = request.outputs[0].dims.Elements();
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  MINIM_TRY(RequireInputs(request, 2, 3, DType::bool_));
  MINIM_TRY(RequireInputs(request, 3, 4, DType::i64));
  const auto seed = static_cast<uint64_t>(AttributesOf(request).Int("seed", 0));
  const auto run = [n, seed](const KernelArgs& args) {
    const float* given = In<float>(args, 1);
    const bool* training = In<bool>(args, 2);
    const int64_t* step = In<int64_t>(args, 3);
    const float ratio = training != nullptr && *training ? (given ? *given : 0.5f) : 0.0f;
    const Philox rng(seed, step ? static_cast<uint64_t>(*step) : 0);
    const float scale = 1 / (1 - ratio);
    const float* x = In<float>(args, 0);
    float* y = Out<float>(args, 0);
    bool* mask = Out<bool>(args, 1);
    const auto blocks = [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        std::array<uint32_t, 4> words = {};
        if (ratio > 0) words = rng.Block(static_cast<uint64_t>(block));
        for (int64_t i = block * kBlock; i < std::min(n, (block + 1) * kBlock); ++i) {
          const float draw = static_cast<float>(words[i % kBlock] >> 8) * 0x1p-24f;
          const bool keep = draw >= ratio;
          y[i] = keep ? x[i] * scale : 0;
          if (mask != nullptr) mask[i] = keep;
        }
      }
    };
    args.threads.ParallelRange((n + kBlock - 1) / kBlock, 2048, blocks);
  };
  return MakeKernel("dropout", run, 0, {0});
}

}  // namespace minim
