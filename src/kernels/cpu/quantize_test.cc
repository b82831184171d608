// Quantized ops against the ONNX formulas, at every level with the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/requantize.h"
#include "kernels/cpu/test_support.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

using testing::ElementsAre;

void ExpectSameAtEveryLevel(KernelCase& test, const Tensor& expected, const std::string& what) {
  for (int threads : {1, 2}) {
    test.threads = threads;
    for (Isa isa : TestLevels()) {
      std::memset(test.outputs[0].data(), 0xCC, test.outputs[0].bytes());
      RunCase(test, isa);
      ASSERT_TRUE(SameBytes(test.outputs[0], expected)) << what << " at " << Name(isa);
    }
  }
}

int32_t ByteAt(const Tensor& t, int64_t i) {
  if (!t.defined()) return 0;
  const int64_t at = t.size() == 1 ? 0 : i;
  return t.dtype() == DType::u8 ? t.as<uint8_t>()[at] : t.as<int8_t>()[at];
}

Tensor Sums(const Tensor& a, const Tensor& b, const Tensor& za, const Tensor& zb, int64_t m,
            int64_t n, int64_t k) {
  Tensor y(DType::i32, {m, n});
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      int32_t sum = 0;
      for (int64_t q = 0; q < k; ++q)
        sum += (ByteAt(a, i * k + q) - ByteAt(za, i)) * (ByteAt(b, q * n + j) - ByteAt(zb, j));
      y.as<int32_t>()[i * n + j] = sum;
    }
  }
  return y;
}

TEST(QuantizeTest, MatMulIntegerDoesNotSaturate) {
  for (const auto& [m, n, k] :
       {std::tuple{1, 1, 1}, {7, 33, 19}, {13, 16, 1000}, {50, 5, 64}, {3, 20, 0}}) {
    for (DType ta : {DType::u8, DType::i8}) {
      for (DType tb : {DType::u8, DType::i8}) {
        KernelCase test{.op = "MatMulInteger",
                        .inputs = {Bytes(ta, {m, k}, 1), Bytes(tb, {k, n}, 2), Bytes(ta, {}, 3),
                                   Bytes(tb, {n}, 4)},
                        .outputs = {Tensor(DType::i32, {m, n})}};
        const Tensor expected =
            Sums(test.inputs[0], test.inputs[1], test.inputs[2], test.inputs[3], m, n, k);
        ExpectSameAtEveryLevel(test, expected, "run time");
        test.constants = {1, 3};
        ExpectSameAtEveryLevel(test, expected, "packed");
      }
    }
  }
}

TEST(QuantizeTest, ExtremesNeedMoreThanSixteenBits) {
  KernelCase test{.op = "MatMulInteger",
                  .inputs = {Tensor(DType::u8, {1, 300}), Tensor(DType::i8, {300, 17})},
                  .outputs = {Tensor(DType::i32, {1, 17})}};
  for (auto& x : test.inputs[0].as<uint8_t>()) x = 255;
  for (auto& x : test.inputs[1].as<int8_t>()) x = -128;
  Tensor expected(DType::i32, {1, 17});
  for (auto& y : expected.as<int32_t>()) y = 255 * -128 * 300;
  ExpectSameAtEveryLevel(test, expected, "extremes");
}

Tensor Filled(DType dtype, const Dims& dims, int value) {
  Tensor tensor(dtype, dims);
  std::memset(tensor.data(), value, tensor.bytes());
  return tensor;
}

// Signed bytes go another way than bytes with zero points of any kind.
TEST(QuantizeTest, SignedBytesAtTheirExtremes) {
  const int64_t m = 7, n = 33;
  for (DType ta : {DType::u8, DType::i8}) {
    for (DType tb : {DType::u8, DType::i8}) {
      const Tensor middle = Filled(tb, {n}, tb == DType::u8 ? 128 : 0);
      for (int a : {0, 1, 127, 128, 255, -1}) {
        for (int b : {0, 127, 128, 255, -1}) {
          const int64_t k = a < 0 && b < 0 ? 1603 : 37;
          const Tensor x = a < 0 ? Bytes(ta, {m, k}, 1) : Filled(ta, {m, k}, a),
                       w = b < 0 ? Bytes(tb, {k, n}, 2) : Filled(tb, {k, n}, b);
          for (const Tensor& zero : {Filled(ta, {}, 0), Filled(ta, {}, 255), Bytes(ta, {m}, 3)}) {
            KernelCase test{.op = "MatMulInteger",
                            .inputs = {x, w, zero, middle},
                            .outputs = {Tensor(DType::i32, {m, n})},
                            .constants = {1, 3},
                            .threads = 2};
            ExpectSameAtEveryLevel(test, Sums(x, w, zero, middle, m, n, k),
                                   fmt::format("{} {}", a, b));
          }
        }
      }
    }
  }
}

