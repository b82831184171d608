// GFLOP/s of the heavy kernels at each level. Roofline of one Zen 3 core at f GHz: FP32 FMA 32 f
// GFLOP/s (two 8-wide multiply-adds a cycle); int8 through vpmaddwd 64 f GOP/s less the adds. Of a
// core with two 512-bit ports: vpdpbusd 256 f GOP/s (two of 64 multiply-adds a cycle), vpdpwssd
// half; tiles of bytes 2048 f, of BF16 half. Peak measures what such a core does now, to set the
// others beside.
#include <benchmark/benchmark.h>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

void Measure(benchmark::State& state, KernelCase test, double operations) {
  const auto isa = static_cast<Isa>(state.range(0));
  if (DetectIsa() < isa)
    return state.SkipWithError("not of this machine");  // it enables tiles, too
  BoundCase bound(test, isa);
  if (!bound.ok()) return state.SkipWithError(bound.status().message().c_str());
  for (auto _ : state) bound.Run();
  state.SetLabel(bound.kernel().Describe());
  state.counters["GOP/s"] = benchmark::Counter(
      operations * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

#ifdef __x86_64__
constexpr int kSums = 16;        // enough that none waits for itself
constexpr int kTimes = 1 << 16;  // as often as each is added to

// `times` times 16 instructions whose operands are registers.
#define MINIM_PEAK(name, instruction)                                                             \
  __attribute__((target("avx512f"))) void name() {                                                \
    for (int i = 0; i < kTimes; ++i)                                                              \
      asm volatile(".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t" instruction \
                   " %%zmm31, %%zmm31, %%zmm\\r\n\t.endr" ::                                      \
                       : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",  \
                         "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");           \
  }
MINIM_PEAK(FusedMultiplyAdds, "vfmadd231ps")
MINIM_PEAK(DotProducts, "vpdpbusd")
MINIM_PEAK(Bf16Products, "vdpbf16ps")
#undef MINIM_PEAK

// Six sums of tiles of 16 x 16, by two tiles of 16 rows of 64 bytes.
template <void (*... kAdd)()>
void TileProducts() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.Set(tile, 16, 64);
  LoadConfig(config);
  for (int i = 0; i < kTimes; ++i) (kAdd(), ...);
  ReleaseTiles();
}
constexpr auto* kByteTiles =
    TileProducts<AddByteTiles<0, 6, 7>, AddByteTiles<1, 6, 7>, AddByteTiles<2, 6, 7>,
                 AddByteTiles<3, 6, 7>, AddByteTiles<4, 6, 7>, AddByteTiles<5, 6, 7>>;
constexpr auto* kBf16Tiles =
    TileProducts<AddBf16Tiles<0, 6, 7>, AddBf16Tiles<1, 6, 7>, AddBf16Tiles<2, 6, 7>,
                 AddBf16Tiles<3, 6, 7>, AddBf16Tiles<4, 6, 7>, AddBf16Tiles<5, 6, 7>>;

void Peak(benchmark::State& state, Isa isa, void (*run)(), double products) {
  if (DetectIsa() < isa) return state.SkipWithError("not of this machine");
  for (auto _ : state) run();
  state.counters["GOP/s"] =
      benchmark::Counter(2.0 * products * kTimes * static_cast<double>(state.iterations()) * 1e-9,
                         benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(Peak, vfmadd231ps, Isa::kAvx512, FusedMultiplyAdds, kSums * 16.0);
BENCHMARK_CAPTURE(Peak, vpdpbusd, Isa::kAvx512Vnni, DotProducts, kSums * 64.0);
BENCHMARK_CAPTURE(Peak, vdpbf16ps, Isa::kAvx512Bf16, Bf16Products, kSums * 32.0);
BENCHMARK_CAPTURE(Peak, tdpbusd, Isa::kAmx, kByteTiles, 6 * 16 * 16 * 64.0);
BENCHMARK_CAPTURE(Peak, tdpbf16ps, Isa::kAmx, kBf16Tiles, 6 * 16 * 16 * 32.0);
#endif

void MatMul(benchmark::State& state, int64_t m, int64_t n, int64_t k) {
  Measure(state,
          {.op = "MatMul",
           .inputs = {Uniform({m, k}, 1), Uniform({k, n}, 2)},
           .outputs = {Tensor(DType::f32, {m, n})},
           .constants = {1}},
          2.0 * m * n * k);
}
BENCHMARK_CAPTURE(MatMul, square, 512, 512, 512)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(MatMul, batch32, 32, 512, 512)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(MatMul, batch1, 1, 512, 512)->Arg(0)->Arg(1)->Arg(2);

// Limit: Peak/tdpbf16ps at level 5, Peak/vdpbf16ps at level 4.
void MatMulBf16(benchmark::State& state, int64_t m, int64_t n, int64_t k) {
  Measure(state,
          {.op = "MatMul",
           .inputs = {Converted(Uniform({m, k}, 1).view(), DType::bf16),
                      Converted(Uniform({k, n}, 2).view(), DType::bf16)},
           .outputs = {Tensor(DType::bf16, {m, n})},
           .constants = {1}},
          2.0 * m * n * k);
}
BENCHMARK_CAPTURE(MatMulBf16, attention, 512, 384, 384)->Arg(4)->Arg(5);
BENCHMARK_CAPTURE(MatMulBf16, expanding, 512, 1536, 384)->Arg(4)->Arg(5);
BENCHMARK_CAPTURE(MatMulBf16, narrowing, 512, 384, 1536)->Arg(4)->Arg(5);

void MatMulInteger(benchmark::State& state, int64_t m, int64_t n, int64_t k) {
  Measure(state,
          {.op = "MatMulInteger",
           .inputs = {Integers<uint8_t>({m, k}, 1, 0, 255), Integers<int8_t>({k, n}, 2, -127, 127)},
           .outputs = {Tensor(DType::i32, {m, n})},
           .constants = {1}},
          2.0 * m * n * k);
}
BENCHMARK_CAPTURE(MatMulInteger, square, 512, 512, 512)->Arg(0)->Arg(1)->Arg(3);
BENCHMARK_CAPTURE(MatMulInteger, batch32, 32, 512, 512)->Arg(1)->Arg(3);
BENCHMARK_CAPTURE(MatMulInteger, batch1, 1, 512, 512)->Arg(0)->Arg(1)->Arg(3);

KernelCase ConvOf(const char* op, int64_t n, int64_t c, int64_t hw, int64_t m, int64_t k) {
  const Dims x{n, c, hw, hw}, w{m, c, k, k}, y{n, m, hw, hw};
  const int64_t pad = k / 2;
  KernelCase test{.op = op, .attributes = {{"pads", std::vector<int64_t>{pad, pad, pad, pad}}}};
  const std::string name = op;
  if (name == "Conv" || name == "NhwcFusedConv") {
    const bool last = name != "Conv";
    test.inputs = {Uniform(last ? Dims{n, hw, hw, c} : x, 1), Uniform(w, 2)};
    test.outputs = {Tensor(DType::f32, last ? Dims{n, hw, hw, m} : y)};
    test.constants = {1};
    return test;
  }
  if (name == "ConvInputGrad") {
    test.inputs = {Uniform(y, 1), Uniform(w, 2)};
  } else {
    test.inputs = {Uniform(y, 1), Uniform(x, 2)};
  }
  test.outputs = {Tensor(DType::f32, name == "ConvInputGrad" ? x : w)};
  return test;
}

void Conv(benchmark::State& state, const char* op, int64_t n, int64_t c, int64_t hw, int64_t m,
          int64_t k) {
  Measure(state, ConvOf(op, n, c, hw, m, k), 2.0 * n * c * hw * hw * m * k * k);
}
BENCHMARK_CAPTURE(Conv, forward_64x56, "Conv", 1, 64, 56, 64, 3)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, forward_128x28, "Conv", 1, 128, 28, 128, 3)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, forward_256x14, "Conv", 1, 256, 14, 256, 3)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, forward_512x28, "Conv", 1, 512, 28, 512, 3)->Arg(0)->Arg(1);
BENCHMARK_CAPTURE(Conv, forward_512x14, "Conv", 1, 512, 14, 512, 3)->Arg(0)->Arg(1);
BENCHMARK_CAPTURE(Conv, forward_3x224, "Conv", 1, 3, 224, 64, 3)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, forward_64x224, "Conv", 1, 64, 224, 64, 3)->Arg(1);
BENCHMARK_CAPTURE(Conv, forward_128to32x28, "Conv", 1, 128, 28, 32, 3)->Arg(1);
BENCHMARK_CAPTURE(Conv, pointwise_256x14, "Conv", 1, 256, 14, 1024, 1)->Arg(0)->Arg(1)->Arg(2);
// Channels last: by Winograd's tiles GOP/s are of the direct product, and may pass the peak.
BENCHMARK_CAPTURE(Conv, last_64x56, "NhwcFusedConv", 1, 64, 56, 64, 3)->Arg(2);
BENCHMARK_CAPTURE(Conv, last_256x14, "NhwcFusedConv", 1, 256, 14, 256, 3)->Arg(2);
BENCHMARK_CAPTURE(Conv, last_512x7, "NhwcFusedConv", 1, 512, 7, 512, 3)->Arg(2);
BENCHMARK_CAPTURE(Conv, last_pointwise_256x14, "NhwcFusedConv", 1, 256, 14, 1024, 1)
    ->Arg(2)
    ->Arg(5);
BENCHMARK_CAPTURE(Conv, last_pointwise_64x56, "NhwcFusedConv", 1, 64, 56, 256, 1)->Arg(2)->Arg(5);
BENCHMARK_CAPTURE(Conv, input_gradient_64x28, "ConvInputGrad", 4, 64, 28, 64, 3)
    ->Arg(0)
    ->Arg(1)
    ->Arg(2);
BENCHMARK_CAPTURE(Conv, weight_gradient_64x28, "ConvWeightGrad", 4, 64, 28, 64, 3)
    ->Arg(0)
    ->Arg(1)
    ->Arg(2);
BENCHMARK_CAPTURE(Conv, small_forward, "Conv", 64, 16, 14, 32, 3)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, weight_gradient_64x16, "ConvWeightGrad", 16, 64, 16, 64, 3)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, weight_gradient_32x32, "ConvWeightGrad", 16, 32, 32, 32, 3)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Conv, small_weight_gradient, "ConvWeightGrad", 64, 16, 14, 32, 3)
    ->Arg(0)
    ->Arg(1)
    ->Arg(2);

