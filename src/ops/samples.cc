#include "ops/samples.h"

#include <cmath>
#include <functional>
#include <set>

#include "core/dtype.h"
#include "core/philox.h"
#include "graph/text_reader.h"
#include "ops/infer.h"

namespace minim {
namespace {

struct Generator {
  enum Kind { kUniform, kAwayFrom, kIndex, kList } kind = kUniform;
  double low = -1;
  double high = 1;
  double gap = 0.1;
  std::vector<std::string> texts;
  bool constant = false;
};

class SampleParser {
 public:
  SampleParser(const OpDef& op, std::string_view line, uint64_t seed, bool widen)
      : op_(op), in_(line), rng_(seed), widen_(widen) {
    sample_.text = std::string(line);
  }

  Result<Sample> Run() {
    MINIM_TRY(const int outputs, Outputs());
    Node node{.op = op_.name, .domain = op_.domain};
    MINIM_TRY(in_.Expect("("));
    while (!in_.Accept(")")) {
      if (!node.inputs.empty()) MINIM_TRY(in_.Expect(","));
      MINIM_TRY(const ValueId id, Argument());
      node.inputs.push_back(id);
    }
    MINIM_TRY(node.attributes, in_.ParseAttributes(&node.subgraphs));
    if (!in_.AtEnd()) return in_.Error("the end of the sample");
    for (int i = 0; i < outputs; ++i) {
      node.outputs.push_back(omitted_[i] ? kNoValue : sample_.graph.AddValue("", {}));
      if (!omitted_[i]) sample_.graph.outputs.push_back(node.outputs.back());
    }
    sample_.graph.nodes.push_back(node);
    MINIM_TRY(InferNode(sample_.graph, node));
    return std::move(sample_);
  }

 private:
  // "a, b = Op" or "Op": the number of outputs.
  Result<int> Outputs() {
    const TextReader start = in_;
    MINIM_TRY(const std::string first, in_.Name());
    omitted_ = {first == "_"};
    while (in_.Accept(",")) {
      MINIM_TRY(const std::string name, in_.Name());
      omitted_.push_back(name == "_");
    }
    if (!in_.Accept("=")) {
      in_ = start;
      omitted_ = {false};
    }
    MINIM_TRY(const std::string name, in_.Name());
    if (name != op_.name) return InvalidArgument("sample of {} calls {}", op_.name, name);
    return static_cast<int>(omitted_.size());
  }

  Result<ValueId> Argument() {
    MINIM_TRY(const std::string name, in_.Name());
    if (name == "_") return kNoValue;
    MINIM_TRY(in_.Expect(":"));
    MINIM_TRY(TensorType type, in_.Type());
    Generator generator;
    if (in_.Accept("=")) {
      MINIM_TRY(generator, ParseGenerator());
    }
    if (widen_ && IsFloat(type.dtype)) type.dtype = DType::f64;
    MINIM_TRY(Tensor value, Generate(type, generator));
    const bool constant =
        generator.constant || (generator.kind == Generator::kList && !IsFloat(type.dtype));
    if (constant) return sample_.graph.AddConstant(name, std::move(value));
    sample_.inputs.push_back(std::move(value));
    return sample_.graph.AddInput(name, type);
  }

  Result<Generator> ParseGenerator() {
    Generator g;
    g.constant = in_.Accept("const");
    if (in_.Peek("[")) {
      g.kind = Generator::kList;
      MINIM_TRY(g.texts, in_.NumberList());
      return g;
    }
    if (g.constant && (in_.Peek(",") || in_.Peek(")"))) return g;
    MINIM_TRY(const std::string kind, in_.Name());
    std::vector<double> numbers;
    if (in_.Accept("(")) {
      while (!in_.Accept(")")) {
        if (!numbers.empty()) MINIM_TRY(in_.Expect(","));
        MINIM_TRY(const double number, in_.Number());
        numbers.push_back(number);
      }
    }
    return Interpret(std::move(g), kind, numbers);
  }

  Result<Generator> Interpret(Generator g, const std::string& kind, const std::vector<double>& n) {
    if (kind == "uniform") {
      if (n.size() == 2) g.low = n[0], g.high = n[1];
      return g;
    }
    if (kind == "index" && n.size() == 1) {
      g.kind = Generator::kIndex;
      g.low = 0, g.high = n[0];
      return g;
    }
    if (kind == "away_from" && (n.size() == 1 || n.size() == 2)) {
      g.kind = Generator::kAwayFrom;
      g.low = n[0];
      if (n.size() == 2) g.gap = n[1];
      return g;
    }
    return InvalidArgument("generator '{}' is unknown", kind);
  }

  double Draw(const Generator& g, uint64_t i) const {
    const double u = rng_.Uniform(i);
    if (g.kind == Generator::kIndex) return std::floor(u * g.high);
    if (g.kind == Generator::kAwayFrom)
      return g.low + (u < 0.5 ? -1 : 1) * (g.gap + std::fabs(2 * u - 1));
    return g.low + u * (g.high - g.low);
  }

