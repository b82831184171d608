// LstmGrad and GruGrad: walk the steps of a layer back, from what its cells saved to the gradients
// of what entered its gates. A batch row never meets another, so each thread walks its own rows; R
// is packed once a run.
#include <algorithm>

#include "core/dtype.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/carver.h"
#include "kernels/cpu/recurrent_cell.h"

namespace minim {
namespace {

// The state is c for LSTM and h for GRU.
enum Input { kR, kSaved, kState0, kDy, kDyH, kDyC, kY = kDyC };
enum Output { kDa, kDh0, kDc0, kDr = kDc0 };

struct Plan {
  int64_t steps = 0, directions = 1, batch = 0, hidden = 0, gates = 0, planes = 0;
  bool gru = false, linear = false, reverse_only = false;
  const GemmLevel* gemm = nullptr;
  const CellLevel* cells = nullptr;
  DType dtype = DType::f32;
  int threads = 1;

  int64_t columns() const { return gates * hidden; }
  bool wide() const { return dtype != DType::f32; }
  int64_t pieces() const { return std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, batch)); }
  int64_t piece_rows() const { return (batch + pieces() - 1) / pieces(); }  // the most
};

// What a piece works in; what is behind `dr` only where values are not FP32.
struct Room {
  float *zeros, *dh, *dc, *inside, *da, *dr;
  float *saved[2], *before, *dy;
};
struct Scratch {
  float *r, *packed;
  std::byte* rooms;
  size_t room_bytes;
};

size_t CarveRoom(const Plan& p, std::byte* base, Room* room) {
  Carver carver(base);
  const int64_t rows = p.piece_rows(), states = rows * p.hidden, wide = p.wide() ? 1 : 0;
  room->zeros = carver.Take<float>(p.hidden);
  room->dh = carver.Take<float>(states);
  room->dc = carver.Take<float>(p.gru ? 0 : states);
  room->inside = carver.Take<float>(p.gru && !p.linear ? states : 0);
  room->da = carver.Take<float>(rows * p.columns());
  room->dr = carver.Take<float>(p.linear ? rows * p.columns() : 0);
  for (float*& saved : room->saved) saved = carver.Take<float>(wide * states * p.planes);
  room->before = carver.Take<float>(wide * states);
  room->dy = carver.Take<float>(wide * states);
  return carver.bytes();
}

size_t Carve(const Plan& p, std::byte* base, Scratch* s) {
  Carver carver(base);
  Room room;
  s->r = carver.Take<float>(p.wide() ? p.columns() * p.hidden : 0);
  s->packed = carver.Take<float>(static_cast<int64_t>(PackedFloats(p.columns(), p.hidden)));
  s->room_bytes = CarveRoom(p, nullptr, &room);
  s->rooms = carver.Take<std::byte>(p.pieces() * static_cast<int64_t>(s->room_bytes));
  return carver.bytes();
}

// `count` values of an input from `at` on, as floats.
const float* Floats(const Plan& p, const void* src, int64_t at, int64_t count, float* room) {
  if (!p.wide()) return static_cast<const float*>(src) + at;
  const auto* from = static_cast<const std::byte*>(src) + at * SizeOf(p.dtype);
  ConvertElements({from, p.dtype, Dims{count}}, {room, DType::f32, Dims{count}});
  return room;
}

// Writes `count` values of an output, if it is there, unless they were made in their place.
void Deliver(const Plan& p, const float* src, int64_t at, int64_t count, void* dst) {
  if (dst == nullptr) return;
  if (p.wide()) {
    auto* to = static_cast<std::byte*>(dst) + at * SizeOf(p.dtype);
    ConvertElements({src, DType::f32, Dims{count}}, {to, p.dtype, Dims{count}});
  } else if (static_cast<float*>(dst) + at != src) {
    std::copy_n(src, count, static_cast<float*>(dst) + at);
  }
}

// Some batch rows of one direction.
class Piece {
 public:
  Piece(const Plan& p, const KernelArgs& args, const float* packed, int64_t direction,
        int64_t first, int64_t count, const Room& room)
      : p_(p), args_(args), packed_(packed), d_(direction), n_(first), count_(count), room_(room) {}

