// LSTM, GRU, RNN and the quantized LSTM as ONNX defines them: what a node asks for, as a plan.
#include <algorithm>
#include <limits>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/recurrent.h"

namespace minim {
namespace {

using namespace recurrent;

struct Levels {
  const GemmLevel& gemm;
  const IntLevel& ints;
  const CellLevel& cells;
  const DotLevel* dots = nullptr;
  bool parts = false;  // of FP32 weights, by `dots`
};

std::string Lower(std::string name) {
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return name;
}

// Errors: kUnsupported for activations that no cell has.
Status CheckActivations(const Attributes& attributes,
                        std::initializer_list<std::string_view> each) {
  const std::vector<std::string> names = attributes.Strings("activations");
  for (size_t i = 0; i < names.size(); ++i)
    if (Lower(names[i]) != each.begin()[i % each.size()])
      return Unsupported("activation {} in place {}", names[i], i);
  return {};
}

Status FillLstm(const Attributes& attributes, const CellLevel& cells, RecurrentPlan* p) {
  MINIM_TRY(CheckActivations(attributes, {"sigmoid", "tanh", "tanh"}));
  p->gates = 4;
  p->r_pack.groups[0] = {0, 4};
  const bool coupled = attributes.Int("input_forget", 0) != 0;
  const CellFunction cell = coupled
                                ? p->peepholes ? cells.lstm_coupled_peephole : cells.lstm_coupled
                            : p->peepholes ? cells.lstm_peephole
                                           : cells.lstm;
  p->cells[0][0] = p->cells[1][0] = cell;
  return {};
}

Status FillGru(const Attributes& attributes, const CellLevel& cells, RecurrentPlan* p) {
  MINIM_TRY(CheckActivations(attributes, {"sigmoid", "tanh"}));
  p->gates = 3;
  p->recurrent_bias_apart = attributes.Int("linear_before_reset", 0) != 0;
  if (p->recurrent_bias_apart) {
    p->r_pack.groups[0] = {0, 3};
    p->cells[0][0] = p->cells[1][0] = cells.gru_linear;
    return {};
  }
  p->phases = 2;
  p->r_pack.groups = {GateGroup{0, 2}, GateGroup{2, 1}};
  p->cells[0] = p->cells[1] = {cells.gru_gates, cells.gru_candidate};
  return {};
}

Status FillRnn(const Attributes& attributes, const CellLevel& cells, RecurrentPlan* p) {
  p->gates = 1;
  p->r_pack.groups[0] = {0, 1};
  p->cells[0][0] = p->cells[1][0] = cells.rnn_tanh;
  const std::vector<std::string> names = attributes.Strings("activations");
  for (size_t i = 0; i < std::min<size_t>(names.size(), 2); ++i) {
    const std::string name = Lower(names[i]);
    if (name != "tanh" && name != "relu") return Unsupported("activation {}", names[i]);
    p->cells[i][0] = name == "relu" ? cells.rnn_relu : cells.rnn_tanh;
  }
  return {};
}

Status FillAttributes(const KernelRequest& request, const CellLevel& cells, RecurrentPlan* p) {
  const Attributes& attributes = AttributesOf(request);
  const std::string direction = attributes.String("direction", "forward");
  p->directions = direction == "bidirectional" ? 2 : 1;
  p->reverse_only = direction == "reverse";
  p->batch_first = attributes.Int("layout", 0) != 0;
  p->clip = attributes.Float("clip", 0);
  if (!(p->clip > 0)) p->clip = std::numeric_limits<float>::infinity();
  p->peepholes = request.op != "GRU" && HasInput(request, kP);
  if (request.op == "GRU") return FillGru(attributes, cells, p);
  if (request.op == "RNN") return FillRnn(attributes, cells, p);
  return FillLstm(attributes, cells, p);
}

// Weights of one of the two inputs, with their data where they are known.
RecurrentWeights WeightsOf(const KernelRequest& request, Input input) {
  const TensorDesc& desc = request.inputs[input];
  RecurrentWeights weights{.view = {desc.constant, desc.dtype, desc.dims}};
  const size_t scale = input == kW ? kWScale : kRScale;
  if (desc.dtype != DType::i8 && desc.dtype != DType::u8) return weights;
  const TensorDesc &scales = request.inputs[scale], &zeros = request.inputs[scale + 1];
  weights.transposed = true;
  weights.per_direction = scales.dims.Elements() / std::max<int64_t>(1, desc.dims[0]);
  weights.scales = static_cast<const float*>(scales.constant);
  // Offset by direction and row already, so that any count above one is read as it stands.
  weights.zeros = {zeros.constant, zeros.dtype, 2};
  if (!scales.constant || !zeros.constant) weights.view.data = nullptr;
  return weights;
}

Status CheckTypes(const KernelRequest& request) {
  const DType dtype = request.inputs[kX].dtype;
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
    return Unsupported("X is {}", Name(dtype));
  MINIM_TRY(RequireInputs(request, kB, kLengths, dtype));
  MINIM_TRY(RequireInputs(request, kLengths, kH0, DType::i32));
  MINIM_TRY(RequireInputs(request, kH0, kWScale, dtype));
  if (request.op != "DynamicQuantizeLSTM") return RequireInputs(request, kW, kB, dtype);
  for (Input input : {kW, kR}) {
    const DType stored = request.inputs[input].dtype;
    if (stored != DType::i8 && stored != DType::u8)
      return Unsupported("weights are {}", Name(stored));
    const size_t scale = input == kW ? kWScale : kRScale;
    const TensorDesc &scales = request.inputs[scale], &zeros = request.inputs[scale + 1];
    if (zeros.dtype != stored || scales.dims.Elements() != zeros.dims.Elements())
      return Unsupported("zero points unlike the weights or their scales");
    MINIM_TRY(RequireInputs(request, scale, scale + 1, DType::f32));
  }
  return {};
}

// Units below which quantizing H costs more than bytes save. Several rows share FP32's bytes and
// gain only from 128 on, but a row's answer must not depend on how many there are.
constexpr int64_t kLeastBytes = 64;
// The same of rounding it: fewer units keep its FP32.
constexpr int64_t kLeastRounded = 64;

// The narrowest form that loses nothing of the weights as they are stored and is no slower.
WeightFormat FormatOf(const RecurrentPlan& p) {
  const bool known = p.w.view.data != nullptr && p.r.view.data != nullptr;
  if (p.w.view.dtype == DType::bf16) return WeightFormat::kBf16;
  if (!known || p.hidden == 0) return WeightFormat::kF32;
  if (ExactInBf16(p.w) && ExactInBf16(p.r)) return WeightFormat::kBf16;
  if (p.hidden >= kLeastBytes && FitsSymmetricInt8(p.w) && FitsSymmetricInt8(p.r))
    return WeightFormat::kS8;
  return WeightFormat::kF32;
}

// How products of so many rows want the weights.
void SetForm(const RecurrentPlan& p, WeightFormat format, int64_t rows, RecurrentPack* pack) {
  pack->format = format;
  pack->hidden = p.hidden;
  const bool bytes = format == WeightFormat::kS8;
  if (format == WeightFormat::kF32) return;
  if (p.dots && !(bytes && rows == 1)) {
    pack->depth_block = kDotBlock;
  } else if (bytes) {
    pack->depth_block = 4;
    pack->flip = p.ints->flip_of_b();
  }
}

// Steps that are worth parting W, which is half as large again as FP32; and of how many inputs, for
// those of a tile are filled up.
constexpr int64_t kLeastPartedSteps = 4, kLeastPartedInputs = 16;

// Whether X and H may be rounded to BF16: not because weights happen to fit it.
bool MayRound(const KernelRequest& request) {
  return request.inputs[kX].dtype == DType::bf16 ||
         AttributesOf(request).String("precision", "") == "bf16";
}

// Errors: kUnsupported where the weights are in no form for the level's dots.
Status SetForms(const Levels& levels, bool may_round, RecurrentPlan* p) {
  WeightFormat format = FormatOf(*p);
  const DotLevel* dots = levels.dots;
  if (levels.parts) {
    if (format != WeightFormat::kF32 || p->w.view.data == nullptr)
      return Unsupported("{} weights", Name(format));
    if (p->steps < kLeastPartedSteps || p->inputs < kLeastPartedInputs)
      return Unsupported("{} steps of {} inputs", p->steps, p->inputs);
  } else if (dots) {
    if (may_round && format == WeightFormat::kBf16 && p->hidden >= kLeastRounded)
      format = WeightFormat::kPairs;
    if (format != WeightFormat::kPairs && (format != WeightFormat::kS8 || !dots->multiply_bytes))
      return Unsupported("{} weights of {} units", Name(format), p->hidden);
  }
  p->dots = dots;
  SetForm(*p, levels.parts ? WeightFormat::kParts : format, p->rows(), &p->w_pack);
  SetForm(*p, format, p->batch, &p->r_pack);
  return {};
}

std::shared_ptr<const std::byte> PackOnce(const KernelRequest& request,
                                          const RecurrentWeights& weights,
                                          const RecurrentPack& pack) {
  if (weights.view.data == nullptr) return nullptr;
  const int64_t directions = weights.view.dims[0], each = weights.rows() * weights.depth();
  const bool as_is = pack.format == WeightFormat::kF32;
  const auto values =
      weights.view.dtype == DType::f32 ? weights.view.as<float>() : std::span<const float>();
  Unpack unpack;
  if (!values.empty() && (as_is || (pack.format == WeightFormat::kParts && ExactInParts(values))))
    unpack = [=](const std::byte* blob, void* to) {
      for (int64_t d = 0; d < directions; ++d)
        UnpackRecurrent(pack, blob + d * pack.bytes(), static_cast<float*>(to) + d * each);
    };
  return request.packs->GetOrPack(
      weights.view, pack.Key(weights), directions * pack.bytes(),
      [&](std::byte* blob) {
        for (int64_t d = 0; d < directions; ++d)
          PackRecurrent(weights, d, pack, blob + d * pack.bytes());
      },
      std::move(unpack));
}

// Cells that save, where the node has an output for it.
Status FillSaving(const KernelRequest& request, const CellLevel& cells, RecurrentPlan* p) {
  const int output = p->gates == 4 ? 3 : 2;
  if (!HasOutput(request, output)) return {};
  if (p->gates == 1 || HasInput(request, kLengths) || p->peepholes ||
      AttributesOf(request).Int("input_forget", 0) != 0)
    return Unsupported("an output for the gradient, which this form does not have");
  p->saved_output = output;
  if (p->gates == 4) {
    p->saved_planes = {5, 0};
    p->cells[0][0] = p->cells[1][0] = cells.lstm_saving;
  } else if (p->phases == 1) {
    p->saved_planes = {4, 0};
    p->cells[0][0] = p->cells[1][0] = cells.gru_linear_saving;
  } else {
    p->saved_planes = {2, 1};
    p->cells[0] = p->cells[1] = {cells.gru_gates_saving, cells.gru_candidate_saving};
  }
  return {};
}

BindResult Bind(const KernelRequest& request, const Levels& levels) {
  MINIM_TRY(CheckTypes(request));
  RecurrentPlan p{.gemm = &levels.gemm, .ints = &levels.ints};
  MINIM_TRY(FillAttributes(request, levels.cells, &p));
  MINIM_TRY(FillSaving(request, levels.cells, &p));
  p.w = WeightsOf(request, kW);
  p.r = WeightsOf(request, kR);
  const Dims &x = request.inputs[kX].dims, &r = request.inputs[kR].dims;
  if (x.rank() != 3 || r.rank() != 3 || r[0] != p.directions)
    return Unsupported("X {}, R {}", x.ToString(), r.ToString());
  p.steps = x[p.batch_first ? 1 : 0];
  p.batch = x[p.batch_first ? 0 : 1];
  p.inputs = x[2];
  p.hidden = p.r.depth();
  p.dtype = request.inputs[kX].dtype;
  p.threads = std::max(1, request.threads);
  MINIM_TRY(SetForms(levels, MayRound(request), &p));
  p.w_pack.groups[0] = {0, p.gates};
  p.w_pack.depth = p.inputs;
  p.r_pack.depth = p.hidden;
  p.w_packed = PackOnce(request, p.w, p.w_pack);
  p.r_packed = PackOnce(request, p.r, p.r_pack);
  const size_t scratch = RecurrentScratchBytes(p);
  std::vector<int> packed = {p.w_packed ? kW : -1, p.r_packed ? kR : -1};
  return MakeKernel(
      fmt::format("recurrent {}, {} weights",
                  p.dots          ? p.dots->name
                  : p.quantized() ? levels.ints.name
                                  : levels.gemm.name,
                  Name(p.r_pack.format)),
      [p = std::move(p)](const KernelArgs& args) { RunRecurrent(p, args); }, scratch, {},
      std::move(packed));
}

}  // namespace

BindResult RecurrentAmx(const KernelRequest& request) {
  return Bind(request, {GemmAvx512(), IntVnni(), CellsAvx512(), &DotsAmx()});
}
BindResult RecurrentParted(const KernelRequest& request) {
  return Bind(request, {GemmAvx512(), IntVnni(), CellsAvx512(), &DotsAmx(), true});
}
BindResult RecurrentBf16(const KernelRequest& request) {
  return Bind(request, {GemmAvx512(), IntVnni(), CellsAvx512(), &DotsBf16()});
}
BindResult RecurrentVnni(const KernelRequest& request) {
  return Bind(request, {GemmAvx512(), IntVnni(), CellsAvx512()});
}
BindResult RecurrentAvx512(const KernelRequest& request) {
  return Bind(request, {GemmAvx512(), IntAvx2(), CellsAvx512()});
}
BindResult RecurrentAvx2(const KernelRequest& request) {
  return Bind(request, {GemmAvx2(), IntAvx2(), CellsAvx2()});
}
BindResult RecurrentPortable(const KernelRequest& request) {
  return Bind(request, {GemmPortable(), IntPortable(), CellsPortable()});
}

}  // namespace minim
