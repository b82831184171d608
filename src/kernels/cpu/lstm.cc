// LSTM as ONNX defines it, FP32: one product for the inputs of all steps, then one packed product
// per step for the recurrence. Gates stand in ONNX's order: input, output, forget, cell.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/lstm_cell.h"

namespace minim {
namespace {

enum Input { kX, kW, kR, kB, kLengths, kH0, kC0, kP };

struct Plan {
  int64_t steps = 0, batch = 0, input = 0, hidden = 0, directions = 1;
  bool reverse_only = false, batch_first = false;
  CellParams cell;  // activations, clip, input_forget
  const GemmLevel* gemm = nullptr;
  CellFunction update = nullptr;
  std::shared_ptr<const std::byte> w, r;  // packed, per direction
  size_t w_bytes = 0, r_bytes = 0;        // of one direction, packed
  size_t gate_bytes = 0, step_bytes = 0, state_bytes = 0, bias_bytes = 0;

  int64_t gates() const { return 4 * hidden; }
};

struct Scratch {
  float *w, *r, *gates, *step, *h, *c, *bias;
};

Scratch Carve(const Plan& p, void* scratch) {
  auto* at = static_cast<std::byte*>(scratch);
  const auto take = [&](size_t bytes) {
    auto* result = reinterpret_cast<float*>(at);
    at += bytes;
    return result;
  };
  Scratch s;
  s.w = take(p.w ? 0 : p.w_bytes);
  s.r = take(p.r ? 0 : p.r_bytes);
  s.gates = take(p.gate_bytes);
  s.step = take(p.step_bytes);
  s.h = take(p.state_bytes);
  s.c = take(p.state_bytes);
  s.bias = take(p.bias_bytes);
  return s;
}

void LoadState(const Plan& p, const float* src, int64_t direction, float* dst) {
  const int64_t n = p.batch * p.hidden;
  if (src == nullptr) {
    std::fill_n(dst, n, 0.0f);
    return;
  }
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t row = p.batch_first ? b * p.directions + direction : direction * p.batch + b;
    std::copy_n(src + row * p.hidden, p.hidden, dst + b * p.hidden);
  }
}

void StoreState(const Plan& p, const float* src, int64_t direction, float* dst) {
  if (dst == nullptr) return;
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t row = p.batch_first ? b * p.directions + direction : direction * p.batch + b;
    std::copy_n(src + b * p.hidden, p.hidden, dst + row * p.hidden);
  }
}

float* OutputRow(const Plan& p, float* y, int64_t t, int64_t direction, int64_t b) {
  const int64_t row = p.batch_first ? (b * p.steps + t) * p.directions + direction
                                    : (t * p.directions + direction) * p.batch + b;
  return y + row * p.hidden;
}

// Gates of all steps from the inputs: rows (step, batch), or (batch, step) when the batch is first.
void InputGates(const Plan& p, const KernelArgs& args, int64_t direction, const Scratch& s) {
  const float* bias = In<float>(args, kB);
  const int64_t g = p.gates();
  for (int64_t i = 0; i < g; ++i)
    s.bias[i] = bias ? bias[direction * 2 * g + i] + bias[direction * 2 * g + g + i] : 0.0f;
  const float* packed = s.w;
  if (p.w) {
    packed = reinterpret_cast<const float*>(p.w.get()) + direction * (p.w_bytes / sizeof(float));
  } else {
    p.gemm->pack(In<float>(args, kW) + direction * g * p.input, 1, p.input, p.input, g, 0,
                 PanelsOf(g), s.w);
  }
  const Epilogue epilogue{.column_bias = s.bias};
  ParallelGemm(*p.gemm,
               {.m = p.steps * p.batch,
                .n = g,
                .k = p.input,
                .a = In<float>(args, kX),
                .a_row = p.input,
                .packed = packed,
                .c = s.gates,
                .c_row = g,
                .epilogue = &epilogue},
               args.threads);
}

void RunStep(const Plan& p, const KernelArgs& args, int64_t direction, bool backwards, int64_t step,
             const float* r, const Scratch& s) {
  const int64_t g = p.gates();
  const int32_t* lengths = In<int32_t>(args, kLengths);
  ParallelGemm(*p.gemm,
               {.m = p.batch,
                .n = g,
                .k = p.hidden,
                .a = s.h,
                .a_row = p.hidden,
                .packed = r,
                .c = s.step,
                .c_row = g},
               args.threads);
  const float* peepholes = In<float>(args, kP);
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t length = lengths ? std::clamp<int64_t>(lengths[b], 0, p.steps) : p.steps;
    float* y = Out<float>(args, 0);
    if (step >= length) {
      if (y) std::fill_n(OutputRow(p, y, step, direction, b), p.hidden, 0.0f);
      continue;
    }
    const int64_t t = backwards ? length - 1 - step : step;
    const int64_t row = p.batch_first ? b * p.steps + t : t * p.batch + b;
    p.update(p.cell, s.gates + row * g, s.step + b * g,
             peepholes ? peepholes + direction * 3 * p.hidden : nullptr, p.hidden,
             s.c + b * p.hidden, s.h + b * p.hidden);
    if (y) std::copy_n(s.h + b * p.hidden, p.hidden, OutputRow(p, y, t, direction, b));
  }
}