  void Run() {
    std::fill_n(room_.zeros, p_.hidden, 0.0f);
    LoadState(kDyH, room_.dh);
    if (!p_.gru) LoadState(kDyC, room_.dc);
    const float* saved = p_.steps > 0 ? Saved(p_.steps - 1) : nullptr;
    for (int64_t step = p_.steps; step-- > 0;) {
      const float* previous = step > 0 ? Saved(step - 1) : nullptr;
      Step(step, saved, Before(step, previous));
      saved = previous;
    }
    Deliver(p_, room_.dh, StateAt(), count_ * p_.hidden, Out<void>(args_, kDh0));
    if (!p_.gru) Deliver(p_, room_.dc, StateAt(), count_ * p_.hidden, Out<void>(args_, kDc0));
  }

 private:
  struct Rows {
    const float* data;
    int64_t stride;
  };

  int64_t TimeOf(int64_t step) const {
    return p_.reverse_only || d_ == 1 ? p_.steps - 1 - step : step;
  }
  int64_t StateAt() const { return (d_ * p_.batch + n_) * p_.hidden; }
  // The first of this piece's rows in a value ordered as Y.
  int64_t RowOf(int64_t step) const { return (TimeOf(step) * p_.directions + d_) * p_.batch + n_; }
  int64_t GatesAt(int64_t step) const {
    return ((d_ * p_.steps + TimeOf(step)) * p_.batch + n_) * p_.columns();
  }

  void LoadState(int input, float* dst) {
    const void* src = In<void>(args_, input);
    if (src == nullptr) {
      std::fill_n(dst, count_ * p_.hidden, 0.0f);
    } else if (const float* from = Floats(p_, src, StateAt(), count_ * p_.hidden, dst);
               from != dst) {
      std::copy_n(from, count_ * p_.hidden, dst);
    }
  }
  const float* Saved(int64_t step) {
    const int64_t row = p_.planes * p_.hidden;
    return Floats(p_, In<void>(args_, kSaved), RowOf(step) * row, count_ * row,
                  room_.saved[step % 2]);
  }
  // The state before a step; `previous` is what the step before saved.
  Rows Before(int64_t step, const float* previous) {
    if (step > 0 && !p_.gru) return {previous + 4 * p_.hidden, p_.planes * p_.hidden};
    const void* src = In<void>(args_, step > 0 ? kY : kState0);
    if (src == nullptr) return {room_.zeros, 0};
    const int64_t at = step > 0 ? RowOf(step - 1) * p_.hidden : StateAt();
    return {Floats(p_, src, at, count_ * p_.hidden, room_.before), p_.hidden};
  }
  Rows OutputGrad(int64_t step) {
    const void* src = In<void>(args_, kDy);
    if (src == nullptr) return {room_.zeros, 0};
    return {Floats(p_, src, RowOf(step) * p_.hidden, count_ * p_.hidden, room_.dy), p_.hidden};
  }
  // Where a step's gradients of gates are made: in their place if it takes floats.
  float* Gates(int output, int64_t step, float* room) const {
    auto* dst = Out<float>(args_, output);
    return dst && !p_.wide() ? dst + GatesAt(step) : room;
  }

  void Step(int64_t step, const float* saved, Rows before) {
    const Rows dy = OutputGrad(step);
    float* da = Gates(kDa, step, room_.da);
    float* dr = p_.linear ? Gates(kDr, step, room_.dr) : da;
    const auto each_row = [&](BackFunction cell) {
      for (int64_t b = 0; b < count_; ++b)
        cell({.hidden = p_.hidden,
              .saved = saved + b * p_.planes * p_.hidden,
              .before = before.data + b * before.stride,
              .dy = dy.data + b * dy.stride,
              .dh = room_.dh + b * p_.hidden,
              .dc = room_.dc + b * p_.hidden,
              .da = da + b * p_.columns(),
              .dr = dr + b * p_.columns(),
              .inside = room_.inside + b * p_.hidden});
    };
    if (!p_.gru) {
      each_row(p_.cells->lstm_back);
      Multiply(da, 0, 4, false, room_.dh);
    } else if (p_.linear) {
      each_row(p_.cells->gru_linear_back);
      Multiply(dr, 0, 3, true, room_.dh);
    } else {
      each_row(p_.cells->gru_back_gates);
      Multiply(da, 2, 3, false, room_.inside);
      each_row(p_.cells->gru_back_reset);
      Multiply(da, 0, 2, true, room_.dh);
    }
    Deliver(p_, da, GatesAt(step), count_ * p_.columns(), Out<void>(args_, kDa));
    if (p_.gru) Deliver(p_, dr, GatesAt(step), count_ * p_.columns(), Out<void>(args_, kDr));
  }