KernelCase IntConvOf(const char* op, int64_t c, int64_t hw, int64_t m, int64_t k, DType w_dtype) {
  const bool last = std::string_view(op) == "NhwcQLinearConv";
  const Dims x = last ? Dims{1, hw, hw, c} : Dims{1, c, hw, hw}, w{m, c, k, k},
             y = last ? Dims{1, hw, hw, m} : Dims{1, m, hw, hw};
  const int64_t pad = k / 2;
  // Zero points in the middle are those of signed weights; others keep them 16 bits wide. Weights
  // are as large as Winograd's tiles allow of 512 channels.
  const Tensor weights = w_dtype == DType::i8 ? Integers<int8_t>(w, 2, -40, 40)
                                              : Integers<uint8_t>(w, 2, 0, 255),
               zero = w_dtype == DType::i8 ? Tensor::Scalar<int8_t>(0) : Tensor::Scalar<uint8_t>(3),
               pixels = Integers<uint8_t>(x, 1, 0, 255), x_zero = Tensor::Scalar<uint8_t>(7);
  KernelCase test{.op = op, .attributes = {{"pads", std::vector<int64_t>{pad, pad, pad, pad}}}};
  if (test.op == "ConvInteger") {
    test.inputs = {pixels, weights, x_zero, zero};
    test.outputs = {Tensor(DType::i32, y)};
    test.constants = {1, 2, 3};
  } else {
    test.inputs = {pixels,
                   Tensor::Scalar<float>(0.02f),
                   x_zero,
                   weights,
                   Tensor::Scalar<float>(0.01f),
                   zero,
                   Tensor::Scalar<float>(1),
                   Tensor::Scalar<uint8_t>(128)};
    test.outputs = {Tensor(DType::u8, y)};
    test.constants = {2, 3, 5};
  }
  return test;
}