// By rows and by columns over threads, in every width of a tile, and some in blocks of rows and
// depth; signed bytes, and pairs.
TEST(QuantizeTest, ProductsCutIntoTilesAndThreads) {
  for (const auto& [m, n, k] : {std::tuple{210, 97, 203},
                                {42, 330, 300},
                                {3, 250, 70},
                                {101, 16, 1100},
                                {6, 30, 9},
                                {5, 47, 12},
                                {4, 64, 13}}) {
    const Tensor x = Bytes(DType::u8, {m, k}, 1), w = Bytes(DType::i8, {k, n}, 2),
                 zx = Bytes(DType::u8, {}, 3);
    for (const Tensor& zw : {Tensor(DType::i8, {}), Tensor::Scalar<int8_t>(5)}) {
      KernelCase test{.op = "MatMulInteger",
                      .inputs = {x, w, zx, zw},
                      .outputs = {Tensor(DType::i32, {m, n})},
                      .constants = {1, 3}};
      ExpectSameAtEveryLevel(test, Sums(x, w, zx, zw, m, n, k), fmt::format("{} {} {}", m, n, k));
    }
  }
}

TEST(QuantizeTest, QLinearMatMulPerColumn) {
  const int64_t m = 9, n = 21, k = 40;
  for (DType ty : {DType::u8, DType::i8}) {
    KernelCase test{.op = "QLinearMatMul",
                    .inputs = {Bytes(DType::u8, {m, k}, 1), Tensor::Scalar<float>(0.02f),
                               Bytes(DType::u8, {}, 2), Bytes(DType::i8, {k, n}, 3),
                               Uniform({n}, 4, 0.001f, 0.02f), Tensor(DType::i8, {n}),
                               Tensor::Scalar<float>(0.1f), Bytes(ty, {}, 5)},
                    .outputs = {Tensor(ty, {m, n})}};
    const Tensor sums =
        Sums(test.inputs[0], test.inputs[3], test.inputs[2], test.inputs[5], m, n, k);
    Tensor expected(ty, {m, n});
    for (int64_t i = 0; i < m * n; ++i) {
      const float scale = RequantizeScale(0.02f, test.inputs[4].as<float>()[i % n], 0.1f);
      const int32_t zero = ByteAt(test.inputs[7], 0), low = ty == DType::u8 ? 0 : -128;
      const int32_t y =
          Requantize(static_cast<float>(sums.as<int32_t>()[i]) * scale, zero, low, low + 255);
      if (ty == DType::u8)
        expected.as<uint8_t>()[i] = static_cast<uint8_t>(y);
      else
        expected.as<int8_t>()[i] = static_cast<int8_t>(y);
    }
    ExpectSameAtEveryLevel(test, expected, "QLinearMatMul");
  }
}

TEST(QuantizeTest, QGemmFloatResultWithBias) {
  const int64_t m = 4, n = 18, k = 7;
  KernelCase test{
      .op = "QGemm",
      .attributes = {{"transB", int64_t{1}}, {"alpha", 2.0f}},
      .inputs = {Bytes(DType::u8, {m, k}, 1), Tensor::Scalar<float>(0.5f), Bytes(DType::u8, {}, 2),
                 Bytes(DType::i8, {n, k}, 3), Tensor::Scalar<float>(0.25f),
                 Tensor::Scalar<int8_t>(0), Integers<int32_t>({n}, 4, -1000, 1000)},
      .outputs = {Tensor(DType::f32, {m, n})}};
  Tensor expected(DType::f32, {m, n});
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      int32_t sum = test.inputs[6].as<int32_t>()[j];
      for (int64_t q = 0; q < k; ++q)
        sum += (ByteAt(test.inputs[0], i * k + q) - ByteAt(test.inputs[2], 0)) *
               ByteAt(test.inputs[3], j * k + q);
      expected.as<float>()[i * n + j] = static_cast<float>(sum) * 0.25f;
    }
  }
  ExpectSameAtEveryLevel(test, expected, "QGemm");
}