  // The product of gates [first, last) with their rows of R.
  void Multiply(const float* gates, int64_t first, int64_t last, bool accumulate, float* dst) {
    p_.gemm->multiply({.m = count_,
                       .n = p_.hidden,
                       .k = (last - first) * p_.hidden,
                       .a = gates + first * p_.hidden,
                       .a_row = p_.columns(),
                       .packed = packed_ + first * p_.hidden * kPanel,
                       .panel_stride = p_.columns() * kPanel,
                       .c = dst,
                       .c_row = p_.hidden,
                       .accumulate = accumulate});
  }

  const Plan& p_;
  const KernelArgs& args_;
  const float* packed_;
  int64_t d_, n_, count_;
  Room room_;
};

void Run(const Plan& p, const KernelArgs& args) {
  if (p.batch * p.hidden == 0) return;
  Scratch s;
  Carve(p, static_cast<std::byte*>(args.scratch), &s);
  for (int64_t d = 0; d < p.directions; ++d) {
    const int64_t size = p.columns() * p.hidden;
    const float* r = Floats(p, args.inputs[kR], d * size, size, s.r);
    const GemmPack source{.b = r, .row = p.hidden, .k = p.columns(), .n = p.hidden};
    args.threads.ParallelRange(source.groups(), 4, [&](int64_t first, int64_t last) {
      p.gemm->pack(source, first, last, s.packed);
    });
    args.threads.ParallelFor(static_cast<int>(p.pieces()), [&](int i) {
      Room room;
      CarveRoom(p, s.rooms + i * s.room_bytes, &room);
      const int64_t first = p.batch * i / p.pieces(), last = p.batch * (i + 1) / p.pieces();
      Piece(p, args, s.packed, d, first, last - first, room).Run();
    });
  }
}

BindResult Bind(const KernelRequest& request, const GemmLevel& gemm, const CellLevel& cells) {
  const DType dtype = request.inputs[kR].dtype;
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
    return Unsupported("R is {}", Name(dtype));
  MINIM_TRY(RequireInputs(request, kR, request.inputs.size(), dtype));
  const Attributes& attributes = AttributesOf(request);
  const Dims &r = request.inputs[kR].dims, &saved = request.inputs[kSaved].dims;
  Plan p{.steps = saved[0],
         .directions = saved[1],
         .batch = saved[2],
         .hidden = r[2],
         .gru = request.op == "GruGrad",
         .reverse_only = attributes.String("direction", "forward") == "reverse",
         .gemm = &gemm,
         .cells = &cells,
         .dtype = dtype,
         .threads = std::max(1, request.threads)};
  p.linear = p.gru && attributes.Int("linear_before_reset", 0) != 0;
  p.gates = p.gru ? 3 : 4;
  p.planes = p.gru ? p.linear ? 4 : 3 : 5;
  Scratch scratch;
  const size_t bytes = Carve(p, nullptr, &scratch);
  return MakeKernel(
      fmt::format("recurrent gradient {}", gemm.name),
      [p](const KernelArgs& args) { Run(p, args); }, bytes);
}

}  // namespace

BindResult RecurrentGradAvx512(const KernelRequest& request) {
  return Bind(request, GemmAvx512(), CellsAvx512());
}
BindResult RecurrentGradAvx2(const KernelRequest& request) {
  return Bind(request, GemmAvx2(), CellsAvx2());
}
BindResult RecurrentGradPortable(const KernelRequest& request) {
  return Bind(request, GemmPortable(), CellsPortable());
}

}  // namespace minim
