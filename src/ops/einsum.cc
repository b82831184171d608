// Einsum, expanded into transposes, reshapes, sums and matrix products: operands are folded into
// the first one from left to right, and a label is summed as soon as nothing later reads it.
#include <algorithm>
#include <map>
#include <set>

#include "ops/builder.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

// A letter, or kEllipsis + i for the i-th axis from the right that an ellipsis covers.
using Label = int;
using Labels = std::vector<Label>;
constexpr Label kEllipsis = 256;

struct Equation {
  std::vector<Labels> inputs;
  Labels output;
};

bool Holds(const Labels& labels, Label label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

// One term; its ellipsis covers `rank` less the letters, or `covered` axes where rank is negative.
Result<Labels> ParseTerm(std::string_view term, int rank, int covered) {
  const size_t dots = term.find("...");
  const int letters = static_cast<int>(term.size()) - (dots == std::string_view::npos ? 0 : 3);
  if (rank >= 0) covered = dots == std::string_view::npos ? 0 : rank - letters;
  if (covered < 0 || (rank >= 0 && letters + covered != rank))
    return InvalidArgument("term '{}' does not fit rank {}", term, rank);
  Labels labels;
  for (size_t i = 0; i < term.size(); ++i) {
    if (i == dots) {
      for (int k = covered; k > 0; --k) labels.push_back(kEllipsis + k - 1);
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(term[i]))) {
      labels.push_back(term[i]);
    } else {
      return InvalidArgument("term '{}' holds '{}'", term, term[i]);
    }
  }
  return labels;
}

// Without "->": the ellipsis, then the letters that appear once, in order.
Labels ImplicitOutput(const std::vector<Labels>& inputs, int covered) {
  std::map<Label, int> counts;
  for (const Labels& labels : inputs)
    for (Label label : labels) ++counts[label];
  Labels output;
  for (int k = covered; k > 0; --k) output.push_back(kEllipsis + k - 1);
  for (const auto& [label, count] : counts)
    if (label < kEllipsis && count == 1) output.push_back(label);
  return output;
}

std::vector<std::string_view> SplitTerms(std::string_view left) {
  std::vector<std::string_view> terms;
  while (true) {
    const size_t comma = left.find(',');
    terms.push_back(left.substr(0, comma));
    if (comma == std::string_view::npos) return terms;
    left.remove_prefix(comma + 1);
  }
}

Result<Equation> ParseEquation(const Attributes& a, const std::vector<int>& ranks) {
  std::string text = a.String("equation", "");
  std::erase(text, ' ');
  const std::string_view whole = text;
  const size_t arrow = whole.find("->");
  const std::vector<std::string_view> terms = SplitTerms(whole.substr(0, arrow));
  if (terms.size() != ranks.size())
    return InvalidArgument("equation '{}' has {} terms for {} inputs", text, terms.size(),
                           ranks.size());
  Equation equation;
  int covered = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    MINIM_TRY(Labels labels, ParseTerm(terms[i], ranks[i], 0));
    covered = std::max(
        covered, static_cast<int>(std::count_if(labels.begin(), labels.end(),
                                                [](Label label) { return label >= kEllipsis; })));
    equation.inputs.push_back(std::move(labels));
  }
  equation.output = ImplicitOutput(equation.inputs, covered);
  if (arrow == std::string_view::npos) return equation;
  MINIM_TRY(equation.output, ParseTerm(whole.substr(arrow + 2), -1, covered));
  for (Label label : equation.output) {
    const auto holds = [&](const Labels& labels) { return Holds(labels, label); };
    if (std::none_of(equation.inputs.begin(), equation.inputs.end(), holds))
      return InvalidArgument("equation '{}': no input has label '{}'", text,
                             static_cast<char>(label));
    if (std::count(equation.output.begin(), equation.output.end(), label) > 1)
      return InvalidArgument("equation '{}': label '{}' is twice in the output", text,
                             static_cast<char>(label));
  }
  return equation;
}

// ---- inference

// The size of each label: the one that is not 1, if any is known.
Result<std::map<Label, Dim>> LabelDims(const Equation& equation,
                                       const std::vector<const Shape*>& shapes) {
  std::map<Label, Dim> dims;
  for (size_t i = 0; i < shapes.size(); ++i) {
    for (size_t k = 0; k < shapes[i]->size(); ++k) {
      const Dim& dim = (*shapes[i])[k];
      const auto [it, fresh] = dims.emplace(equation.inputs[i][k], dim);
      if (fresh || dim == Dim(1)) continue;
      if (it->second == Dim(1) || !it->second.known()) {
        it->second = dim;
      } else if (!dim.Compatible(it->second)) {
        return InvalidArgument("input {} has shape {}, where axis {} meets a size of {}", i,
                               ToString(*shapes[i]), k, it->second.ToString());
      }
    }
  }
  return dims;
}