void IntConv(benchmark::State& state, const char* op, int64_t c, int64_t hw, int64_t m, int64_t k,
             DType w_dtype) {
  Measure(state, IntConvOf(op, c, hw, m, k, w_dtype), 2.0 * c * hw * hw * m * k * k);
}
BENCHMARK_CAPTURE(IntConv, sums_64x56, "ConvInteger", 64, 56, 64, 3, DType::i8)->Arg(1)->Arg(3);
BENCHMARK_CAPTURE(IntConv, sums_256x14, "ConvInteger", 256, 14, 256, 3, DType::i8)->Arg(1)->Arg(3);
BENCHMARK_CAPTURE(IntConv, pairs_64x56, "ConvInteger", 64, 56, 64, 3, DType::u8)->Arg(1)->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_64x56, "QLinearConv", 64, 56, 64, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_128x28, "QLinearConv", 128, 28, 128, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_256x14, "QLinearConv", 256, 14, 256, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_512x28, "QLinearConv", 512, 28, 512, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_512x14, "QLinearConv", 512, 14, 512, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_64x224, "QLinearConv", 64, 224, 64, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_32x112, "QLinearConv", 32, 112, 32, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_3x224, "QLinearConv", 3, 224, 64, 3, DType::i8)
    ->Arg(1)
    ->Arg(3);
