// Convolution, its gradients and ConvTranspose against one double-precision definition.
#include <gtest/gtest.h>

#include <functional>

#include "kernels/cpu/test_support.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

struct ConvCase {
  const char* name;
  Dims x, w;
  int64_t groups;
  std::vector<int64_t> strides, dilations, pads;
};

const ConvCase kCases[] = {
    {"3x3", {2, 3, 9, 11}, {5, 3, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"stride", {1, 4, 10, 13}, {18, 4, 3, 3}, 1, {2, 3}, {1, 1}, {0, 1, 2, 1}},
    {"dilated", {1, 2, 12, 40}, {3, 2, 3, 2}, 1, {1, 1}, {2, 3}, {2, 0, 2, 3}},
    {"1x1", {2, 17, 5, 7}, {33, 17, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {"groups", {2, 6, 8, 8}, {4, 3, 3, 3}, 2, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"depthwise", {1, 8, 20, 21}, {8, 1, 3, 3}, 8, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"depthwise stride", {2, 5, 14, 15}, {10, 1, 5, 5}, 5, {2, 2}, {1, 1}, {2, 2, 2, 2}},
    {"1d", {3, 2, 50}, {4, 2, 5}, 1, {2}, {1}, {2, 2}},
    {"3d", {1, 2, 4, 5, 6}, {3, 2, 2, 3, 2}, 1, {1, 2, 1}, {1, 1, 2}, {1, 1, 1, 0, 1, 1}},
    {"large", {1, 40, 20, 20}, {24, 40, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"tiled", {2, 24, 19, 22}, {40, 24, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"tiled narrow", {1, 32, 17, 14}, {110, 32, 3, 3}, 1, {1, 1}, {1, 1}, {0, 1, 1, 0}},
    {"tiled together", {7, 64, 7, 6}, {64, 64, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"tiled in groups", {5, 64, 9, 14}, {64, 32, 3, 3}, 2, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {"wide pad", {1, 1, 2, 2}, {1, 1, 3, 3}, 1, {1, 1}, {1, 1}, {4, 4, 4, 4}},
};

Attributes AttributesFor(const ConvCase& c) {
  return {
      {"group", c.groups}, {"strides", c.strides}, {"dilations", c.dilations}, {"pads", c.pads}};
}

Dims OutDims(const ConvCase& c) {
  Dims out{c.x[0], c.w[0]};
  const int rank = c.x.rank() - 2;
  for (int i = 0; i < rank; ++i) {
    const int64_t reach = (c.w[2 + i] - 1) * c.dilations[i] + 1;
    out.push_back((c.x[2 + i] + c.pads[i] + c.pads[rank + i] - reach) / c.strides[i] + 1);
  }
  return out;
}

// Calls f(x index, w index, y index) for every product of the convolution.
void ForEachProduct(const ConvCase& c, const std::function<void(int64_t, int64_t, int64_t)>& f) {
  const Window w = *WindowOf(AttributesFor(c), c.x, OutDims(c), c.w.span().subspan(2));
  const int64_t m = c.w[0], per_group = m / c.groups, channels = c.w[1];
  for (int64_t n = 0; n < c.x[0]; ++n)
    for (int64_t o = 0; o < m; ++o)
      for (int64_t p = 0; p < w.out_size(); ++p)
        for (int64_t ch = 0; ch < channels; ++ch)
          for (int64_t t = 0; t < w.taps(); ++t) {
            const int64_t out[3] = {p / (w.out[1] * w.out[2]), p / w.out[2] % w.out[1],
                                    p % w.out[2]};
            const int64_t tap[3] = {t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1],
                                    t % w.kernel[2]};
            int64_t at = 0;
            bool inside = true;
            for (int i = 0; i < 3; ++i) {
              const int64_t x = out[i] * w.stride[i] - w.begin[i] + tap[i] * w.dilation[i];
              inside = inside && x >= 0 && x < w.in[i];
              at = at * w.in[i] + x;
            }
            if (!inside) continue;
            const int64_t channel = o / per_group * channels + ch;
            f((n * c.x[1] + channel) * w.in_size() + at, (o * channels + ch) * w.taps() + t,
              (n * m + o) * w.out_size() + p);
          }
}

void ExpectAllLevels(KernelCase& test, const std::vector<double>& expected,
                     const std::string& what) {
  for (int threads : {1, 2}) {
    test.threads = threads;
    for (Isa isa : TestLevels()) {
      std::memset(test.outputs[0].data(), 0xFF, test.outputs[0].bytes());
      RunCase(test, isa);
      ExpectNear(test.outputs[0].as<float>(), expected, 1e-5, 1e-4, what);
    }
  }
}

TEST(ConvTest, ForwardWithBiasResidualAndActivation) {
  for (const ConvCase& c : kCases) {
    const Tensor x = Uniform(c.x, 1), w = Uniform(c.w, 2), b = Uniform({c.w[0]}, 3);
    const Dims out = OutDims(c);
    const Tensor z = Uniform(out, 4);
    std::vector<double> plain(out.Elements()), fused(out.Elements());
    ForEachProduct(c, [&](int64_t i, int64_t j, int64_t k) {
      plain[k] += double(x.as<float>()[i]) * w.as<float>()[j];
    });
    const int64_t pixels = out.Elements(2, out.rank());
    for (size_t i = 0; i < plain.size(); ++i)
      fused[i] = std::max(0.0, plain[i] + b.as<float>()[i / pixels % c.w[0]] + z.as<float>()[i]);
    KernelCase test{.op = "Conv",
                    .attributes = AttributesFor(c),
                    .inputs = {x, w},
                    .outputs = {Tensor(DType::f32, out)}};
    ExpectAllLevels(test, plain, c.name);
    test.constants = {1};
    ExpectAllLevels(test, plain, std::string(c.name) + " constant");
    KernelCase all = test;
    all.op = "FusedConv";
    all.attributes.Set("activation", std::string("Relu"));
    all.inputs = {x, w, b, z};
    ExpectAllLevels(all, fused, std::string(c.name) + " fused");
  }
}

// Whole numbers of [low, high], one after another.
auto Draws(uint64_t seed) {
  return [random = Philox(seed), drawn = uint64_t{0}](int64_t low, int64_t high) mutable {
    return low + int64_t{random.Below(drawn++, static_cast<uint32_t>(high - low + 1))};
  };
}

ConvCase RandomCase(uint64_t seed) {
  auto draw = Draws(seed);
  const bool depthwise = draw(0, 2) == 0;
  const int64_t groups = depthwise ? draw(2, 6) : draw(1, 3), channels = depthwise ? 1 : draw(1, 9);
  const int64_t m = groups * (depthwise ? draw(1, 2) : draw(1, 30));
  const int64_t kh = draw(1, 4), kw = draw(1, 4), dh = draw(1, 2), dw = draw(1, 3);
  const int64_t h = (kh - 1) * dh + draw(1, 19), w = (kw - 1) * dw + draw(1, 40);
  return {"random",
          {draw(1, 2), groups * channels, h, w},
          {m, channels, kh, kw},
          groups,
          {draw(1, 3), draw(1, 3)},
          {dh, dw},
          {draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)}};
}

// Sizes at which tiles of 4x4 pay: 3x3 kernels, enough channels and filters.
ConvCase RandomTiledCase(uint64_t seed) {
  auto draw = Draws(seed);
  const int64_t groups = draw(1, 2), channels = draw(16, 24), m = draw(16, 40);
  const int64_t h = draw(13, 22), w = draw(13, 40);
  return {"tiled",
          {draw(1, 3), groups * channels, h, w},
          {groups * m, channels, 3, 3},
          groups,
          {1, 1},
          {1, 1},
          {draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)}};
}

void ExpectClampedSums(const ConvCase& c, const std::string& what) {
  const Dims out = OutDims(c);
  const Tensor x = Uniform(c.x, 1), w = Uniform(c.w, 2), z = Uniform(out, 4);
  std::vector<double> expected(z.as<float>().begin(), z.as<float>().end());
  ForEachProduct(c, [&](int64_t i, int64_t j, int64_t k) {
    expected[k] += double(x.as<float>()[i]) * w.as<float>()[j];
  });
  for (double& y : expected) y = std::clamp(y, -0.5, 2.0);
  KernelCase test{.op = "FusedConv",
                  .attributes = AttributesFor(c),
                  .inputs = {x, w, Tensor(), z},
                  .outputs = {Tensor(DType::f32, out)},
                  .constants = {1}};
  test.attributes.Set("activation", std::string("Clip"));
  test.attributes.Set("activation_params", std::vector<float>{-0.5f, 2.0f});
  ExpectAllLevels(test, expected, what);
}

// Whatever the shape: no element wrong, none written outside, the same bits on any budget.
TEST(ConvTest, RandomShapes) {
  for (uint64_t seed = 0; seed < 60; ++seed)
    ExpectClampedSums(RandomCase(seed), fmt::format("seed {}", seed));
}

TEST(ConvTest, RandomTiledShapes) {
  for (uint64_t seed = 0; seed < 8; ++seed)
    ExpectClampedSums(RandomTiledCase(seed), fmt::format("tiled seed {}", seed));
}

TEST(ConvTest, Gradients) {
  for (const ConvCase& c : kCases) {
    const Tensor x = Uniform(c.x, 1), w = Uniform(c.w, 2), dy = Uniform(OutDims(c), 3);
    std::vector<double> dx(c.x.Elements()), dw(c.w.Elements());
    ForEachProduct(c, [&](int64_t i, int64_t j, int64_t k) {
      dx[i] += double(dy.as<float>()[k]) * w.as<float>()[j];
      dw[j] += double(dy.as<float>()[k]) * x.as<float>()[i];
    });
    KernelCase input{.op = "ConvInputGrad",
                     .attributes = AttributesFor(c),
                     .inputs = {dy, w},
                     .outputs = {Tensor(DType::f32, c.x)}};
    ExpectAllLevels(input, dx, std::string(c.name) + " dX");
    KernelCase weight{.op = "ConvWeightGrad",
                      .attributes = AttributesFor(c),
                      .inputs = {dy, x},
                      .outputs = {Tensor(DType::f32, c.w)}};
    ExpectAllLevels(weight, dw, std::string(c.name) + " dW");
    KernelCase transpose = input;
    transpose.op = "ConvTranspose";
    ExpectAllLevels(transpose, dx, std::string(c.name) + " transpose");
  }
}

std::string BoundTo(const ConvCase& c, bool constant) {
  KernelCase test{.op = "Conv",
                  .attributes = AttributesFor(c),
                  .inputs = {Uniform(c.x, 1), Uniform(c.w, 2)},
                  .outputs = {Tensor(DType::f32, OutDims(c))}};
  if (constant) test.constants = {1};
  return BoundCase(test, Isa::kPortable).kernel().Describe();
}

TEST(ConvTest, TilesWhereTheyPay) {
  ConvCase c{"", {1, 64, 28, 28}, {64, 64, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}};
  EXPECT_NE(BoundTo(c, true).find("winograd"), std::string::npos) << BoundTo(c, true);
  EXPECT_EQ(BoundTo(c, false).find("winograd"), std::string::npos);
  // A batch repays that filters are transformed anew in every run.
  c.x[0] = 16;
  EXPECT_NE(BoundTo(c, false).find("winograd"), std::string::npos) << BoundTo(c, false);
  c.x[0] = 1;
  c.strides = {2, 2};
  EXPECT_EQ(BoundTo(c, true).find("winograd"), std::string::npos);
  // One image of 7x7: four tiles would not repay reading 36 matrices instead of 9.
  c = {"", {1, 64, 7, 7}, {64, 64, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}};
  EXPECT_EQ(BoundTo(c, true).find("winograd"), std::string::npos);
}

// Against the direct product of the portable level in units of a typical result: the points are
// chosen for this. Higher levels cut direct sums into shorter blocks, which are more accurate, and
// leave the tiles' error as it is.
TEST(ConvTest, TilesAreAboutAsAccurate) {
  const ConvCase c{"", {1, 128, 28, 28}, {32, 128, 3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}};
  const Tensor x = Uniform(c.x, 1), w = Uniform(c.w, 2);
  std::vector<double> expected(OutDims(c).Elements());
  ForEachProduct(c, [&](int64_t i, int64_t j, int64_t k) {
    expected[k] += double(x.as<float>()[i]) * w.as<float>()[j];
  });
  const auto error = [&](bool constant, Isa isa) {
    KernelCase test{.op = "Conv",
                    .attributes = AttributesFor(c),
                    .inputs = {x, w},
                    .outputs = {Tensor(DType::f32, OutDims(c))}};
    if (constant) test.constants = {1};
    RunCase(test, isa);
    double square = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      square += std::pow(test.outputs[0].as<float>()[i] - expected[i], 2);
    return std::sqrt(square / static_cast<double>(expected.size()));
  };
  const double direct = error(false, Isa::kPortable);
  for (Isa isa : TestLevels()) EXPECT_LT(error(true, isa), 4 * direct) << Name(isa);
}

TEST(ConvTest, AutoPadAndEmptyBatch) {
  KernelCase test{.op = "Conv",
                  .attributes = {{"auto_pad", "SAME_LOWER"}, {"strides", std::vector<int64_t>{2}}},
                  .inputs = {Tensor::From<float>({1, 1, 4}, {1, 2, 3, 4}),
                             Tensor::From<float>({1, 1, 3}, {1, 10, 100})},
                  .outputs = {Tensor(DType::f32, {1, 1, 2})}};
  ExpectAllLevels(test, {210, 432}, "SAME_LOWER");
  test.attributes.Set("auto_pad", std::string("SAME_UPPER"));
  ExpectAllLevels(test, {321, 43}, "SAME_UPPER");
  KernelCase empty{.op = "Conv",
                   .inputs = {Tensor(DType::f32, {0, 1, 4}), Tensor(DType::f32, {1, 1, 3})},
                   .outputs = {Tensor(DType::f32, {0, 1, 2})}};
  ExpectAllLevels(empty, {}, "empty");
}

}  // namespace
}  // namespace minim
