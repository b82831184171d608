#include <algorithm>
#include <array>
#include <set>

#include "core/shape.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/int_gemm.h"

namespace minim {
namespace {

constexpr int kMaxRegisters = 128;

struct OpParams {
  std::string_view op;
  std::string_view names[2];
  double defaults[2];
};

constexpr OpParams kParams[] = {
    {"HardSigmoid", {"alpha", "beta"}, {0.2f, 0.5f}},
    {"LeakyRelu", {"alpha"}, {0.01f}},
    {"Elu", {"alpha"}, {1}},
    {"Celu", {"alpha"}, {1}},
    {"Selu", {"alpha", "gamma"}, {1.67326319217681884765625f, 1.05070102214813232421875f}},
    {"ThresholdedRelu", {"alpha"}, {1}},
    {"Shrink", {"lambd", "bias"}, {0.5f, 0}},
};

struct Value {
  int reg = -1;
  DType dtype = DType::f32;
  int quantized = -1;  // the register whose bytes, by the parameters, it is
  std::array<double, 4> params = {};
};

bool Quantizes(std::string_view op) { return op == "QuantizeLinear" || op == "DequantizeLinear"; }

// One pass over the instructions.
class Compiler {
 public:
  Compiler(const KernelRequest& request, const TileSet& tiles) : request_(request), tiles_(tiles) {}

  Result<TileProgram> Compile() {
    MINIM_TRY(CheckDescs());
    MINIM_TRY(AddInputs());
    MINIM_TRY(AddInstructions());
    AddStores();
    DropUnread();
    ChooseTile();
    if (static_cast<int>(program_.registers.size()) > kMaxRegisters)
      return Unsupported("{} registers; at most {}", program_.registers.size(), kMaxRegisters);
    PlaceRegisters(request_, &program_);
    return std::move(program_);
  }

 private:
  Status CheckDescs() {
    if (request_.outputs.empty()) return Unsupported("no output");
    out_dims_ = request_.outputs[0].dims;
    for (auto list : {request_.inputs, request_.outputs})
      for (const TensorDesc& desc : list)
        if (desc.present && IsSmall(desc.dtype))
          return Unsupported("{} elements", Name(desc.dtype));
    for (const TensorDesc& output : request_.outputs) {
      if (!(output.dims == out_dims_)) return Unsupported("outputs of different dims");
    }
    program_.elements = out_dims_.Elements();
    return {};
  }

  // Whether only quantizing ops read input i: as bytes, which they load, or as a parameter.
  bool OfQuantizers(int input) const {
    if (request_.program == nullptr) return false;
    bool read = false;
    for (const ElementwiseInstruction& step : request_.program->instructions) {
      for (size_t k = 0; k < step.operands.size(); ++k) {
        if (step.operands[k] != input) continue;
        read = true;
        if (!Quantizes(step.op) || (k == 0 && step.op == "QuantizeLinear")) return false;
      }
    }
    return read;
  }

  Status AddInputs() {
    for (size_t i = 0; i < request_.inputs.size(); ++i) {
      const TensorDesc& input = request_.inputs[i];
      if (!input.present || OfQuantizers(static_cast<int>(i))) {
        values_.push_back({.dtype = input.dtype});
        continue;
      }
      MINIM_TRY(const int reg, AddLoad(static_cast<int>(i), nullptr));
      values_.push_back({reg, input.dtype});
    }
    return {};
  }

  // `dequantizer`: the parameters of bytes that become floats.
  Result<int> AddLoad(int index, const std::array<double, 4>* dequantizer) {
    const TensorDesc& input = request_.inputs[index];
    const Dims dims = input.dims, target = out_dims_;
    const Result<Dims> common = BroadcastDims(dims, target);
    if (!common.ok() || !(*common == target))
      return Unsupported("input {} of dims {} does not broadcast to {}", index,
                         input.dims.ToString(), out_dims_.ToString());
    const Lane lane = dequantizer ? Lane::kFloat : LaneOf(input.dtype);
    TileLoad load{.input = index, .element_bytes = SizeOf(input.dtype)};
    if (dequantizer) {
      load.convert = tiles_.dequantize(input.dtype);
      std::copy_n(dequantizer->begin(), 4, load.params);
    } else if (LaneDType(lane) != input.dtype) {
      load.convert = tiles_.load(input.dtype);
    }
    load.scalar = dims.Elements() == 1;
    load.direct = !load.scalar && dims.Elements() == target.Elements();
    Collapse(target, BroadcastStrides(dims, target), &load);
    const int reg = NewRegister(lane);
    if (load.direct && load.convert == nullptr) program_.registers[reg].input = index;
    load.reg = reg;
    program_.loads.push_back(load);
    return reg;
  }