TEST(QuantizeTest, RowQuantizedMatMulIgnoresItsNeighbours) {
  const int64_t m = 5, n = 19, k = 33;
  const Tensor x = Uniform({m, k}, 1, -3, 3), w = Bytes(DType::i8, {k, n}, 2),
               scale = Uniform({n}, 3, 0.01f, 0.02f), bias = Uniform({n}, 4);
  Tensor expected(DType::f32, {m, n});
  for (int64_t i = 0; i < m; ++i) {
    float most = 0;
    for (int64_t q = 0; q < k; ++q) most = std::max(most, std::fabs(x.as<float>()[i * k + q]));
    const float row = most / 127.0f;
    for (int64_t j = 0; j < n; ++j) {
      int32_t sum = 0;
      for (int64_t q = 0; q < k; ++q)
        sum += Requantize(x.as<float>()[i * k + q] / row, 0, -127, 127) * w.as<int8_t>()[q * n + j];
      expected.as<float>()[i * n + j] =
          DequantizeSum(sum, row, scale.as<float>()[j]) + bias.as<float>()[j];
    }
  }
  KernelCase test{.op = "RowQuantizedMatMul",
                  .inputs = {x, w, scale, bias},
                  .outputs = {Tensor(DType::f32, {m, n})},
                  .constants = {1}};
  ExpectSameAtEveryLevel(test, expected, "batch");
  KernelCase one{
      .op = "RowQuantizedMatMul",
      .inputs = {Tensor::From<float>({1, k}, x.as<float>().subspan(2 * k, k)), w, scale, bias},
      .outputs = {Tensor(DType::f32, {1, n})}};
  ExpectSameAtEveryLevel(one, Tensor::From<float>({1, n}, expected.as<float>().subspan(2 * n, n)),
                         "one row");
  KernelCase zero{.op = "RowQuantizedMatMul",
                  .inputs = {Tensor(DType::f32, {1, k}), w, scale},
                  .outputs = {Tensor(DType::f32, {1, n})}};
  ExpectSameAtEveryLevel(zero, Tensor(DType::f32, {1, n}), "zeros");
}

struct IntConv {
  Dims x, w;
  int64_t groups;
  std::vector<int64_t> strides, pads;
  bool signed_filters = false;  // their zero points are 0
};

// The definition of ConvInteger: what lies outside the image adds nothing.
Tensor ConvSums(const IntConv& c, const Dims& out, const Tensor& x, const Tensor& w,
                const Tensor& zx, const Tensor& zw) {
  Tensor sums(DType::i32, out);
  const int64_t per_group = c.w[0] / c.groups;
  for (int64_t i = 0; i < sums.size(); ++i) {
    const int64_t ow = i % out[3], oh = i / out[3] % out[2], o = i / (out[2] * out[3]) % out[1],
                  b = i / out.Elements(1, 4);
    int32_t sum = 0;
    for (int64_t t = 0; t < c.w.Elements(1, 4); ++t) {
      const int64_t kw = t % c.w[3], kh = t / c.w[3] % c.w[2], ch = t / (c.w[2] * c.w[3]);
      const int64_t h = oh * c.strides[0] - c.pads[0] + kh, v = ow * c.strides[1] - c.pads[1] + kw;
      if (h < 0 || v < 0 || h >= c.x[2] || v >= c.x[3]) continue;
      const int64_t channel = o / per_group * c.w[1] + ch;
      sum += (ByteAt(x, ((b * c.x[1] + channel) * c.x[2] + h) * c.x[3] + v) - ByteAt(zx, 0)) *
             (ByteAt(w, o * c.w.Elements(1, 4) + t) - ByteAt(zw, o));
    }
    sums.as<int32_t>()[i] = sum;
  }
  return sums;
}