Status InferEinsum(InferContext& op) {
  std::vector<int> ranks;
  std::vector<const Shape*> shapes;
  for (int i = 0; i < op.input_count(); ++i) {
    if (!op.has_input(i)) return op.Error("input {} is missing", i);
    MINIM_TRY(op.SameDType(0, i));
    if (!op.input(i).ranked()) return op.SetUnknown(0, op.dtype(0));
    ranks.push_back(op.input(i).rank());
    shapes.push_back(&*op.input(i).shape);
  }
  const auto equation = ParseEquation(op.attributes(), ranks);
  if (!equation.ok()) return op.Error("{}", equation.status().message());
  const auto dims = LabelDims(*equation, shapes);
  if (!dims.ok()) return op.Error("{}", dims.status().message());
  Shape shape;
  for (Label label : equation->output) shape.push_back(dims->at(label));
  return op.SetOutput(0, op.dtype(0), std::move(shape));
}

// ---- expansion

// A value whose axes carry labels, each once.
struct Operand {
  ValueId value = kNoValue;
  Labels labels;
};

class Contraction {
 public:
  Contraction(Builder& b, std::map<Label, int64_t> sizes) : b_(b), sizes_(std::move(sizes)) {}

  // An input as an operand: axes of size 1 that others stretch are dropped, equal labels become
  // one axis.
  Operand Prepare(ValueId value, const Labels& labels) {
    const Dims dims = b_.type(value).dims();
    Operand operand;
    Dims kept;
    for (size_t i = 0; i < labels.size(); ++i) {
      if (dims[static_cast<int>(i)] != sizes_.at(labels[i])) continue;
      operand.labels.push_back(labels[i]);
      kept.push_back(dims[static_cast<int>(i)]);
    }
    operand.value = kept == dims ? value : b_.Reshape(value, kept);
    while (TakeDiagonal(operand)) {
    }
    return operand;
  }

  // Sums over the labels that are not in `keep`.
  void Reduce(Operand& operand, const std::set<Label>& keep) {
    std::vector<int64_t> axes;
    Labels labels;
    for (size_t i = 0; i < operand.labels.size(); ++i) {
      if (keep.contains(operand.labels[i]))
        labels.push_back(operand.labels[i]);
      else
        axes.push_back(static_cast<int64_t>(i));
    }
    if (axes.empty()) return;
    operand = {b_.ReduceSum(operand.value, axes, false), std::move(labels)};
  }

  // The product of two operands, summed over the labels that are not in `keep`.
  Operand Multiply(Operand a, Operand b, const std::set<Label>& keep) {
    std::set<Label> for_a = keep, for_b = keep;
    for_a.insert(b.labels.begin(), b.labels.end());
    for_b.insert(a.labels.begin(), a.labels.end());
    Reduce(a, for_a);
    Reduce(b, for_b);
    Labels batch, rows, columns, summed;
    for (Label label : a.labels)
      (!Holds(b.labels, label) ? rows : keep.contains(label) ? batch : summed).push_back(label);
    for (Label label : b.labels)
      if (!Holds(a.labels, label)) columns.push_back(label);
    const ValueId left = Grouped(a, {batch, rows, summed});
    const ValueId right = Grouped(b, {batch, summed, columns});
    Operand product{b_.Emit(summed.empty() ? "Mul" : "MatMul", {left, right}), batch};
    product.labels.insert(product.labels.end(), rows.begin(), rows.end());
    product.labels.insert(product.labels.end(), columns.begin(), columns.end());
    Dims dims;
    for (Label label : product.labels) dims.push_back(sizes_.at(label));
    product.value = b_.Reshape(product.value, dims);
    return product;
  }

  ValueId Ordered(const Operand& operand, const Labels& order) {
    std::vector<int64_t> perm;
    bool moved = false;
    for (Label label : order) {
      const auto it = std::find(operand.labels.begin(), operand.labels.end(), label);
      perm.push_back(it - operand.labels.begin());
      moved = moved || perm.back() != static_cast<int64_t>(perm.size()) - 1;
    }
    return moved ? b_.Transpose(operand.value, perm) : operand.value;
  }

 private:
  // Axes in the order of the groups, one axis a group.
  ValueId Grouped(const Operand& operand, const std::vector<Labels>& groups) {
    Labels order;
    Dims dims;
    for (const Labels& group : groups) {
      order.insert(order.end(), group.begin(), group.end());
      int64_t size = 1;
      for (Label label : group) size *= sizes_.at(label);
      dims.push_back(size);
    }
    return b_.Reshape(Ordered(operand, order), dims);
  }

  // Makes one axis of the first label that has two: d x d elements in steps of d + 1.
  bool TakeDiagonal(Operand& operand) {
    for (Label label : operand.labels) {
      if (std::count(operand.labels.begin(), operand.labels.end(), label) < 2) continue;
      std::vector<int64_t> perm, last;
      Labels labels;
      Dims dims;
      for (size_t i = 0; i < operand.labels.size(); ++i) {
        const bool chosen = operand.labels[i] == label && last.size() < 2;
        (chosen ? last : perm).push_back(static_cast<int64_t>(i));
        if (chosen) continue;
        labels.push_back(operand.labels[i]);
        dims.push_back(sizes_.at(operand.labels[i]));
      }
      perm.insert(perm.end(), last.begin(), last.end());
      const int64_t size = sizes_.at(label);
      dims.push_back(size * size);
      const ValueId flat = b_.Reshape(b_.Transpose(operand.value, perm), dims);
      labels.push_back(label);
      operand = {b_.Emit("Slice", {flat, b_.Ints({0}), b_.Ints({size * size}), b_.Ints({-1}),
                                   b_.Ints({size + 1})}),
                 std::move(labels)};
      return true;
    }
    return false;
  }