  // Merges neighbouring axes that are walked as one.
  static void Collapse(const Dims& target, const Dims& strides, TileLoad* load) {
    for (int i = 0; i < target.rank(); ++i) {
      if (target[i] == 1) continue;
      const int last = load->dims.rank() - 1;
      if (last >= 0 && load->strides[last] == strides[i] * target[i]) {
        load->dims[last] *= target[i];
        load->strides[last] = strides[i];
      } else {
        load->dims.push_back(target[i]);
        load->strides.push_back(strides[i]);
      }
    }
  }

  int NewRegister(Lane lane) {
    program_.registers.push_back({.lane = lane});
    return static_cast<int>(program_.registers.size()) - 1;
  }

  Status AddInstructions() {
    if (request_.program == nullptr) {
      std::vector<Value> operands;
      for (size_t i = 0; i < request_.inputs.size(); ++i) operands.push_back(values_[i]);
      MINIM_TRY(const Value result,
                AddOp(request_.op, operands, AttributesOf(request_), request_.outputs[0].dtype));
      results_ = {result};
      return {};
    }
    for (const ElementwiseInstruction& instruction : request_.program->instructions) {
      if (Quantizes(instruction.op)) {
        MINIM_TRY(const Value result, AddQuantizer(instruction));
        values_.push_back(result);
        continue;
      }
      std::vector<Value> operands;
      for (int reg : instruction.operands) operands.push_back(reg < 0 ? Value{} : values_[reg]);
      MINIM_TRY(const Value result,
                AddOp(instruction.op, operands, instruction.attributes, instruction.dtype));
      values_.push_back(result);
    }
    for (int reg : request_.program->outputs) results_.push_back(values_[reg]);
    return {};
  }

  // The one element of a constant that is an operand, as a number; 0 if there is none.
  Result<double> Parameter(const ElementwiseInstruction& instruction, size_t operand) const {
    const int input = operand < instruction.operands.size() ? instruction.operands[operand] : -1;
    if (input < 0) return 0.0;
    if (input >= request_.program->input_count || request_.inputs[input].constant == nullptr ||
        request_.inputs[input].dims.Elements() != 1)
      return Unsupported("{}: operand {} is no constant scalar", instruction.op, operand);
    const Tensor wide = Converted(request_.inputs[input].ConstantView(), DType::f64);
    return wide.as<double>()[0];
  }

  bool ReadInside(int value) const {
    const auto& steps = request_.program->instructions;
    return std::any_of(steps.begin(), steps.end(), [&](const ElementwiseInstruction& step) {
      return std::find(step.operands.begin(), step.operands.end(), value) != step.operands.end();
    });
  }

  // What a bound at zero makes the same of: the operand of a Relu.
  int BeforeRelu(int reg) const {
    const TileFunction relu = FindOp("Relu", Lane::kFloat)->function;
    for (const TileStep& step : program_.steps)
      if (step.dst == reg && step.function == relu) return step.src[0];
    return reg;
  }

  // Bytes become floats as they are loaded, and floats bytes as they are stored. Those that stay
  // in the chain are held as floats.
  Result<Value> AddQuantizer(const ElementwiseInstruction& instruction) {
    const bool quantize = instruction.op == "QuantizeLinear";
    const Value x = values_[instruction.operands[0]];
    const DType byte = quantize ? instruction.dtype : x.dtype;
    if (!IsByte(byte) || (quantize ? x.dtype : instruction.dtype) != DType::f32)
      return Unsupported("{} of {} to {}", instruction.op, Name(x.dtype), Name(instruction.dtype));
    std::array<double, 4> params;
    MINIM_TRY(params[0], Parameter(instruction, 1));
    MINIM_TRY(params[1], Parameter(instruction, 2));
    params[2] = (byte == DType::u8 ? 0 : -128) - params[1];
    params[3] = (byte == DType::u8 ? 255 : 127) - params[1];
    if (!quantize && instruction.operands[0] < request_.program->input_count) {
      MINIM_TRY(const int reg, AddLoad(instruction.operands[0], &params));
      return Value{reg, DType::f32};
    }
    Value value{-1, instruction.dtype};
    if (quantize) value.quantized = params[2] >= 0 ? BeforeRelu(x.reg) : x.reg;
    if (quantize) value.params = params;
    if (quantize && !ReadInside(static_cast<int>(values_.size()))) return value;
    TileStep step{.function = FindOp(instruction.op, Lane::kFloat)->function,
                  .src = {x.reg, -1, -1}};
    std::copy_n(params.begin(), 4, step.params);
    step.dst = value.reg = NewRegister(Lane::kFloat);
    program_.steps.push_back(step);
    return value;
  }