void Run(const Plan& p, const KernelArgs& args) {
  const Scratch s = Carve(p, args.scratch);
  const int64_t g = p.gates();
  for (int64_t direction = 0; direction < p.directions; ++direction) {
    InputGates(p, args, direction, s);
    const float* r = s.r;
    if (p.r) {
      r = reinterpret_cast<const float*>(p.r.get()) + direction * (p.r_bytes / sizeof(float));
    } else {
      p.gemm->pack(In<float>(args, kR) + direction * g * p.hidden, 1, p.hidden, p.hidden, g, 0,
                   PanelsOf(g), s.r);
    }
    LoadState(p, In<float>(args, kH0), direction, s.h);
    LoadState(p, In<float>(args, kC0), direction, s.c);
    const bool backwards = p.reverse_only || direction == 1;
    for (int64_t step = 0; step < p.steps; ++step)
      RunStep(p, args, direction, backwards, step, r, s);
    StoreState(p, s.h, direction, Out<float>(args, 1));
    StoreState(p, s.c, direction, Out<float>(args, 2));
  }
}

Status FillAttributes(const KernelRequest& request, Plan* p) {
  const Attributes& attributes = AttributesOf(request);
  const std::string direction = attributes.String("direction", "forward");
  p->directions = direction == "bidirectional" ? 2 : 1;
  p->reverse_only = direction == "reverse";
  p->batch_first = attributes.Int("layout", 0) != 0;
  p->cell.clip = attributes.Float("clip", 0);
  p->cell.input_forget = attributes.Int("input_forget", 0) != 0;
  const std::vector<std::string> names = attributes.Strings("activations");
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string wanted = i % 3 == 0 ? "sigmoid" : "tanh";
    std::string lower = names[i];
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (lower != wanted) return Unsupported("activation {} in place {}", names[i], i);
  }
  return {};
}

std::shared_ptr<const std::byte> PackWeights(const KernelRequest& request, const Plan& p,
                                             size_t input, int64_t k, size_t bytes) {
  const TensorDesc& weights = request.inputs[input];
  if (weights.constant == nullptr) return nullptr;
  const int64_t g = p.gates();
  return request.packs->GetOrPack(
      weights.ConstantView(), fmt::format("lstm16.{}.{}", g, k), bytes * p.directions,
      [&](std::byte* blob) {
        for (int64_t d = 0; d < p.directions; ++d)
          p.gemm->pack(static_cast<const float*>(weights.constant) + d * g * k, 1, k, k, g, 0,
                       PanelsOf(g), reinterpret_cast<float*>(blob + d * bytes));
      });
}

BindResult Bind(const KernelRequest& request, const GemmLevel& gemm, CellFunction update,
                std::string_view level) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireInputs(request, kLengths, kH0, DType::i32));
  MINIM_TRY(RequireInputs(request, kH0, 8, DType::f32));
  Plan p{.gemm = &gemm, .update = update};
  MINIM_TRY(FillAttributes(request, &p));
  const Dims &x = request.inputs[kX].dims, &r = request.inputs[kR].dims;
  if (x.rank() != 3 || r.rank() != 3 || r[0] != p.directions)
    return Unsupported("X {}, R {}", x.ToString(), r.ToString());
  p.steps = x[p.batch_first ? 1 : 0];
  p.batch = x[p.batch_first ? 0 : 1];
  p.input = x[2];
  p.hidden = r[2];
  p.w_bytes = AlignUp(PackedFloats(p.input, p.gates()) * sizeof(float));
  p.r_bytes = AlignUp(PackedFloats(p.hidden, p.gates()) * sizeof(float));
  p.w = PackWeights(request, p, kW, p.input, p.w_bytes);
  p.r = PackWeights(request, p, kR, p.hidden, p.r_bytes);
  p.gate_bytes = AlignUp(p.steps * p.batch * p.gates() * sizeof(float));
  p.step_bytes = AlignUp(p.batch * p.gates() * sizeof(float));
  p.state_bytes = AlignUp(p.batch * p.hidden * sizeof(float));
  p.bias_bytes = AlignUp(p.gates() * sizeof(float));
  const size_t scratch = (p.w ? 0 : p.w_bytes) + (p.r ? 0 : p.r_bytes) + p.gate_bytes +
                         p.step_bytes + 2 * p.state_bytes + p.bias_bytes;
  return MakeKernel(
      fmt::format("lstm {}", level), [p = std::move(p)](const KernelArgs& args) { Run(p, args); },
      scratch);
}

}  // namespace

BindResult LstmAvx2(const KernelRequest& request) {
  return Bind(request, GemmAvx2(), LstmCellAvx2(), "avx2");
}
BindResult LstmPortable(const KernelRequest& request) {
  return Bind(request, GemmPortable(), LstmCellPortable(), "portable");
}

}  // namespace minim
