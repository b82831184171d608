// Runs a recurrent layer: one product for the inputs of all steps, then per step the product of R
// with the state, chunk by chunk of units, each followed by the cells of its units while its sums
// are in L1. R stays where the caches can hold it: odd steps walk it backwards, so that a step
// begins with what the last one read last.
#include "kernels/cpu/recurrent.h"

#include <algorithm>

#include "core/dtype.h"
#include "kernels/cpu/recurrent_products.h"

namespace minim {
namespace {

using namespace recurrent;

struct Scratch {
  std::byte *w, *r;
  float *wide_in[5], *wide_out[4];  // X, B, H0, C0, P and results when they are not FP32
  float *bias, *extra, *gates, *step, *h, *next, *reset, *c;
  ProductRows x_rows, h_rows;
};
constexpr int kFloatInputs[5] = {kX, kB, kH0, kC0, kP};
constexpr int kSaved = 3;  // after Y, Y_h and Y_c
struct Counts {
  int64_t in[5], out[4];
};
Counts CountsOf(const RecurrentPlan& p) {
  const int64_t states = p.directions * p.batch * p.hidden;
  return {{p.rows() * p.inputs, p.directions * 2 * p.gates * p.hidden, states, states,
           p.directions * 3 * p.hidden},
          {p.directions * p.rows() * p.hidden, states, states,
           p.directions * p.rows() * p.hidden * p.planes()}};
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
  for (int i = 0; i < 4; ++i) s->wide_out[i] = carver.Take<float>(wide * counts.out[i]);
  s->bias = carver.Take<float>(p.columns());
  s->extra = carver.Take<float>(p.blocks() * p.extra_columns());
  s->gates = carver.Take<float>(p.rows() * p.columns());
  s->step = carver.Take<float>(p.threads * p.batch * p.ChunkColumns());
  s->h = carver.Take<float>(p.batch * p.padded());
  s->next = carver.Take<float>(p.batch * p.padded());
  s->reset = carver.Take<float>(p.phases > 1 ? p.batch * p.padded() : 0);
  s->c = carver.Take<float>(p.batch * p.padded());
  s->x_rows = TakeProductRows(p, p.w_pack, p.rows(), carver);
  s->h_rows = TakeProductRows(p, p.r_pack, p.batch, carver);
  return carver.bytes();
}

// One run over one direction, of all batch rows or of some.
struct Pass {
  const RecurrentPlan& p;
  const ThreadBudget& threads;
  int64_t first_row = 0, row_count = p.batch;
  bool split = false;  // by rows: a thread of its own for all steps
  Scratch s;
  const float* in[5];
  float* out[4];
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
  for (int64_t block = 0; block < p.blocks(); ++block) {
    const int64_t unit = block * kPanel, count = std::min(kPanel, p.hidden - unit);
    float* extra = pass.s.extra + block * p.extra_columns();
    for (int64_t g = 0; bias != nullptr && g < p.gates; ++g) {
      const float *from_w = bias + g * p.hidden + unit, *from_r = from_w + all;
      const bool apart = p.recurrent_bias_apart && g == 2;
      float* sum = pass.s.bias + (block * p.gates + g) * kPanel;
      for (int64_t i = 0; i < count; ++i) sum[i] = from_w[i] + (apart ? 0 : from_r[i]);
      if (apart) std::copy_n(from_r, count, extra);
    }
    for (int64_t g = 0; p.peepholes && g < 3; ++g)
      std::copy_n(peepholes + g * p.hidden + unit, count, extra + g * kPanel);
  }
}

// Gates of all steps from the inputs, in rows as X has them.
void InputGates(Pass& pass) {
  const RecurrentPlan& p = pass.p;
  SpreadParameters(pass);
  FormRows(p, p.w_pack, pass.in[0], p.inputs, &pass.s.x_rows);
  ParallelMultiplyRows(p, p.w_pack, pass.w, pass.s.x_rows, {pass.s.bias, pass.s.gates, p.columns()},
                       pass.threads);
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

// Where the cells of a phase save their planes of blocks [first, last): straight in the output,
// unless its last block is not whole.
struct SavedPlanes {
  float* dst = nullptr;
  int64_t count, stride, units;
  bool whole;
  alignas(64) float edge[kMaxSavedPlanes * kMaxChunkBlocks * kPanel];

  SavedPlanes(const Pass& pass, int phase, int64_t t, int64_t b, int64_t first, int64_t last)
      : count(pass.p.saved_planes[phase]),
        stride(pass.p.hidden),
        units(std::min(last * kPanel, stride) - first * kPanel),
        whole(last * kPanel <= stride) {
    const RecurrentPlan& p = pass.p;
    if (count == 0) return;
    const int64_t row = (t * p.directions + pass.direction) * p.batch + b;
    const int64_t before = phase == 0 ? 0 : p.saved_planes[0];
    dst = pass.out[kSaved] + (row * p.planes() + before) * stride + first * kPanel;
  }
  float* room() { return whole ? dst : edge; }
  int64_t step() const { return whole ? stride : kMaxChunkBlocks * kPanel; }
  void Finish() const {
    for (int64_t i = 0; !whole && i < count; ++i)
      std::copy_n(edge + i * step(), units, dst + i * stride);
  }
};

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
  SavedPlanes saved(pass, phase.index, t, b, first, last);
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
       .next = phase.dst + unit,
       .saved = saved.room(),
       .saved_step = saved.step()});
  saved.Finish();
  if (phase.last) StoreOutput(pass, t, b, first, last, phase.dst + unit);
}