  Result<Value> AddOp(std::string_view op, const std::vector<Value>& operands,
                      const Attributes& attributes, DType dtype) {
    if (op == "Cast" || op == "CastLike" || op == "Identity") return AddCast(operands[0], dtype);
    if (op == "Clip") return AddClip(operands, attributes, dtype);
    if (op == "Where") return AddWhere(operands, dtype);
    if (op == "Max" || op == "Min" || op == "Sum" || op == "Mean")
      return AddVariadic(op, operands, dtype);
    double params[4] = {};
    std::string_view name = op;
    FillParams(op, attributes, params);
    if (op == "BitShift")
      name = attributes.String("direction", "LEFT") == "LEFT" ? "ShiftLeft" : "ShiftRight";
    if (op == "Gelu" && attributes.String("approximate", "none") == "tanh") name = "GeluTanh";
    return AddTile(name, operands, params, dtype);
  }

  static void FillParams(std::string_view op, const Attributes& attributes, double* params) {
    for (const OpParams& row : kParams) {
      if (row.op != op) continue;
      for (int i = 0; i < 2 && !row.names[i].empty(); ++i)
        params[i] = attributes.Float(row.names[i], static_cast<float>(row.defaults[i]));
    }
    if (op == "Mod") params[0] = static_cast<double>(attributes.Int("fmod", 0));
    if (op == "IsInf") {
      params[0] = static_cast<double>(attributes.Int("detect_positive", 1));
      params[1] = static_cast<double>(attributes.Int("detect_negative", 1));
    }
  }

  Value InLane(Value value, Lane lane) {
    const Lane from = program_.registers[value.reg].lane;
    if (from == lane) return value;
    const int reg = NewRegister(lane);
    program_.steps.push_back(
        {.function = tiles_.convert(from, lane), .src = {value.reg, -1, -1}, .dst = reg});
    return {reg, LaneDType(lane)};
  }

  Value AddCast(Value value, DType dtype) {
    return Wrapped({InLane(value, LaneOf(dtype)).reg, dtype}, value.dtype);
  }

  // Narrow results inside a chain are cut to their width, so that chains equal single ops.
  Value Wrapped(Value value, DType from) {
    const DType dtype = value.dtype;
    const bool narrow = IsInteger(dtype) && SizeOf(dtype) < 8;
    if (!narrow || from == dtype) return value;
    if (request_.program == nullptr) return value;  // the store wraps
    const Lane lane = LaneOf(dtype);
    const int stored = NewRegister(lane), loaded = NewRegister(lane);
    program_.steps.push_back(
        {.function = tiles_.store(dtype), .src = {value.reg, -1, -1}, .dst = stored});
    program_.steps.push_back(
        {.function = tiles_.load(dtype), .src = {stored, -1, -1}, .dst = loaded});
    return {loaded, dtype};
  }

  Result<Value> AddTile(std::string_view name, const std::vector<Value>& operands,
                        const double* params, DType dtype) {
    std::vector<Value> present;
    for (const Value& value : operands) {
      if (value.reg >= 0) present.push_back(value);
    }
    if (present.empty() || present.size() > 3)
      return Unsupported("{}: {} operands", name, present.size());
    const Lane lane = program_.registers[present[0].reg].lane;
    const TileOp* op = FindOp(name, lane);
    if (op == nullptr)
      return Unsupported("{} on {} has no tile function", name, Name(present[0].dtype));
    TileStep step{.function = op->function};
    for (size_t i = 0; i < present.size(); ++i) step.src[i] = InLane(present[i], lane).reg;
    std::copy_n(params, 4, step.params);
    step.dst = NewRegister(op->to_bool ? Lane::kBool : lane);
    program_.steps.push_back(step);
    if (op->to_bool) return Value{step.dst, DType::bool_};
    if (LaneOf(dtype) != lane) return AddCast({step.dst, LaneDType(lane)}, dtype);
    return Wrapped({step.dst, dtype}, LaneDType(lane));
  }

  const TileOp* FindOp(std::string_view name, Lane lane) const {
    for (const TileOp& op : tiles_.ops) {
      if (op.op == name && op.lane == lane) return &op;
    }
    return nullptr;
  }

