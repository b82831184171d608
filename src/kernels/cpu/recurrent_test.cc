#include <gtest/gtest.h>

#include <algorithm>

#include "core/dtype.h"
#include "kernels/cpu/test_support.h"

namespace minim {
namespace {

struct LstmCase {
  const char* direction;
  bool peepholes, lengths, batch_first, input_forget;
  float clip;
};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The ONNX equations, one direction and batch row at a time. y: [steps][directions][batch][hidden].
struct Oracle {
  int64_t t, b, in, hid;
  const Tensor &x, &w, &r, &bias, &h0, &c0, &p;
  const int32_t* lengths;
  LstmCase c;
  std::vector<double> y, h_last, c_last;

  void Run(int64_t directions) {
    y.assign(t * directions * b * hid, 0);
    h_last.assign(directions * b * hid, 0);
    c_last = h_last;
    for (int64_t d = 0; d < directions; ++d)
      for (int64_t row = 0; row < b; ++row)
        RunRow(d, directions, row, d == 1 || std::string(c.direction) == "reverse");
  }
  void RunRow(int64_t d, int64_t directions, int64_t row, bool backwards) {
    std::vector<double> h(hid), cell(hid);
    for (int64_t j = 0; j < hid; ++j) {
      h[j] = h0.as<float>()[(d * b + row) * hid + j];
      cell[j] = c0.as<float>()[(d * b + row) * hid + j];
    }
    const int64_t length = lengths ? lengths[row] : t;
    for (int64_t step = 0; step < length; ++step) {
      const int64_t at = backwards ? length - 1 - step : step;
      Step(d, at, row, h, cell);
      for (int64_t j = 0; j < hid; ++j) y[((at * directions + d) * b + row) * hid + j] = h[j];
    }
    for (int64_t j = 0; j < hid; ++j) {
      h_last[(d * b + row) * hid + j] = h[j];
      c_last[(d * b + row) * hid + j] = cell[j];
    }
  }
  void Step(int64_t d, int64_t at, int64_t row, std::vector<double>& h, std::vector<double>& cell) {
    std::vector<double> next(hid), next_cell(hid);
    const auto clip = [&](double v) {
      return c.clip > 0 ? std::clamp(v, -double(c.clip), double(c.clip)) : v;
    };
    for (int64_t j = 0; j < hid; ++j) {
      double g[4];
      for (int64_t k = 0; k < 4; ++k) {
        const int64_t line = k * hid + j;
        g[k] = double(bias.as<float>()[d * 8 * hid + line]) +
               bias.as<float>()[d * 8 * hid + 4 * hid + line];
        for (int64_t i = 0; i < in; ++i)
          g[k] += double(x.as<float>()[(at * b + row) * in + i]) *
                  w.as<float>()[(d * 4 * hid + line) * in + i];
        for (int64_t i = 0; i < hid; ++i)
          g[k] += h[i] * r.as<float>()[(d * 4 * hid + line) * hid + i];
      }
      const auto peep = [&](int64_t k) {
        return c.peepholes ? p.as<float>()[(d * 3 + k) * hid + j] : 0.0f;
      };
      const double open = Sigmoid(clip(g[0] + peep(0) * cell[j]));
      const double keep = c.input_forget ? 1 - open : Sigmoid(clip(g[2] + peep(2) * cell[j]));
      next_cell[j] = keep * cell[j] + open * std::tanh(clip(g[3]));
      next[j] = Sigmoid(clip(g[1] + peep(1) * next_cell[j])) * std::tanh(clip(next_cell[j]));
    }
    h = next;
    cell = next_cell;
  }
};

Tensor BatchFirst(const Tensor& t, bool swap) {
  if (!swap) return t;
  const Dims& d = t.dims();
  Tensor out(DType::f32, {d[1], d[0], d[2]});
  for (int64_t i = 0; i < d[0]; ++i)
    for (int64_t j = 0; j < d[1]; ++j)
      for (int64_t k = 0; k < d[2]; ++k)
        out.as<float>()[(j * d[0] + i) * d[2] + k] = t.as<float>()[(i * d[1] + j) * d[2] + k];
  return out;
}

TEST(LstmTest, EveryAttribute) {
  const LstmCase cases[] = {{"forward", false, false, false, false, 0},
                            {"reverse", true, false, false, false, 0},
                            {"bidirectional", true, true, false, false, 0.4f},
                            {"bidirectional", false, true, true, false, 0},
                            {"forward", false, false, true, true, 0}};
  for (const LstmCase& c : cases) {
    const int64_t t = 5, b = 3, in = 7, hid = 9,
                  dirs = std::string(c.direction) == "bidirectional" ? 2 : 1;
    const Tensor x = Uniform({t, b, in}, 1), w = Uniform({dirs, 4 * hid, in}, 2),
                 r = Uniform({dirs, 4 * hid, hid}, 3);
    const Tensor bias = Uniform({dirs, 8 * hid}, 4), h0 = Uniform({dirs, b, hid}, 5),
                 c0 = Uniform({dirs, b, hid}, 6), p = Uniform({dirs, 3 * hid}, 7);
    const Tensor lengths = Tensor::From<int32_t>({b}, {5, 2, 4});
    Oracle oracle{t, b,    in, hid, x, w,
                  r, bias, h0, c0,  p, c.lengths ? lengths.as<int32_t>().data() : nullptr,
                  c, {},   {}, {}};
    oracle.Run(dirs);
    KernelCase test{
        .op = "LSTM",
        .attributes = {{"direction", c.direction},
                       {"layout", int64_t{c.batch_first}},
                       {"clip", c.clip},
                       {"hidden_size", hid},
                       {"input_forget", int64_t{c.input_forget}}},
        .inputs = {BatchFirst(x, c.batch_first), w, r, bias, c.lengths ? lengths : Tensor(),
                   BatchFirst(h0, c.batch_first), BatchFirst(c0, c.batch_first),
                   c.peepholes ? p : Tensor()},
        .outputs = {
            Tensor(DType::f32, c.batch_first ? Dims{b, t, dirs, hid} : Dims{t, dirs, b, hid}),
            Tensor(DType::f32, c.batch_first ? Dims{b, dirs, hid} : Dims{dirs, b, hid}),
            Tensor(DType::f32, c.batch_first ? Dims{b, dirs, hid} : Dims{dirs, b, hid})}};
    std::vector<double> y = oracle.y;
    if (c.batch_first) {
      for (int64_t s = 0; s < t; ++s)
        for (int64_t d = 0; d < dirs; ++d)
          for (int64_t row = 0; row < b; ++row)
            for (int64_t j = 0; j < hid; ++j)
              y[((row * t + s) * dirs + d) * hid + j] =
                  oracle.y[((s * dirs + d) * b + row) * hid + j];
    }
    for (bool constant : {false, true}) {
      if (constant) test.constants = {1, 2};
      for (Isa isa : TestLevels()) {
        RunCase(test, isa);
        ExpectNear(test.outputs[0].as<float>(), y, 1e-5, 1e-6, c.direction);
        const Tensor h = BatchFirst(test.outputs[1], c.batch_first),
                     cell = BatchFirst(test.outputs[2], c.batch_first);
        ExpectNear(h.as<float>(), oracle.h_last, 1e-5, 1e-6, "Y_h");
        ExpectNear(cell.as<float>(), oracle.c_last, 1e-5, 1e-6, "Y_c");
      }
    }
  }
}

// Layers of more than one block of units, with what each op may take.
struct Layer {
  const char* op;
  int64_t gates;
  Attributes attributes;
  int64_t directions = 1;
};

std::vector<Layer> Layers() {
  return {{"LSTM", 4, {{"direction", "bidirectional"}}, 2},
          {"GRU", 3, {{"linear_before_reset", int64_t{1}}, {"direction", "bidirectional"}}, 2},
          {"GRU", 3, {}},
          {"RNN", 1, {{"activations", std::vector<std::string>{"Relu"}}, {"clip", 0.9f}}},
          {"RNN", 1, {{"direction", "reverse"}}}};
}

constexpr int64_t kInputs = 21;

KernelCase CaseOf(const Layer& layer, int64_t batch, int64_t hidden = 83) {
  const int64_t t = 4, in = kInputs, d = layer.directions, g = layer.gates;
  KernelCase test{.op = layer.op, .attributes = layer.attributes};
  test.inputs = {Uniform({t, batch, in}, 1),
                 Uniform({d, g * hidden, in}, 2),
                 Uniform({d, g * hidden, hidden}, 3, -0.2f, 0.2f),
                 Uniform({d, 2 * g * hidden}, 4),
                 Tensor(),
                 Uniform({d, batch, hidden}, 5)};
  test.outputs = {Tensor(DType::f32, {t, d, batch, hidden}),
                  Tensor(DType::f32, {d, batch, hidden})};
  return test;
}

// The part of Y_h that is batch row `row` of the first direction.
std::vector<float> RowOf(const Tensor& y_h, int64_t row) {
  const int64_t hidden = y_h.dims()[2];
  const auto values = y_h.as<float>().subspan(row * hidden, hidden);
  return {values.begin(), values.end()};
}

std::vector<double> Doubles(const Tensor& tensor) {
  const Tensor wide = Converted(tensor.view(), DType::f64);
  const auto values = wide.as<double>();
  return {values.begin(), values.end()};
}

// `many` at two threads as at one, and its first row as alone.
void ExpectRowsAlike(const Layer& layer, int64_t batch, int64_t hidden, Isa isa,
                     void (*change)(KernelCase*)) {
  KernelCase many = CaseOf(layer, batch, hidden), threaded = CaseOf(layer, batch, hidden),
             one = CaseOf(layer, 1, hidden);
  for (KernelCase* test : {&many, &threaded, &one}) change(test);
  threaded.threads = 2;
  for (int64_t step = 0; step < 4; ++step)
    std::copy_n(many.inputs[0].as<float>().data() + step * batch * kInputs, kInputs,
                one.inputs[0].as<float>().data() + step * kInputs);
  for (int64_t d = 0; d < layer.directions; ++d)
    std::copy_n(many.inputs[5].as<float>().data() + d * batch * hidden, hidden,
                one.inputs[5].as<float>().data() + d * hidden);
  for (KernelCase* test : {&many, &threaded, &one}) RunCase(*test, isa);
  for (int i : {0, 1}) EXPECT_TRUE(SameBytes(many.outputs[i], threaded.outputs[i])) << layer.op;
  EXPECT_EQ(RowOf(many.outputs[1], 0), RowOf(one.outputs[1], 0)) << layer.op << Name(isa);
}

TEST(RecurrentTest, NeitherThreadsNorNeighboursMatterToARow) {
  for (const Layer& layer : Layers())
    for (Isa isa : TestLevels())
      for (int64_t batch : {9, 37}) {
        ExpectRowsAlike(layer, batch, 83, isa, [](KernelCase*) {});
        ExpectRowsAlike(layer, batch, 83, isa, [](KernelCase* test) { test->constants = {1, 2}; });
      }
}

// Where W is known, tiles multiply by it in parts.
TEST(RecurrentTest, KnownWeightsGiveWhatUnknownOnesDo) {
  for (const Layer& layer : Layers()) {
    for (Isa isa : TestLevels()) {
      for (int64_t batch : {1, 9}) {
        KernelCase unknown = CaseOf(layer, batch), known = CaseOf(layer, batch);
        known.constants = {1, 2};
        RunCase(unknown, isa);
        RunCase(known, isa);
        if (isa < Isa::kAmx) {
          EXPECT_TRUE(SameBytes(unknown.outputs[0], known.outputs[0])) << layer.op << Name(isa);
        } else {
          ExpectNear(known.outputs[0].as<float>(), Doubles(unknown.outputs[0]), 1e-6, 1e-6,
                     layer.op);
        }
      }
    }
  }
}

TEST(RecurrentTest, PartsAddUpToInputsOfAnySize) {
  for (Isa isa : TestLevels()) {
    KernelCase unknown = CaseOf(Layers()[4], 2);  // tanh
    float* x = unknown.inputs[0].as<float>().data();
    for (int64_t i = 0; i < 4 * 2 * kInputs; ++i)
      x[i] *= std::exp2(static_cast<float>(i % 50 * 4 - 100));
    x[3] = std::numeric_limits<float>::infinity();
    x[30] = 3.4e38f;
    KernelCase known = unknown;
    known.constants = {1, 2};
    known.outputs = {unknown.outputs[0].Clone(), unknown.outputs[1].Clone()};
    RunCase(unknown, isa);
    RunCase(known, isa);
    ExpectNear(known.outputs[0].as<float>(), Doubles(unknown.outputs[0]), 1e-5, 1e-5, "RNN");
  }
}

void RoundWeights(KernelCase* test) {
  for (int i : {1, 2})
    for (float& x : test->inputs[i].as<float>()) x = static_cast<float>(BFloat16(x));
  test->constants = {1, 2};
  test->attributes.Set("precision", std::string("bf16"));
}

TEST(RecurrentTest, Fp32StaysThoughBf16HoldsItsWeights) {
  for (Isa isa : TestLevels()) {
    KernelCase known = CaseOf(Layers()[0], 8, 128);
    RoundWeights(&known);
    known.attributes = Layers()[0].attributes;
    KernelCase unknown = known;
    unknown.constants = {};
    unknown.outputs = {known.outputs[0].Clone(), known.outputs[1].Clone()};
    RunCase(known, isa);
    RunCase(unknown, isa);
    EXPECT_TRUE(SameBytes(known.outputs[0], unknown.outputs[0])) << Name(isa);
  }
}

TEST(RecurrentTest, WeightsThatBf16HoldsArePackedAsBf16) {
  for (const Layer& layer : Layers()) {
    for (Isa isa : TestLevels()) {
      for (const auto& [batch, hidden] : {std::pair{1, 83}, {8, 83}, {21, 83}, {40, 64}, {8, 33}}) {
        KernelCase narrow = CaseOf(layer, batch, hidden);
        RoundWeights(&narrow);
        KernelCase wide = narrow;
        wide.constants = {};
        wide.outputs = {narrow.outputs[0].Clone(), narrow.outputs[1].Clone()};
        RunCase(wide, isa);
        RunCase(narrow, isa);
        EXPECT_NE(BoundCase(narrow, isa).kernel().Describe().find("bf16"), std::string::npos);
        if (isa < Isa::kAvx512Bf16 || hidden < 64) {
          EXPECT_TRUE(SameBytes(wide.outputs[0], narrow.outputs[0])) << layer.op;
        } else {  // X and H are rounded too
          ExpectNear(narrow.outputs[0].as<float>(), Doubles(wide.outputs[0]), 0, 0.02, layer.op);
        }
      }
    }
  }
}

TEST(RecurrentTest, NeitherThreadsNorNeighboursMatterToARowOfBf16) {
  for (const Layer& layer : Layers())
    for (Isa isa : TestLevels()) ExpectRowsAlike(layer, 37, 128, isa, RoundWeights);
}

// Layers whose gates a gradient reads, with how many planes of them.
struct Saving {
  Layer layer;
  int64_t planes;
  const char* grad;
};

std::vector<Saving> SavingLayers() {
  const Attributes both{{"direction", "bidirectional"}};
  Attributes linear = both;
  linear.Set("linear_before_reset", int64_t{1});
  return {{{"LSTM", 4, both, 2}, 5, "LstmGrad"},
          {{"GRU", 3, linear, 2}, 4, "GruGrad"},
          {{"GRU", 3, both, 2}, 3, "GruGrad"}};
}

TEST(RecurrentTest, SavingForTheGradientChangesNoBit) {
  for (const auto& [layer, planes, grad] : SavingLayers()) {
    for (Isa isa : TestLevels()) {
      for (int64_t batch : {1, 9}) {
        KernelCase plain = CaseOf(layer, batch), saving = CaseOf(layer, batch);
        if (layer.gates == 4) saving.outputs.push_back(Tensor());
        saving.outputs.push_back(Tensor(DType::f32, {4, 2, batch, planes * 83}));
        RunCase(plain, isa);
        RunCase(saving, isa);
        for (int i : {0, 1}) EXPECT_TRUE(SameBytes(plain.outputs[i], saving.outputs[i])) << grad;
      }
    }
  }
}

TEST(RecurrentTest, SavingIsRefusedWhereTheGradientIs) {
  KernelCase test = CaseOf({"GRU", 3, {}}, 2);
  test.inputs[4] = Tensor::From<int32_t>({2}, {4, 2});
  test.outputs.push_back(Tensor(DType::f32, {4, 1, 2, 3 * 83}));
  EXPECT_FALSE(BoundCase(test, Isa::kPortable).ok());
}

// Gradients of gates, of the first state and the op's third, from random saved values.
KernelCase GradCaseOf(const Saving& saving, int64_t batch, DType dtype = DType::f32) {
  const int64_t t = 4, d = 2, hidden = 83, rows = saving.layer.gates * hidden;
  KernelCase test{.op = saving.grad, .attributes = saving.layer.attributes};
  const Dims state{d, batch, hidden}, y{t, d, batch, hidden};
  const bool lstm = saving.layer.gates == 4;
  test.inputs = {Uniform({d, rows, hidden}, 1, -0.2f, 0.2f),
                 Uniform({t, d, batch, saving.planes * hidden}, 2, 0.1f, 0.9f),
                 Uniform(state, 3),
                 Uniform(y, 4),
                 Uniform(state, 5),
                 Uniform(lstm ? state : y, 6)};
  for (Tensor& input : test.inputs) input = Converted(input.view(), dtype);
  const Dims gates{d, t, batch, rows};
  test.outputs = {Tensor(dtype, gates), Tensor(dtype, state), Tensor(dtype, lstm ? state : gates)};
  return test;
}

TEST(RecurrentGradTest, NeitherThreadsNorOtherOutputsMatter) {
  for (const Saving& saving : SavingLayers()) {
    for (Isa isa : TestLevels()) {
      KernelCase one = GradCaseOf(saving, 7), threaded = GradCaseOf(saving, 7),
                 alone = GradCaseOf(saving, 7);
      threaded.threads = 3;
      alone.outputs[0] = alone.outputs[2] = Tensor();
      for (KernelCase* test : {&one, &threaded, &alone}) RunCase(*test, isa);
      for (int i : {0, 1, 2}) EXPECT_TRUE(SameBytes(one.outputs[i], threaded.outputs[i]));
      EXPECT_TRUE(SameBytes(one.outputs[1], alone.outputs[1])) << saving.grad;
    }
  }
}

// The definition's own comparison is the samples'; this one has more units and rows.
TEST(RecurrentGradTest, LevelsAndNarrowTypesAgree) {
  for (const Saving& saving : SavingLayers()) {
    KernelCase expected = GradCaseOf(saving, 7);
    RunCase(expected, Isa::kPortable);
    for (Isa isa : TestLevels()) {
      for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        KernelCase test = GradCaseOf(saving, 7, dtype);
        RunCase(test, isa);
        const double bound = dtype == DType::f32 ? 1e-5 : dtype == DType::bf16 ? 0.03 : 0.004;
        for (int i : {0, 1, 2}) {
          const Tensor wide = Converted(test.outputs[i].view(), DType::f32);
          ExpectNear(wide.as<float>(), Doubles(expected.outputs[i]), bound, bound, saving.grad);
        }
      }
    }
  }
}

// LSTM's weights as bytes, [D, k, rows], with the scale and zero point of each gate row.
template <typename T>
KernelCase Quantized(int64_t batch, int64_t low, int64_t high, T zero, int64_t hidden = 133) {
  const int64_t t = 6, in = 21, rows = 4 * hidden;
  KernelCase test{.op = "DynamicQuantizeLSTM"};
  const Tensor zeros = Integers<T>({1, rows}, 9, zero, zero);
  test.inputs = {Uniform({t, batch, in}, 1),
                 Integers<T>({1, in, rows}, 2, low, high),
                 Integers<T>({1, hidden, rows}, 3, low, high),
                 Uniform({1, 2 * rows}, 4),
                 Tensor(),
                 Tensor(),
                 Tensor(),
                 Tensor(),
                 Uniform({1, rows}, 5, 0.001f, 0.003f),
                 zeros,
                 Uniform({1, rows}, 6, 0.001f, 0.003f),
                 zeros};
  test.outputs = {Tensor(DType::f32, {t, 1, batch, hidden}), Tensor(DType::f32, {1, batch, hidden}),
                  Tensor(DType::f32, {1, batch, hidden})};
  return test;
}

// Weights unknown at binding are widened, which is the definition. Sums of bytes are the same bits
// at every level; cells are too but at the portable one, whose polynomials round twice where the
// others have fused multiply-adds.
template <typename T>
void ExpectNearItsDefinition(KernelCase bytes, double error, const std::string& format) {
  std::vector<Tensor> first;
  for (Isa isa : TestLevels()) {
    for (int threads : {1, 2}) {
      KernelCase floats = bytes;
      for (Tensor& output : floats.outputs) output = output.Clone();
      bytes.constants = {1, 2, 8, 9, 10, 11};
      bytes.threads = threads;
      RunCase(floats, isa);
      RunCase(bytes, isa);
      EXPECT_NE(BoundCase(bytes, isa).kernel().Describe().find(format), std::string::npos);
      const auto expected = floats.outputs[0].as<float>();
      ExpectNear(bytes.outputs[0].as<float>(), {expected.begin(), expected.end()}, 0, error,
                 format);
      const bool fuses = isa == Isa::kAvx2 && threads == 1;  // from here on
      if (first.empty() || fuses || format != "int8") first = {bytes.outputs[0].Clone()};
      EXPECT_TRUE(SameBytes(bytes.outputs[0], first[0])) << Name(isa);
      bytes.constants.clear();
    }
  }
}

TEST(QuantizedLstmTest, BytesGiveTheSameBitsAtEveryLevelThatFuses) {
  for (int64_t batch : {1, 3, 37}) {
    ExpectNearItsDefinition<int8_t>(Quantized<int8_t>(batch, -127, 127, 0), 0.02, "int8");
    ExpectNearItsDefinition<uint8_t>(Quantized<uint8_t>(batch, 1, 255, 128), 0.02, "int8");
  }
}

TEST(QuantizedLstmTest, ARowIsTheSameBitsAloneAndAmongOthers) {
  for (int64_t hidden : {64, 133}) {
    KernelCase three = Quantized<int8_t>(3, -127, 127, 0, hidden);
    KernelCase one = Quantized<int8_t>(1, -127, 127, 0, hidden);
    one.inputs[0] = Tensor(DType::f32, {6, 1, 21});
    for (int64_t step = 0; step < 6; ++step)
      std::copy_n(three.inputs[0].as<float>().data() + (step * 3 + 1) * 21, 21,
                  one.inputs[0].as<float>().data() + step * 21);
    three.constants = one.constants = {1, 2, 8, 9, 10, 11};
    for (Isa isa : TestLevels()) {
      RunCase(three, isa);
      RunCase(one, isa);
      for (int64_t step = 0; step < 6; ++step)
        for (int64_t unit = 0; unit < hidden; ++unit)
          ASSERT_EQ(one.outputs[0].as<float>()[step * hidden + unit],
                    three.outputs[0].as<float>()[(step * 3 + 1) * hidden + unit])
              << hidden << " units at " << Name(isa);
    }
  }
}

TEST(QuantizedLstmTest, WeightsThatSignedBytesCannotHoldOrThatAreFewAreWidened) {
  ExpectNearItsDefinition<int8_t>(Quantized<int8_t>(1, -127, 127, 0, 32), 1e-6, "f32");
  ExpectNearItsDefinition<uint8_t>(Quantized<uint8_t>(2, 0, 255, 3), 1e-6, "f32");
  ExpectNearItsDefinition<int8_t>(Quantized<int8_t>(2, -128, 127, 0), 1e-6, "f32");
}

}  // namespace
}  // namespace minim