TEST(QuantizeTest, ConvolutionsPadWithTheZeroPoint) {
  const IntConv cases[] = {{{2, 3, 9, 11}, {5, 3, 3, 3}, 1, {1, 1}, {1, 1, 1, 1}},
                           {{1, 16, 6, 6}, {20, 16, 1, 1}, 1, {1, 1}, {0, 0, 0, 0}},
                           {{1, 8, 13, 12}, {8, 1, 3, 3}, 8, {2, 2}, {0, 1, 2, 1}},
                           {{2, 3, 70, 61}, {6, 1, 5, 5}, 3, {1, 1}, {2, 2, 2, 2}},
                           {{2, 3, 9, 11}, {5, 3, 3, 3}, 1, {1, 1}, {1, 1, 1, 1}, true},
                           {{1, 18, 6, 7}, {21, 18, 1, 1}, 1, {1, 1}, {0, 0, 0, 0}, true},
                           {{1, 14, 13, 12}, {22, 7, 3, 3}, 2, {2, 2}, {0, 1, 2, 1}, true},
                           {{1, 400, 3, 3}, {5, 400, 2, 2}, 1, {1, 1}, {1, 0, 0, 1}, true},
                           // Tiles: several blocks, odd channels, filters not in fours, groups.
                           {{2, 33, 37, 30}, {45, 33, 3, 3}, 1, {1, 1}, {1, 1, 1, 1}, true},
                           {{1, 64, 20, 19}, {130, 32, 3, 3}, 2, {1, 1}, {0, 2, 1, 0}, true}};
  for (const IntConv& c : cases) {
    const Attributes attributes{{"group", c.groups}, {"strides", c.strides}, {"pads", c.pads}};
    Dims out{c.x[0], c.w[0]};
    for (int i = 0; i < 2; ++i)
      out.push_back((c.x[2 + i] + c.pads[i] + c.pads[2 + i] - c.w[2 + i]) / c.strides[i] + 1);
    const Tensor x = Bytes(DType::u8, c.x, 1), w = Bytes(DType::i8, c.w, 2),
                 zx = Bytes(DType::u8, {}, 3),
                 zw =
                     c.signed_filters ? Tensor(DType::i8, {c.w[0]}) : Bytes(DType::i8, {c.w[0]}, 4);
    const Tensor sums = ConvSums(c, out, x, w, zx, zw);
    KernelCase plain{.op = "ConvInteger",
                     .attributes = attributes,
                     .inputs = {x, w, zx, zw},
                     .outputs = {Tensor(DType::i32, out)}};
    ExpectSameAtEveryLevel(plain, sums, "ConvInteger");
    const Tensor scales = Uniform({c.w[0]}, 5, 0.001f, 0.01f),
                 bias = Integers<int32_t>({c.w[0]}, 6, -5000, 5000);
    Tensor expected(DType::i8, out);
    for (int64_t i = 0; i < sums.size(); ++i) {
      const int64_t o = i / (out[2] * out[3]) % out[1];
      expected.as<int8_t>()[i] = static_cast<int8_t>(
          Requantize(static_cast<float>(sums.as<int32_t>()[i] + bias.as<int32_t>()[o]) *
                         RequantizeScale(0.02f, scales.as<float>()[o], 0.3f),
                     -5, -128, 127));
    }
    KernelCase full{.op = "QLinearConv",
                    .attributes = attributes,
                    .inputs = {x, Tensor::Scalar<float>(0.02f), zx, w, scales, zw,
                               Tensor::Scalar<float>(0.3f), Tensor::Scalar<int8_t>(-5), bias},
                    .outputs = {Tensor(DType::i8, out)},
                    .constants = {3, 5}};
    ExpectSameAtEveryLevel(full, expected, "QLinearConv");
    full.constants = {};
    ExpectSameAtEveryLevel(full, expected, "QLinearConv of given filters");
  }
}