BENCHMARK_CAPTURE(IntConv, quantized_pointwise, "QLinearConv", 256, 14, 1024, 1, DType::i8)
    ->Arg(1)
    ->Arg(3);

BENCHMARK_CAPTURE(IntConv, last_64x56, "NhwcQLinearConv", 64, 56, 64, 3, DType::i8)->Arg(3)->Arg(5);
BENCHMARK_CAPTURE(IntConv, last_256x14, "NhwcQLinearConv", 256, 14, 256, 3, DType::i8)
    ->Arg(3)
    ->Arg(5);
BENCHMARK_CAPTURE(IntConv, last_pointwise, "NhwcQLinearConv", 256, 14, 1024, 1, DType::i8)
    ->Arg(3)
    ->Arg(5);
BENCHMARK_CAPTURE(IntConv, last_pointwise_64x56, "NhwcQLinearConv", 64, 56, 256, 1, DType::i8)
    ->Arg(3)
    ->Arg(5);
BENCHMARK_CAPTURE(IntConv, last_32_filters, "NhwcQLinearConv", 128, 28, 32, 3, DType::i8)->Arg(3);

// Each plane has a filter of its own: 9 multiply-adds for each float that is read and written.
void Depthwise(benchmark::State& state, int64_t c, int64_t hw) {
  Measure(state,
          {.op = "Conv",
           .attributes = {{"group", c}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}},
           .inputs = {Uniform({1, c, hw, hw}, 1), Uniform({c, 1, 3, 3}, 2)},
           .outputs = {Tensor(DType::f32, {1, c, hw, hw})},
           .constants = {1}},
          2.0 * 9 * c * hw * hw);
}
BENCHMARK_CAPTURE(Depthwise, 136x28, 136, 28)->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Depthwise, 272x14, 272, 14)->Arg(0)->Arg(1)->Arg(2);

void QuantizedLstm(benchmark::State& state, int64_t batch, int64_t hidden) {
  const int64_t steps = 20, gates = 4 * hidden;
  const Tensor scales = Tensor::From<float>({1}, {0.001f}), zeros(DType::i8, {1});
  Measure(state,
          {.op = "DynamicQuantizeLSTM",
           .attributes = {{"hidden_size", hidden}},
           .inputs = {Uniform({steps, batch, hidden}, 1),
                      Integers<int8_t>({1, hidden, gates}, 2, -127, 127),
                      Integers<int8_t>({1, hidden, gates}, 3, -127, 127), Tensor(), Tensor(),
                      Tensor(), Tensor(), Tensor(), scales, zeros, scales, zeros},
           .outputs = {Tensor(DType::f32, {steps, 1, batch, hidden})},
           .constants = {1, 2, 8, 9, 10, 11}},
          2.0 * steps * batch * 2 * hidden * gates);
}
BENCHMARK_CAPTURE(QuantizedLstm, batch1, 1, 256)->Arg(1)->Arg(2)->Arg(3);
BENCHMARK_CAPTURE(QuantizedLstm, batch16, 16, 256)->Arg(1)->Arg(2)->Arg(3);

void Elementwise(benchmark::State& state, const char* op) {
  Measure(state,
          {.op = op, .inputs = {Uniform({65536}, 1)}, .outputs = {Tensor(DType::f32, {65536})}},
          65536);
}
BENCHMARK_CAPTURE(Elementwise, relu, "Relu")->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Elementwise, exp, "Exp")->Arg(0)->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(Elementwise, gelu, "Gelu")->Arg(0)->Arg(1)->Arg(2);

void MaxPool(benchmark::State& state) {
  Measure(state,
          {.op = "MaxPool",
           .attributes = {{"kernel_shape", std::vector<int64_t>{2, 2}},
                          {"strides", std::vector<int64_t>{2, 2}}},
           .inputs = {Uniform({64, 16, 28, 28}, 1)},
           .outputs = {Tensor(DType::f32, {64, 16, 14, 14})}},
          64.0 * 16 * 28 * 28);
}
BENCHMARK(MaxPool)->Arg(0);

}  // namespace
}  // namespace minim