  Result<Tensor> Generate(const TensorType& type, const Generator& g) {
    if (g.kind == Generator::kList) return TensorFromTexts(type, g.texts);
    if (!type.Static())
      return InvalidArgument("{} has symbols; samples are static", type.ToString());
    Tensor tensor(type.dtype, type.dims());
    VisitAny(type.dtype, [&]<typename T>() {
      for (T& element : tensor.as<T>()) {
        const double value = Draw(g, drawn_++);
        // Integers by default spread over -10..10 (0..10 unsigned), booleans over both.
        const bool scaled = g.kind == Generator::kUniform && g.low == -1 && g.high == 1;
        if constexpr (std::is_same_v<T, bool>)
          element = value > (scaled ? 0 : 0.5);
        else if constexpr (kIsFloatType<T> || kIsSmallFloat<T>)
          element = ConvertTo<T>(value);
        else
          element = ConvertTo<T>(scaled ? std::trunc(value * 10.99) : value);
      }
    });
    return tensor;
  }

  const OpDef& op_;
  TextReader in_;
  Philox rng_;
  bool widen_;
  Sample sample_;
  std::vector<bool> omitted_;
  uint64_t drawn_ = 0;
};

}  // namespace

Result<Sample> ParseSample(const OpDef& op, std::string_view line, uint64_t seed, bool widen) {
  auto sample = SampleParser(op, line, seed, widen).Run();
  if (!sample.ok()) return Annotate(sample.status(), fmt::format("sample '{}'", line));
  return sample;
}

namespace {

// How long an axis becomes, by the value, the axis and its length.
using Resized = std::function<int64_t(ValueId id, int axis, int64_t size)>;

// False if nothing changed.
bool Resize(Graph& graph, ValueId id, const Resized& resized, Tensor& tensor) {
  Dims dims = tensor.dims();
  for (int axis = 0; axis < dims.rank(); ++axis) dims[axis] = resized(id, axis, dims[axis]);
  if (dims == tensor.dims()) return false;
  tensor = Tensor(tensor.dtype(), dims);
  graph.value(id).type = {tensor.dtype(), ToShape(dims)};
  return true;
}

void AddVariant(const Sample& sample, const Resized& resized, std::string_view what,
                std::vector<Sample>& variants) {
  Sample variant = sample;
  bool changed = false;
  for (size_t i = 0; i < variant.inputs.size(); ++i)
    changed |= Resize(variant.graph, variant.graph.inputs[i], resized, variant.inputs[i]);
  for (auto& [id, tensor] : variant.graph.constants)
    changed |= Resize(variant.graph, id, resized, tensor);
  if (!changed || !InferNode(variant.graph, variant.graph.nodes[0]).ok()) return;
  variant.text += fmt::format(" with {}", what);
  variants.push_back(std::move(variant));
}

// Each axis of each input made `length` long, the others left as they are.
void AddAxisVariants(const Sample& sample, int64_t length, std::vector<Sample>& variants) {
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    for (int axis = 0; axis < sample.inputs[i].dims().rank(); ++axis) {
      const auto one = [&](ValueId id, int at, int64_t size) {
        return id == sample.graph.inputs[i] && at == axis ? length : size;
      };
      AddVariant(sample, one, fmt::format("axis {} of input {} made {}", axis, i, length),
                 variants);
    }
  }
}

std::set<int64_t> Lengths(const Sample& sample) {
  std::set<int64_t> lengths;
  for (const Tensor& input : sample.inputs)
    for (int64_t size : input.dims())
      if (size > 0) lengths.insert(size);
  return lengths;
}

}  // namespace

std::vector<Sample> EmptyVariants(const Sample& sample) {
  std::vector<Sample> variants;
  if (!sample.graph.nodes[0].subgraphs.empty()) return variants;
  for (int64_t length : Lengths(sample)) {
    const std::string what = fmt::format("every {} made 0", length);
    const auto every = [&](ValueId, int, int64_t size) { return size == length ? 0 : size; };
    const auto of_inputs = [&](ValueId id, int, int64_t size) {
      return size == length && sample.graph.constant(id) == nullptr ? 0 : size;
    };
    AddVariant(sample, every, what, variants);
    if (!sample.graph.constants.empty())
      AddVariant(sample, of_inputs, what + " in inputs", variants);
  }
  AddAxisVariants(sample, 0, variants);
  return variants;
}

std::vector<Sample> UnequalVariants(const Sample& sample) {
  std::vector<Sample> variants;
  if (!sample.graph.nodes[0].subgraphs.empty()) return variants;
  for (int64_t length : {1, 2, 3, 7}) AddAxisVariants(sample, length, variants);
  return variants;
}

std::vector<Sample> SmallVariants(const Sample& sample) {
  std::vector<Sample> variants;
  if (!sample.graph.nodes[0].subgraphs.empty()) return variants;
  const auto add = [&](ValueId id, DType dtype, auto&& tensor_of) {
    Sample variant = sample;
    Tensor& tensor = tensor_of(variant);
    tensor = Converted(tensor.view(), dtype);
    variant.graph.value(id).type.dtype = dtype;
    variant.text += fmt::format(" with {} for value {}", Name(dtype), id);
    if (InferNode(variant.graph, variant.graph.nodes[0]).ok())
      variants.push_back(std::move(variant));
  };
  for (DType dtype : {DType::f8e5m2, DType::i4}) {
    for (size_t i = 0; i < sample.inputs.size(); ++i)
      add(sample.graph.inputs[i], dtype, [i](Sample& s) -> Tensor& { return s.inputs[i]; });
    for (const auto& [id, tensor] : sample.graph.constants)
      add(id, dtype, [id = id](Sample& s) -> Tensor& { return s.graph.constants.at(id); });
  }
  return variants;
}

std::vector<std::string> SampleLines(const OpDef& op) {
  std::vector<std::string> lines;
  std::string_view rest = op.samples;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    if (end > 0) lines.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return lines;
}

}  // namespace minim