// Sums just inside what the tiles can tell apart, and just outside, where the direct product runs.
TEST(QuantizeTest, TilesOfTheLargestSums) {
  for (const int64_t channels : {114, 116}) {  // 9 * 114 * 255 * 128 < 2^25 < 9 * 116 * 255 * 127
    for (const int filter : {127, -128}) {
      const Tensor x = Filled(DType::u8, {1, channels, 20, 20}, 255),
                   w = Filled(DType::i8, {40, channels, 3, 3}, filter);
      const float scale = 127.0f / (9.0f * 128 * 255 * static_cast<float>(channels));
      Tensor expected(DType::i8, {1, 40, 18, 18});
      const auto sum = static_cast<float>(9 * channels * 255 * filter);
      for (int8_t& y : expected.as<int8_t>())
        y = static_cast<int8_t>(Requantize(sum * RequantizeScale(1, scale, 1), 0, -128, 127));
      KernelCase test{.op = "QLinearConv",
                      .inputs = {x, Tensor::Scalar<float>(1), Tensor::Scalar<uint8_t>(0), w,
                                 Tensor::Scalar<float>(scale), Tensor::Scalar<int8_t>(0),
                                 Tensor::Scalar<float>(1), Tensor::Scalar<int8_t>(0)},
                      .outputs = {Tensor(DType::i8, {1, 40, 18, 18})},
                      .constants = {2, 3, 5}};
      ExpectSameAtEveryLevel(test, expected, fmt::format("{} {}", channels, filter));
      const bool tiles =
          BoundCase(test, Isa::kPortable).kernel().Describe().find("winograd") != std::string::npos;
      EXPECT_EQ(tiles, channels == 114) << channels << " " << filter;
    }
  }
}

TEST(QuantizeTest, LinearPerTensorAndAxis) {
  KernelCase test{.op = "QuantizeLinear",
                  .inputs = {Tensor::From<float>({6}, {-1, 0.5f, 1.5f, 2.5f, 1000, NAN}),
                             Tensor::Scalar<float>(1), Tensor::Scalar<uint8_t>(1)},
                  .outputs = {Tensor(DType::u8, {6})}};
  ExpectSameAtEveryLevel(test, Tensor::From<uint8_t>({6}, {0, 1, 3, 3, 255, 0}), "u8");
  KernelCase axis{.op = "QuantizeLinear",
                  .attributes = {{"axis", int64_t{0}}},
                  .inputs = {Uniform({3, 50}, 1, -9, 9), Uniform({3}, 2, 0.01f, 0.1f),
                             Bytes(DType::i8, {3}, 3)},
                  .outputs = {Tensor(DType::i8, {3, 50})}};
  Tensor expected(DType::i8, {3, 50}), back(DType::f32, {3, 50});
  for (int i = 0; i < 150; ++i) {
    const float scale = axis.inputs[1].as<float>()[i / 50];
    const int32_t zero = axis.inputs[2].as<int8_t>()[i / 50];
    expected.as<int8_t>()[i] =
        static_cast<int8_t>(Requantize(axis.inputs[0].as<float>()[i] / scale, zero, -128, 127));
    back.as<float>()[i] = static_cast<float>(expected.as<int8_t>()[i] - zero) * scale;
  }
  ExpectSameAtEveryLevel(axis, expected, "axis");
  KernelCase dequantize{.op = "DequantizeLinear",
                        .attributes = axis.attributes,
                        .inputs = {expected, axis.inputs[1], axis.inputs[2]},
                        .outputs = {Tensor(DType::f32, {3, 50})}};
  ExpectSameAtEveryLevel(dequantize, back, "back");
  KernelCase bias{.op = "DequantizeLinear",
                  .inputs = {Tensor::From<int32_t>({2}, {-3, 7}), Tensor::Scalar<float>(0.5f)},
                  .outputs = {Tensor(DType::f32, {2})}};
  ExpectSameAtEveryLevel(bias, Tensor::From<float>({2}, {-1.5f, 3.5f}), "i32");
}

// Enough of them for whole vectors and for the rest.
TEST(QuantizeTest, HalvesGoToEvenAndWhatIsNoNumberToTheLeast) {
  for (const int zero : {-128, -7, 0, 127}) {
    KernelCase test{.op = "QuantizeLinear",
                    .inputs = {Tensor(DType::f32, {1211}), Tensor::Scalar<float>(0.25f),
                               Tensor::Scalar<int8_t>(static_cast<int8_t>(zero))},
                    .outputs = {Tensor(DType::i8, {1211})}};
    auto x = test.inputs[0].as<float>();
    Tensor expected(DType::i8, {1211});
    for (size_t i = 0; i < x.size(); ++i) {
      const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, -0.0f};
      x[i] = i < 1200 ? (static_cast<float>(i) - 600) / 8 : odd[i % 6];
      if (i % 97 == 0) x[i] = odd[i % 6];
      expected.as<int8_t>()[i] = static_cast<int8_t>(Requantize(x[i] / 0.25f, zero, -128, 127));
    }
    ExpectSameAtEveryLevel(test, expected, fmt::format("{}", zero));
  }
}

