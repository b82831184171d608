#include <gtest/gtest.h>

#include <limits>

#include "core/requantize.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

constexpr float kStep = 0.03f, kResultStep = 0.047f;
constexpr int kZero = 100, kResultZero = 77;

// Whole blocks of four, two and one vector, rests of each, nothing; images enough for more than
// one block of pixels, and pixels enough for several threads.
const std::vector<std::vector<int64_t>> kLists = {
    {64}, {131, 32, 5}, {16, 0, 48, 96, 1}, {3}, {200, 200, 31, 7}};

KernelCase CaseOf(const std::vector<int64_t>& list, DType in, DType out, bool rectifies) {
  constexpr int64_t kPixels = 333;
  int64_t channels = 0;
  for (const int64_t count : list) channels += count;
  KernelCase test{.op = "ConcatScale"};
  test.inputs = {Uniform({channels}, 1, -2, 2), Uniform({channels}, 2)};
  for (size_t i = 0; i < list.size(); ++i) {
    const Dims dims = {kPixels, list[i]};
    // Bytes lie beside floats, as in lists whose first image was never quantized.
    const bool bytes = in == DType::u8 && (i > 0 || list.size() == 1);
    test.inputs.push_back(
        bytes ? Bytes(DType::u8, dims, i + 3)
              : Converted(Uniform(dims, i + 3, -3, 3).view(), in == DType::u8 ? DType::f32 : in));
  }
  if (in != DType::u8 && list[0] > 2) {
    Tensor odd = Converted(test.inputs[2].view(), DType::f32);
    odd.as<float>()[0] = std::numeric_limits<float>::infinity();
    odd.as<float>()[1] = out == DType::u8 ? -std::numeric_limits<float>::infinity()
                                          : std::numeric_limits<float>::quiet_NaN();
    test.inputs[2] = Converted(odd.view(), in);
  }
  test.attributes.Set("x_scales", std::vector<float>(list.size(), kStep));
  test.attributes.Set("x_zero_points", std::vector<int64_t>(list.size(), kZero));
  if (out == DType::u8) {
    test.attributes.Set("y_scale", kResultStep);
    test.attributes.Set("y_zero_point", int64_t{kResultZero});
  }
  if (rectifies) test.attributes.Set("activation", std::string("Relu"));
  test.outputs = {Tensor(out, Dims{kPixels, channels})};
  return test;
}

// What each operation in FP32 makes of it, before any rounding to BF16 or bytes.
std::vector<float> Scaled(const KernelCase& test, bool rectifies) {
  const int64_t channels = test.inputs[0].size(), pixels = test.outputs[0].size() / channels;
  const auto scale = test.inputs[0].as<float>(), shift = test.inputs[1].as<float>();
  std::vector<float> y(channels * pixels);
  int64_t first = 0;
  for (size_t image = 2; image < test.inputs.size(); ++image) {
    const Tensor& x = test.inputs[image];
    const int64_t count = x.dims()[1];
    const Tensor wide = Converted(x.view(), DType::f32);
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t at = i / count * channels + first + i % count;
      float value = wide.as<float>()[i];
      if (x.dtype() == DType::u8) value = (value - kZero) * kStep;
      value = value * scale[at % channels] + shift[at % channels];
      y[at] = rectifies && value < 0 ? 0 : value;
    }
    first += count;
  }
  return y;
}

void Check(const KernelCase& test, const std::vector<float>& scaled, const std::string& what) {
  const Tensor& y = test.outputs[0];
  if (y.dtype() == DType::u8) {
    for (size_t i = 0; i < scaled.size(); ++i)
      ASSERT_EQ(y.as<uint8_t>()[i], Requantize(scaled[i] / kResultStep, kResultZero, 0, 255))
          << what << " element " << i << ", " << scaled[i];
    return;
  }
  // A fused multiply-add rounds once where the definition does twice.
  const double error = y.dtype() == DType::bf16 ? 0x1p-8 : 0x1p-22;
  ExpectNear(Converted(y.view(), DType::f32).as<float>(), {scaled.begin(), scaled.end()}, error,
             0x1p-20, what);
}

TEST(ConcatScaleTest, IsWhatItsDefinitionSays) {
  const std::pair<DType, DType> kinds[] = {{DType::f32, DType::f32},
                                           {DType::bf16, DType::bf16},
                                           {DType::u8, DType::f32},
                                           {DType::f32, DType::u8},
                                           {DType::u8, DType::u8}};
  for (const std::vector<int64_t>& list : kLists) {
    for (const auto& [in, out] : kinds) {
      for (const bool rectifies : {false, true}) {
        KernelCase test = CaseOf(list, in, out, rectifies);
        const std::vector<float> scaled = Scaled(test, rectifies);
        for (const Isa isa : TestLevels()) {
          for (const int threads : {1, 3}) {
            test.threads = threads;
            RunCase(test, isa);
            Check(test, scaled,
                  fmt::format("{} images of {} from, {} to {}, {}, {} threads", list.size(),
                              list[0], Name(in), Name(out), Name(isa), threads));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace minim
