// Runs a recurrent layer: one product for the inputs of all steps, then per step the product of R
// with the state, chunk by chunk of units, each followed by the cells of its units while its sums
// are in L1. R stays where the caches can hold it: odd steps walk it backwards, so that a step
// begins with what the last one read last.
#include "kernels/cpu/recurrent.h"

#include <algorithm>

#include "core/dtype.h"
#include "kernels/cpu/carver.h"

namespace minim {
namespace {

using namespace recurrent;

struct Scratch {
  std::byte *w, *r;
  float *wide_in[5], *wide_out[3];  // X, B, H0, C0, P and Y, Y_h, Y_c when they are not FP32
  float *bias, *extra, *gates, *step, *h, *next, *reset, *c;
  int8_t *x8, *h8;
  float *x_scales, *h_scales;
};
constexpr int kFloatInputs[5] = {kX, kB, kH0, kC0, kP};
struct Counts {
  int64_t in[5], out[3];
};
Counts CountsOf(const RecurrentPlan& p) {
  const int64_t states = p.directions * p.batch * p.hidden;
  return {{p.rows() * p.inputs, p.directions * 2 * p.gates * p.hidden, states, states,
           p.directions * 3 * p.hidden},
          {p.directions * p.rows() * p.hidden, states, states}};
}

void Widen(const void* src, DType dtype, int64_t n, float* dst) {
  ConvertElements({src, dtype, Dims{n}}, {dst, DType::f32, Dims{n}});
}

void Narrow(const float* src, DType dtype, int64_t n, void* dst) {
  ConvertElements({src, DType::f32, Dims{n}}, {dst, dtype, Dims{n}});
}

size_t Carve(const RecurrentPlan& p, std::byte* base, Scratch* s) {
  Carver carver(base);
  const int64_t wide = p.dtype == DType::f32 ? 0 : 1;
  const Counts counts = CountsOf(p);
  s->w = carver.Take<std::byte>(p.w_packed ? 0 : p.w_pack.bytes());
  s->r = carver.Take<std::byte>(p.r_packed ? 0 : p.r_pack.bytes());
  for (int i = 0; i < 5; ++i) s->wide_in[i] = carver.Take<float>(wide * counts.in[i]);
  for (int i = 0; i < 3; ++i) s->wide_out[i] = carver.Take<float>(wide * counts.out[i]);
  s->bias = carver.Take<float>(p.columns());
  s->extra = carver.Take<float>(p.blocks() * p.extra_columns());
  s->gates = carver.Take<float>(p.rows() * p.columns());
  s->step = carver.Take<float>(p.threads * p.batch * p.ChunkColumns());
  s->h = carver.Take<float>(p.batch * p.padded());
  s->next = carver.Take<float>(p.batch * p.padded());
  s->reset = carver.Take<float>(p.phases > 1 ? p.batch * p.padded() : 0);
  s->c = carver.Take<float>(p.batch * p.padded());
  const int64_t quantized = p.quantized() ? 1 : 0;
  s->x8 = carver.Take<int8_t>(quantized * p.rows() * RowBytes(p.inputs));
  s->h8 = carver.Take<int8_t>(quantized * p.batch * RowBytes(p.hidden));
  s->x_scales = carver.Take<float>(quantized * p.rows());
  s->h_scales = carver.Take<float>(quantized * p.batch);
  return carver.bytes();
}

// One run over one direction.
struct Pass {
  const RecurrentPlan& p;
  const ThreadBudget& threads;
  Scratch s;
  const float* in[5];
  float* out[3];
  const int32_t* lengths;
  int64_t direction = 0;
  bool backwards = false;
  const std::byte *w = nullptr, *r = nullptr;
};

int64_t StateRow(const Pass& pass, int64_t b) {
  const RecurrentPlan& p = pass.p;
  return p.batch_first ? b * p.directions + pass.direction : pass.direction * p.batch + b;
}

void LoadState(const Pass& pass, const float* src, float* dst) {
  const RecurrentPlan& p = pass.p;
  std::fill_n(dst, p.batch * p.padded(), 0.0f);
  for (int64_t b = 0; src != nullptr && b < p.batch; ++b)
    std::copy_n(src + StateRow(pass, b) * p.hidden, p.hidden, dst + b * p.padded());
}

void StoreState(const Pass& pass, const float* src, float* dst) {
  const RecurrentPlan& p = pass.p;
  for (int64_t b = 0; dst != nullptr && b < p.batch; ++b)
    std::copy_n(src + b * p.padded(), p.hidden, dst + StateRow(pass, b) * p.hidden);
}

// Biases and peepholes of this direction in the order of the panels.
void SpreadParameters(const Pass& pass) {
  const RecurrentPlan& p = pass.p;
  const float* bias = pass.in[1];
  const float* peepholes = pass.in[4];
  const int64_t all = p.gates * p.hidden;
  if (bias) bias += pass.direction * 2 * all;
  if (peepholes) peepholes += pass.direction * 3 * p.hidden;
  std::fill_n(pass.s.bias, p.columns(), 0.0f);
  std::fill_n(pass.s.extra, p.blocks() * p.extra_columns(), 0.0f);
  for (int64_t unit = 0; unit < p.hidden; ++unit) {
    const int64_t block = unit / kPanel, lane = unit % kPanel;
    float* extra = pass.s.extra + block * p.extra_columns() + lane;
    for (int64_t g = 0; bias != nullptr && g < p.gates; ++g) {
      const bool apart = p.recurrent_bias_apart && g == 2;
      const int64_t at = g * p.hidden + unit;
      pass.s.bias[(block * p.gates + g) * kPanel + lane] = bias[at] + (apart ? 0 : bias[all + at]);
      if (apart) *extra = bias[all + at];
    }
    for (int64_t g = 0; p.peepholes && g < 3; ++g)
      extra[g * kPanel] = peepholes[g * p.hidden + unit];
  }
}

// Each row of `src` as bytes of its own scale, filled up with zeros.
void QuantizeRows(const RecurrentPlan& p, const float* src, int64_t stride, int64_t n,
                  int64_t first, int64_t last, int8_t* dst, float* scales) {
  const int64_t width = RowBytes(n);
  for (int64_t row = first; row < last; ++row) {
    std::fill_n(dst + row * width + n, width - n, int8_t{0});
    scales[row] = p.ints->quantize_row(src + row * stride, n, dst + row * width);
  }
}

constexpr int64_t kTogether = 4;  // panels of one quantized product

// dst[row, 0..) = the products of bytes with `panels` panels from `panel` on, as floats.
void MultiplyBytes(const RecurrentPlan& p, const RecurrentPack& pack, const std::byte* packed,
                   int64_t panel, int64_t panels, const int8_t* a, float a_scale, const float* bias,
                   float* dst) {
  alignas(64) int32_t sums[kTogether * kPanel];
  for (int64_t i = 0; i < panels; i += kTogether) {
    const int64_t some = std::min(kTogether, panels - i), column = i * kPanel;
    p.ints->multiply_row(
        {.a = a,
         .packed = reinterpret_cast<const int8_t*>(packed + (panel + i) * pack.panel_bytes()),
         .panels = some,
         .quads = QuadsOf(pack.depth),
         .c = sums});
    p.ints->dequantize_sums(sums, a_scale, {pack.Scales(packed) + panel * kPanel + column, true},
                            bias ? bias + column : nullptr, some * kPanel, dst + column);
  }
}

void InputGatesOfBytes(const Pass& pass) {
  const RecurrentPlan& p = pass.p;
  const Scratch& s = pass.s;
  const int64_t panels = p.w_pack.panels(), width = RowBytes(p.inputs);
  QuantizeRows(p, pass.in[0], p.inputs, p.inputs, 0, p.rows(), s.x8, s.x_scales);
  const int64_t groups = (panels + kTogether - 1) / kTogether;
  const int64_t grain = 100000 / std::max<int64_t>(1, p.rows() * width * kTogether * kPanel) + 1;
  pass.threads.ParallelRange(groups, grain, [&](int64_t first, int64_t last) {
    for (int64_t panel = first * kTogether; panel < std::min(last * kTogether, panels);
         panel += kTogether) {
      for (int64_t row = 0; row < p.rows(); ++row)
        MultiplyBytes(p, p.w_pack, pass.w, panel, std::min(kTogether, panels - panel),
                      s.x8 + row * width, s.x_scales[row], s.bias + panel * kPanel,
                      s.gates + row * p.columns() + panel * kPanel);
    }
  });
}

void SetPacked(const RecurrentPack& pack, const std::byte* panels, GemmArgs* args) {
  if (pack.format == WeightFormat::kBf16) {
    args->packed_bf16 = reinterpret_cast<const uint16_t*>(panels);
  } else {
    args->packed = reinterpret_cast<const float*>(panels);
  }
}

// Gates of all steps from the inputs, in rows as X has them.
void InputGates(const Pass& pass) {
  const RecurrentPlan& p = pass.p;
  SpreadParameters(pass);
  if (p.quantized()) return InputGatesOfBytes(pass);
  for (int64_t row = 0; row < p.rows(); ++row)
    std::copy_n(pass.s.bias, p.columns(), pass.s.gates + row * p.columns());
  GemmArgs args{.m = p.rows(),
                .n = p.columns(),
                .k = p.inputs,
                .a = pass.in[0],
                .a_row = p.inputs,
                .c = pass.s.gates,
                .c_row = p.columns(),
                .accumulate = true};
  SetPacked(p.w_pack, pass.w, &args);
  ParallelGemm(*p.gemm, args, pass.threads);
}

// A phase of a step: which product, from which rows, to which.
struct Phase {
  int index;
  int64_t step;
  const float* src;
  float* dst;
  bool last;
};

// The time that `step` is for a batch row; -1 past its length.
int64_t TimeOf(const Pass& pass, int64_t step, int64_t b) {
  const int64_t steps = pass.p.steps;
  const int64_t length = pass.lengths ? std::clamp<int64_t>(pass.lengths[b], 0, steps) : steps;
  if (step >= length) return -1;
  return pass.backwards ? length - 1 - step : step;
}

// Null values stand for zeros.
void StoreOutput(const Pass& pass, int64_t t, int64_t b, int64_t first, int64_t last,
                 const float* values) {
  const RecurrentPlan& p = pass.p;
  if (pass.out[0] == nullptr) return;
  const int64_t row = p.batch_first ? (b * p.steps + t) * p.directions + pass.direction
                                    : (t * p.directions + pass.direction) * p.batch + b;
  const int64_t unit = first * kPanel, count = std::min(last * kPanel, p.hidden) - unit;
  float* y = pass.out[0] + row * p.hidden + unit;
  values ? std::copy_n(values, count, y) : std::fill_n(y, count, 0.0f);
}

// The cells of one batch row and blocks [first, last). `recurrent`: the products of these blocks.
void RunCells(const Pass& pass, const Phase& phase, int64_t b, int64_t first, int64_t last,
              const float* recurrent) {
  const RecurrentPlan& p = pass.p;
  const int64_t t = TimeOf(pass, phase.step, b), unit = b * p.padded() + first * kPanel;
  if (t < 0) {
    if (!phase.last) return;
    std::copy_n(pass.s.h + unit, (last - first) * kPanel, phase.dst + unit);
    return StoreOutput(pass, phase.step, b, first, last, nullptr);
  }
  const int64_t row = p.batch_first ? b * p.steps + t : t * p.batch + b;
  p.cells[pass.direction][phase.index](
      {.blocks = last - first,
       .input_step = p.gates * kPanel,
       .recurrent_step = p.r_pack.groups[phase.index].gates * kPanel,
       .extra_step = p.extra_columns(),
       .clip = p.clip,
       .input = pass.s.gates + row * p.columns() + first * p.gates * kPanel,
       .recurrent = recurrent,
       .extra = pass.s.extra + first * p.extra_columns(),
       .h = pass.s.h + unit,
       .c = pass.s.c + unit,
       .next = phase.dst + unit});
  if (phase.last) StoreOutput(pass, t, b, first, last, phase.dst + unit);
}

void MultiplyChunk(const Pass& pass, const Phase& phase, int64_t panel, int64_t panels,
                   float* products) {
  const RecurrentPlan& p = pass.p;
  const int64_t columns = panels * kPanel, width = RowBytes(p.hidden);
  if (p.quantized()) {
    for (int64_t b = 0; b < p.batch; ++b)
      MultiplyBytes(p, p.r_pack, pass.r, panel, panels, pass.s.h8 + b * width, pass.s.h_scales[b],
                    nullptr, products + b * columns);
    return;
  }
  GemmArgs args{.m = p.batch,
                .n = columns,
                .k = p.hidden,
                .a = phase.src,
                .a_row = p.padded(),
                .c = products,
                .c_row = columns};
  SetPacked(p.r_pack, pass.r + panel * p.r_pack.panel_bytes(), &args);
  p.gemm->multiply(args);
}

void RunChunk(const Pass& pass, const Phase& phase, int64_t chunk, float* products) {
  const RecurrentPlan& p = pass.p;
  const int64_t gates = p.r_pack.groups[phase.index].gates, width = p.ChunkBlocks(phase.index);
  const int64_t first = chunk * width, last = std::min(first + width, p.blocks());
  const int64_t before = phase.index == 0 ? 0 : p.blocks() * p.r_pack.groups[0].gates;
  const int64_t panels = (last - first) * gates;
  MultiplyChunk(pass, phase, before + first * gates, panels, products);
  for (int64_t b = 0; b < p.batch; ++b)
    RunCells(pass, phase, b, first, last, products + b * panels * kPanel);
}

void RunPhase(const Pass& pass, const Phase& phase) {
  constexpr double kWorthAThread = 100e3;  // multiply-adds
  const RecurrentPlan& p = pass.p;
  if (p.quantized())
    QuantizeRows(p, phase.src, p.padded(), p.hidden, 0, p.batch, pass.s.h8, pass.s.h_scales);
  const int64_t width = p.ChunkBlocks(phase.index), chunks = (p.blocks() + width - 1) / width;
  const double work = static_cast<double>(p.batch) * p.hidden * p.hidden *
                      static_cast<double>(p.r_pack.groups[phase.index].gates);
  const int64_t pieces = std::min(
      {static_cast<int64_t>(work / kWorthAThread) + 1, chunks, int64_t{pass.threads.threads}});
  const auto run = [&](int64_t piece) {
    const int64_t first = chunks * piece / pieces, last = chunks * (piece + 1) / pieces;
    float* products = pass.s.step + piece * p.batch * p.ChunkColumns();
    for (int64_t i = first; i < last; ++i)
      RunChunk(pass, phase, phase.step % 2 ? last - 1 - (i - first) : i, products);
  };
  if (pieces == 1) return run(0);
  pass.threads.ParallelFor(static_cast<int>(pieces), run);
}

void RunDirection(Pass& pass) {
  const RecurrentPlan& p = pass.p;
  InputGates(pass);
  LoadState(pass, pass.in[2], pass.s.h);
  LoadState(pass, pass.in[3], pass.s.c);
  for (int64_t step = 0; step < p.steps; ++step) {
    for (int i = 0; i < p.phases; ++i) {
      const bool last = i + 1 == p.phases;
      RunPhase(pass, {i, step, i == 0 ? pass.s.h : pass.s.reset, last ? pass.s.next : pass.s.reset,
                      last});
    }
    std::swap(pass.s.h, pass.s.next);
  }
  StoreState(pass, pass.s.h, pass.out[1]);
  StoreState(pass, pass.s.c, pass.out[2]);
}

const std::byte* PackedOf(const Pass& pass, const KernelArgs& args, Input input) {
  const RecurrentPlan& p = pass.p;
  const auto& pack = input == kW ? p.w_pack : p.r_pack;
  const auto& ready = input == kW ? p.w_packed : p.r_packed;
  if (ready) return ready.get() + pass.direction * pack.bytes();
  RecurrentWeights weights = input == kW ? p.w : p.r;
  const int scale = input == kW ? kWScale : kRScale;
  weights.view.data = args.inputs[input];
  weights.scales = In<float>(args, scale);
  weights.zeros.data = In<std::byte>(args, scale + 1);
  std::byte* packed = input == kW ? pass.s.w : pass.s.r;
  PackRecurrent(weights, pass.direction, pack, packed);
  return packed;
}

}  // namespace

int64_t RecurrentPlan::ChunkColumns() const {
  int64_t most = 0;
  for (int i = 0; i < phases; ++i)
    most = std::max(most, ChunkBlocks(i) * r_pack.groups[i].gates * kPanel);
  return most;
}

size_t RecurrentScratchBytes(const RecurrentPlan& plan) {
  Scratch scratch;
  return Carve(plan, nullptr, &scratch);
}

void RunRecurrent(const RecurrentPlan& p, const KernelArgs& args) {
  Pass pass{.p = p, .threads = args.threads, .lengths = In<int32_t>(args, kLengths)};
  Carve(p, static_cast<std::byte*>(args.scratch), &pass.s);
  const Counts counts = CountsOf(p);
  for (int i = 0; i < 5; ++i) {
    pass.in[i] = In<float>(args, kFloatInputs[i]);
    if (pass.in[i] == nullptr || p.dtype == DType::f32) continue;
    Widen(pass.in[i], p.dtype, counts.in[i], pass.s.wide_in[i]);
    pass.in[i] = pass.s.wide_in[i];
  }
  for (int i = 0; i < 3; ++i)
    pass.out[i] =
        Out<float>(args, i) && p.dtype != DType::f32 ? pass.s.wide_out[i] : Out<float>(args, i);
  for (pass.direction = 0; pass.direction < p.directions; ++pass.direction) {
    pass.backwards = p.reverse_only || pass.direction == 1;
    pass.w = PackedOf(pass, args, kW);
    pass.r = PackedOf(pass, args, kR);
    RunDirection(pass);
  }
  for (int i = 0; p.dtype != DType::f32 && i < 3; ++i)
    if (pass.out[i]) Narrow(pass.out[i], p.dtype, counts.out[i], args.outputs[i]);
}

}  // namespace minim