  Builder& b_;
  std::map<Label, int64_t> sizes_;
};

Status Contract(ExpandContext& e, const Equation& equation, std::map<Label, int64_t> sizes,
                std::vector<ValueId> values) {
  Contraction contraction(e, std::move(sizes));
  std::vector<Operand> operands;
  for (size_t i = 0; i < values.size(); ++i)
    operands.push_back(contraction.Prepare(values[i], equation.inputs[i]));
  const auto needed_after = [&](size_t i) {
    std::set<Label> needed(equation.output.begin(), equation.output.end());
    for (size_t k = i + 1; k < operands.size(); ++k)
      needed.insert(operands[k].labels.begin(), operands[k].labels.end());
    return needed;
  };
  Operand result = operands[0];
  contraction.Reduce(result, needed_after(0));
  for (size_t i = 1; i < operands.size(); ++i)
    result = contraction.Multiply(result, operands[i], needed_after(i));
  e.SetOutput(0, contraction.Ordered(result, equation.output));
  return {};
}

// Integers that MatMul or ReduceSum does not take are computed in i64, which wraps alike.
Status ExpandEinsum(ExpandContext& e) {
  std::vector<int> ranks;
  std::vector<const Shape*> shapes;
  std::vector<Shape> held;
  for (ValueId id : e.node().inputs) {
    if (!e.type(id).Static()) return Unsupported("Einsum '{}': needs static shapes", e.node().name);
    ranks.push_back(e.rank(id));
    held.push_back(*e.type(id).shape);
  }
  for (const Shape& shape : held) shapes.push_back(&shape);
  MINIM_TRY(const Equation equation, ParseEquation(e.attributes(), ranks));
  MINIM_TRY(const auto dims, LabelDims(equation, shapes));
  std::map<Label, int64_t> sizes;
  for (const auto& [label, dim] : dims) sizes[label] = dim.value();
  const DType dtype = e.dtype(e.input(0));
  const bool small = SizeOf(dtype) < 4 && !IsFloat(dtype);
  std::vector<ValueId> values;
  for (ValueId id : e.node().inputs) values.push_back(small ? e.Cast(id, DType::i64) : id);
  MINIM_TRY(Contract(e, equation, std::move(sizes), std::move(values)));
  if (small) e.SetOutput(0, e.Cast(e.replacements()[0], dtype));
  return {};
}

}  // namespace

OpDef Einsum() {
  return {.name = "Einsum",
          .onnx_since = {12},  // 28 only adds bf16; naming it would ask it of every reader
          .max_inputs = -1,
          .dtypes = kNumericTypes,
          .infer = InferEinsum,
          .expand = ExpandEinsum,
          .precision = PrecisionClass::kLower,
          .samples =
              "Einsum(a: f32[2,3], b: f32[3,4]) {equation=\"ij,jk->ik\"}\n"
              "Einsum(a: f32[2,3,4], b: f32[2,4,5]) {equation=\"bij, bjk -> bik\"}\n"
              "Einsum(a: f32[3,2]) {equation=\"ij->ji\"}\n"
              "Einsum(a: f32[3,2]) {equation=\"ij->i\"}\n"
              "Einsum(a: f32[2,3,3]) {equation=\"...ii->...i\"}\n"
              "Einsum(a: f32[3,3,3]) {equation=\"iii\"}\n"
              "Einsum(a: f64[3]) {equation=\"i->i\"}\n"
              "Einsum(a: f32[3], b: f32[3]) {equation=\"i,i\"}\n"
              "Einsum(a: f32[2,1,3,4], b: f32[5,4,2]) {equation=\"...ij,...jk\"}\n"
              "Einsum(a: f32[2,3], b: f32[4,3], c: f32[5,4]) {equation=\"ab,cb,dc->da\"}\n"
              "Einsum(a: f32[2,3], b: f32[2]) {equation=\"ab,c->cab\"}\n"
              "Einsum(a: f32[2,3], b: f32[1,3]) {equation=\"ab,ab->a\"}\n"
              "Einsum(a: f32, b: f32[2]) {equation=\",a->a\"}\n"
              "Einsum(a: i8[2,3], b: i8[3]) {equation=\"ij,j->i\"}\n"
              "Einsum(a: i32[2,0], b: i32[0]) {equation=\"ij,j->i\"}\n"
              "Einsum(a: f16[2,3], b: f16[3,2]) {equation=\"ij,ji->\"}\n"};
}

}  // namespace minim::ops