void RunChunk(const Pass& pass, const Phase& phase, int64_t chunk, float* products) {
  const RecurrentPlan& p = pass.p;
  const int64_t gates = p.r_pack.groups[phase.index].gates, width = p.ChunkBlocks(phase.index);
  const int64_t first = chunk * width, last = std::min(first + width, p.blocks());
  const int64_t before = phase.index == 0 ? 0 : p.blocks() * p.r_pack.groups[0].gates;
  const int64_t panels = (last - first) * gates, columns = panels * kPanel;
  MultiplyRows(p, p.r_pack, pass.r, before + first * gates, panels, pass.s.h_rows,
               {nullptr, products, columns, phase.step % 2 != 0});
  for (int64_t i = 0; i < pass.row_count; ++i)
    RunCells(pass, phase, pass.first_row + i, first, last, products + i * columns);
}

constexpr double kWorthAThread = 100e3;  // multiply-adds

void RunPhase(Pass& pass, const Phase& phase) {
  const RecurrentPlan& p = pass.p;
  FormRows(p, p.r_pack, phase.src + pass.first_row * p.padded(), p.padded(), &pass.s.h_rows);
  const int64_t width = p.ChunkBlocks(phase.index), chunks = (p.blocks() + width - 1) / width;
  const double work = static_cast<double>(p.batch) * p.hidden * p.hidden *
                      static_cast<double>(p.r_pack.groups[phase.index].gates);
  const int64_t threads = pass.split ? 1 : pass.threads.threads;
  const int64_t pieces =
      std::min({static_cast<int64_t>(work / kWorthAThread) + 1, chunks, threads});
  const auto run = [&](int64_t piece) {
    const int64_t first = chunks * piece / pieces, last = chunks * (piece + 1) / pieces;
    float* products = pass.s.step + piece * p.batch * p.ChunkColumns();
    for (int64_t i = first; i < last; ++i)
      RunChunk(pass, phase, phase.step % 2 ? last - 1 - (i - first) : i, products);
  };
  if (pieces == 1) return run(0);
  pass.threads.ParallelFor(static_cast<int>(pieces), [&](int64_t piece) {
    run(piece);
    ReleaseProducts(p);
  });
}

void RunSteps(Pass& pass) {
  for (int64_t step = 0; step < pass.p.steps; ++step) {
    for (int i = 0; i < pass.p.phases; ++i) {
      const bool last = i + 1 == pass.p.phases;
      RunPhase(pass, {i, step, i == 0 ? pass.s.h : pass.s.reset, last ? pass.s.next : pass.s.reset,
                      last});
    }
    std::swap(pass.s.h, pass.s.next);
  }
  ReleaseProducts(pass.p);
}

// Rows do not depend on one another: with enough of them each thread takes some through all steps,
// and none waits for another in between.
int64_t RowPieces(const Pass& pass) {
  constexpr int64_t kLeastRows = 4;  // fewer read R more often than the barriers cost
  const RecurrentPlan& p = pass.p;
  const double work = static_cast<double>(p.rows()) * p.hidden * p.hidden * p.gates;
  return std::clamp<int64_t>(std::min({int64_t{pass.threads.threads}, p.batch / kLeastRows,
                                       static_cast<int64_t>(work / kWorthAThread)}),
                             1, int64_t{p.threads});
}

Pass RowsOf(const Pass& pass, int64_t first, int64_t last) {
  const RecurrentPlan& p = pass.p;
  Pass part = pass;
  part.split = true;
  part.first_row = first;
  part.row_count = last - first;
  part.s.step += first * p.ChunkColumns();
  part.s.h_rows = part.s.h_rows.Some(first, last);
  return part;
}

void RunDirection(Pass& pass) {
  const RecurrentPlan& p = pass.p;
  InputGates(pass);
  LoadState(pass, pass.in[2], pass.s.h);
  LoadState(pass, pass.in[3], pass.s.c);
  const int64_t pieces = RowPieces(pass);
  if (pieces == 1) {
    RunSteps(pass);
  } else {
    pass.threads.ParallelFor(static_cast<int>(pieces), [&](int64_t i) {
      Pass part = RowsOf(pass, p.batch * i / pieces, p.batch * (i + 1) / pieces);
      RunSteps(part);
    });
    if (p.steps % 2) std::swap(pass.s.h, pass.s.next);  // as the parts did
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
  const int outputs[] = {0, 1, p.gates == 4 ? 2 : -1, p.saved_output};
  for (int i = 0; i < 4; ++i) {
    pass.out[i] = outputs[i] < 0 ? nullptr : Out<float>(args, outputs[i]);
    if (pass.out[i] && p.dtype != DType::f32) pass.out[i] = pass.s.wide_out[i];
  }
  for (pass.direction = 0; pass.direction < p.directions; ++pass.direction) {
    pass.backwards = p.reverse_only || pass.direction == 1;
    pass.w = PackedOf(pass, args, kW);
    pass.r = PackedOf(pass, args, kR);
    RunDirection(pass);
  }
  for (int i = 0; p.dtype != DType::f32 && i < 4; ++i)
    if (pass.out[i]) Narrow(pass.out[i], p.dtype, counts.out[i], args.outputs[outputs[i]]);
}

}  // namespace minim
