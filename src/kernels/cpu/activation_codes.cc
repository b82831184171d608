// EncodeActivation and DecodeActivation, group by group.
#include "core/group_codes.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

constexpr int64_t kGroupsAtOnce = 16;

BindResult BindEncode(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 1, DType::f32));
  MINIM_TRY(RequireInputs(request, 1, 2, DType::i64));
  const int64_t n = request.inputs[0].dims.Elements();
  const auto bits = static_cast<int>(AttributesOf(request).Int("bits", 8));
  const auto seed = static_cast<uint64_t>(AttributesOf(request).Int("seed", 0));
  const auto run = [n, bits, seed, encode = level.encode_group](const KernelArgs& args) {
    const int64_t* number = In<int64_t>(args, 1);
    const uint64_t stream = number ? static_cast<uint64_t>(*number) : 0;
    const float* x = In<float>(args, 0);
    uint8_t* codes = Out<uint8_t>(args, 0);
    float* ranges = Out<float>(args, 1);
    args.threads.ParallelRange(CodeGroups(n), kGroupsAtOnce, [&](int64_t first, int64_t last) {
      for (int64_t g = first; g < last; ++g)
        encode(x + g * kCodeGroup, std::min(kCodeGroup, n - g * kCodeGroup), bits, seed, stream, g,
               codes + g * CodeBytes(bits), ranges + 2 * g);
    });
  };
  return MakeKernel(fmt::format("{} bits {}", bits, level.name), run);
}

BindResult BindDecode(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, 1, DType::u8));
  MINIM_TRY(RequireInputs(request, 1, 2, DType::f32));
  const int64_t n = request.outputs[0].dims.Elements();
  const auto bits = static_cast<int>(AttributesOf(request).Int("bits", 8));
  const auto run = [n, bits, decode = level.decode_group](const KernelArgs& args) {
    const uint8_t* codes = In<uint8_t>(args, 0);
    const float* ranges = In<float>(args, 1);
    float* y = Out<float>(args, 0);
    args.threads.ParallelRange(CodeGroups(n), kGroupsAtOnce, [&](int64_t first, int64_t last) {
      for (int64_t g = first; g < last; ++g)
        decode(codes + g * CodeBytes(bits), ranges + 2 * g, bits,
               std::min(kCodeGroup, n - g * kCodeGroup), y + g * kCodeGroup);
    });
  };
  return MakeKernel(fmt::format("{} bits {}", bits, level.name), run);
}

}  // namespace

BindResult EncodeActivationAvx2(const KernelRequest& request) {
  return BindEncode(request, WidestRows(request.isa));
}
BindResult EncodeActivationPortable(const KernelRequest& request) {
  return BindEncode(request, RowsPortable());
}
BindResult DecodeActivationAvx2(const KernelRequest& request) {
  return BindDecode(request, WidestRows(request.isa));
}
BindResult DecodeActivationPortable(const KernelRequest& request) {
  return BindDecode(request, RowsPortable());
}

}  // namespace minim