  Result<Value> AddVariadic(std::string_view op, const std::vector<Value>& operands, DType dtype) {
    const double params[4] = {};
    const std::string_view step = (op == "Sum" || op == "Mean") ? "Add" : op;
    Value sum = operands[0];
    for (size_t i = 1; i < operands.size(); ++i) {
      MINIM_TRY(const Value next, AddTile(step, {sum, operands[i]}, params, dtype));
      sum = next;
    }
    if (op == "Mean") return AddScaled(sum, static_cast<double>(operands.size()), dtype);
    return sum;
  }

  Result<Value> AddScaled(Value sum, double count, DType dtype) {
    const double params[4] = {count};
    return AddTile("DivBy", {sum}, params, dtype);
  }

  Result<Value> AddClip(const std::vector<Value>& operands, const Attributes& attributes,
                        DType dtype) {
    const double none[4] = {};
    Value value = operands[0];
    constexpr std::string_view kSteps[] = {"ClipLow", "ClipHigh"};
    constexpr std::string_view kByAttribute[] = {"AtLeast", "AtMost"};
    constexpr std::string_view kNames[] = {"min", "max"};
    for (size_t i = 0; i < 2; ++i) {
      if (operands.size() > i + 1 && operands[i + 1].reg >= 0) {
        MINIM_TRY(const Value next, AddTile(kSteps[i], {value, operands[i + 1]}, none, dtype));
        value = next;
      } else if (attributes.Has(kNames[i])) {
        const double params[4] = {attributes.Float(kNames[i], 0)};
        MINIM_TRY(const Value next, AddTile(kByAttribute[i], {value}, params, dtype));
        value = next;
      }
    }
    return value;
  }

  Result<Value> AddWhere(const std::vector<Value>& operands, DType dtype) {
    if (operands.size() != 3) return Unsupported("Where: {} operands", operands.size());
    const Lane lane = LaneOf(dtype);
    const TileOp* op = FindOp("Where", lane);
    TileStep step{.function = op->function};
    step.src[0] = InLane(operands[0], Lane::kBool).reg;
    step.src[1] = InLane(operands[1], lane).reg;
    step.src[2] = InLane(operands[2], lane).reg;
    step.dst = NewRegister(lane);
    program_.steps.push_back(step);
    return Value{step.dst, dtype};
  }

  // A result whose memory form is its lane's is written in place by its own step.
  void AddStores() {
    for (size_t i = 0; i < results_.size(); ++i) {
      const DType dtype = request_.outputs[i].dtype;
      program_.output_bytes.push_back(SizeOf(dtype));
      if (results_[i].quantized >= 0) {
        TileStore store{static_cast<int>(i), results_[i].quantized, tiles_.quantize(dtype)};
        std::copy_n(results_[i].params.begin(), 4, store.params);
        program_.stores.push_back(store);
        continue;
      }
      const Value value = InLane(results_[i], LaneOf(dtype));
      TileRegister& reg = program_.registers[value.reg];
      const bool computed = std::any_of(program_.steps.begin(), program_.steps.end(),
                                        [&](const TileStep& s) { return s.dst == value.reg; });
      if (LaneDType(reg.lane) == dtype && computed && reg.output < 0) {
        reg.output = static_cast<int>(i);
      } else {
        program_.stores.push_back({static_cast<int>(i), value.reg, tiles_.store(dtype)});
      }
    }
  }

  // Steps whose results nothing reads.
  void DropUnread() {
    std::set<int> read;
    for (const TileStore& store : program_.stores) read.insert(store.reg);
    for (size_t i = program_.steps.size(); i-- > 0;) {
      const TileStep step = program_.steps[i];
      if (!read.contains(step.dst) && program_.registers[step.dst].output < 0)
        program_.steps.erase(program_.steps.begin() + static_cast<std::ptrdiff_t>(i));
      else
        read.insert(std::begin(step.src), std::end(step.src));
    }
  }

  // Inputs that repeat lines of one length are the same for each tile of whole lines.
  void ChooseTile() {
    const auto period = [](const TileLoad& load) {
      const bool lines = load.dims.rank() == 2 && load.strides[0] == 0 && load.strides[1] == 1;
      return !load.scalar && lines ? load.dims[1] : 0;
    };
    int64_t most = 0;
    for (const TileLoad& load : program_.loads) most = std::max(most, period(load));
    if (most == 0 || most > kTile) return;
    program_.tile = kTile / most * most;
    for (TileLoad& load : program_.loads) load.periodic = period(load) == most;
  }

  const KernelRequest& request_;
  const TileSet& tiles_;
  TileProgram program_;
  std::vector<Value> values_, results_;
  Dims out_dims_;
};

}  // namespace

Result<TileProgram> CompileElementwise(const KernelRequest& request, const TileSet& tiles) {
  return Compiler(request, tiles).Compile();
}

}  // namespace minim