TEST(QuantizeTest, DynamicRangeIncludesZero) {
  KernelCase test{
      .op = "DynamicQuantizeLinear",
      .inputs = {Tensor::From<float>({6}, {0, 2, -3, -2.5f, 1.34f, 0.5f})},
      .outputs = {Tensor(DType::u8, {6}), Tensor(DType::f32, {}), Tensor(DType::u8, {})}};
  ExpectSameAtEveryLevel(test, Tensor::From<uint8_t>({6}, {153, 255, 0, 26, 221, 179}),
                         "ONNX's example");
  EXPECT_FLOAT_EQ(test.outputs[1].as<float>()[0], 0.0196078438f);
  EXPECT_EQ(test.outputs[2].as<uint8_t>()[0], 153);
}

// Rows read in place, by level, number of threads and result: the same bits as the portable
// product.
TEST(QuantizeTest, RowsInPlace) {
  const Philox rng(3);
  uint64_t drawn = 0;
  const auto draw = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(rng.Below(drawn++, static_cast<uint64_t>(high - low + 1)));
  };
  int in_place = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const int64_t m = draw(6, 120), n = draw(1, 200), k = draw(1, 300);
    const bool each = seed % 2, bias = seed % 3 > 0;
    const Tensor a = Bytes(DType::u8, {m, k}, seed), b = Bytes(DType::i8, {k, n}, seed + 1),
                 a_zero = Bytes(DType::u8, {}, seed + 2),
                 b_scale = Uniform(each ? Dims{n} : Dims{}, seed + 3, 0.001f, 0.01f),
                 b_zero(DType::i8, each ? Dims{n} : Dims{}), scale = Tensor::Scalar<float>(0.02f),
                 y_scale = Tensor::Scalar<float>(0.37f);
    const DType y_dtype = seed % 5 < 2 ? DType::i8 : DType::u8;
    const Tensor y_zero = Bytes(y_dtype, {}, seed + 4);
    const Tensor ints = Integers<int32_t>({n}, seed + 5, -9000, 9000);
    KernelCase cases[] = {
        {.op = "MatMulIntegerToFloat",
         .inputs = {a, b, scale, b_scale, a_zero, b_zero},
         .outputs = {Tensor(DType::f32, {m, n})},
         .constants = {1, 5}},
        {.op = "QLinearMatMul",
         .inputs = {a, scale, a_zero, b, b_scale, b_zero, y_scale, y_zero},
         .outputs = {Tensor(y_dtype, {m, n})},
         .constants = {3, 5}},
        {.op = "QGemm",
         .inputs = {a, scale, a_zero, b, b_scale, b_zero, bias ? ints : Tensor(), y_scale, y_zero},
         .outputs = {Tensor(y_dtype, {m, n})},
         .constants = {3, 5}}};
    if (bias) cases[0].inputs.push_back(Uniform({n}, seed + 6));
    for (KernelCase& test : cases) {
      RunCase(test, Isa::kPortable);
      const Tensor expected = test.outputs[0].Clone();
      for (const Isa isa : TestLevels()) {
        test.threads = 1 + static_cast<int>(seed % 3);
        test.outputs = {Tensor(expected.dtype(), expected.dims())};
        BoundCase bound(test, isa);
        ASSERT_TRUE(bound.ok()) << bound.status().message();
        bound.Run();
        in_place += bound.kernel().Describe().find("in place") != std::string::npos;
        EXPECT_TRUE(SameBytes(test.outputs[0], expected))
            << test.op << " " << m << "x" << k << "x" << n << ", " << Name(isa);
      }
    }
  }
  EXPECT_TRUE(DetectIsa() < Isa::kAvx512Vnni || in_place > 100) << in_place;
}

}  // namespace
}  // namespace minim
