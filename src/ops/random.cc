// RandomUniform, RandomNormal, their Like forms, Bernoulli, Multinomial. Element i is a pure
// function of (seed, i); without a seed, of the node's name.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/philox.h"
#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

uint64_t SeedOf(const RefContext& op) {
  if (op.attributes().Has("seed")) return std::bit_cast<uint32_t>(op.attributes().Float("seed", 0));
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : op.node().name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// Attribute dtype, or `fallback`.
Result<DType> TypeOf(const InferContext& op, DType fallback) {
  const int64_t id = op.attributes().Int("dtype", OnnxId(fallback));
  const auto dtype = DTypeFromOnnx(static_cast<int>(id));
  if (!dtype) return op.Error("dtype {} is unknown", id);
  return *dtype;
}

Result<DType> FloatTypeOf(const InferContext& op, DType fallback) {
  MINIM_TRY(const DType dtype, TypeOf(op, fallback));
  if (!IsFloat(dtype)) return op.Error("dtype is {}, expected a float", Name(dtype));
  return dtype;
}

Status InferShaped(InferContext& op) {
  MINIM_TRY(const DType dtype, FloatTypeOf(op, DType::f32));
  const std::vector<int64_t> dims = op.attributes().Ints("shape");
  for (int64_t dim : dims)
    if (dim < 0) return op.Error("shape holds {}, expected no negative size", dim);
  return op.SetOutput(0, dtype, Shape(dims.begin(), dims.end()));
}

Status InferLike(InferContext& op) {
  MINIM_TRY(const DType dtype, FloatTypeOf(op, op.dtype(0)));
  return op.SetOutput(0, {dtype, op.input(0).shape});
}

Status Uniform(RefContext& op) {
  const Philox rng(SeedOf(op));
  const double low = op.attributes().Float("low", 0), high = op.attributes().Float("high", 1);
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) y.f64()[i] = low + (high - low) * rng.Uniform(i);
  return {};
}

Status Normal(RefContext& op) {
  const Philox rng(SeedOf(op));
  const double mean = op.attributes().Float("mean", 0), scale = op.attributes().Float("scale", 1);
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) y.f64()[i] = mean + scale * rng.Normal(i);
  return {};
}

Status InferBernoulli(InferContext& op) {
  MINIM_TRY(const DType dtype, TypeOf(op, op.dtype(0)));
  return op.SetOutput(0, {dtype, op.input(0).shape});
}

Status Bernoulli(RefContext& op) {
  const Philox rng(SeedOf(op));
  RefTensor& y = op.Output(0);
  for (int64_t i = 0; i < y.size(); ++i) {
    const double p = op.input(0).f64()[i];
    if (!(p >= 0 && p <= 1)) return op.Error("probability {} is outside [0, 1]", p);
    y.SetAt(i, rng.Uniform(i) < p ? 1 : 0);
  }
  return {};
}

Status InferMultinomial(InferContext& op) {
  MINIM_TRY(op.HasRank(0, 2));
  MINIM_TRY(const DType dtype, TypeOf(op, DType::i32));
  const int64_t count = op.attributes().Int("sample_size", 1);
  if (dtype != DType::i32 && dtype != DType::i64)
    return op.Error("dtype is {}, expected i32 or i64", Name(dtype));
  if (count < 0 || count > INT32_MAX)
    return op.Error("sample_size is {}, expected 0 or more", count);
  const Dim batch = op.input(0).ranked() ? (*op.input(0).shape)[0] : Dim();
  return op.SetOutput(0, dtype, Shape{batch, count});
}

// Running sums of the unnormalised probabilities.
std::vector<double> Cumulative(std::span<const double> log_weights) {
  double largest = -INFINITY, sum = 0;
  for (double w : log_weights) largest = std::max(largest, w);
  std::vector<double> sums;
  for (double w : log_weights) sums.push_back(sum += std::exp(w - largest));
  return sums;
}

Status Multinomial(RefContext& op) {
  const Philox rng(SeedOf(op));
  const int64_t classes = op.dims(0)[1];
  RefTensor& y = op.Output(0);
  const int64_t count = y.dims()[1];
  if (classes == 0 && y.size() > 0) return op.Error("there are no classes to draw from");
  for (int64_t row = 0; count > 0 && row < y.dims()[0]; ++row) {
    const auto sums = Cumulative(op.input(0).f64().subspan(row * classes, classes));
    for (int64_t i = row * count; i < (row + 1) * count; ++i) {
      const double at = rng.Uniform(i) * sums.back();
      const auto it = std::upper_bound(sums.begin(), sums.end() - 1, at);
      y.i64()[i] = it - sums.begin();
    }
  }
  return {};
}

using Reference = Status (*)(RefContext&);

OpDef Define(std::string name, std::vector<int> since, int inputs,
             std::function<Status(InferContext&)> infer, Reference reference, std::string samples) {
  return {.name = std::move(name),
          .onnx_since = std::move(since),
          .min_inputs = inputs,
          .max_inputs = inputs,
          .infer = std::move(infer),
          .reference = reference,
          .traits = OpTrait::kRandom,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> RandomOps() {
  OpDef bernoulli = Define("Bernoulli", {15, 22}, 1, InferBernoulli, Bernoulli,
                           "Bernoulli(p: f32[3,5] = uniform(0,1))\n"
                           "Bernoulli(p: f64[4] = uniform(0,1)) {dtype=9, seed=2.0}\n"
                           "Bernoulli(p: f16[4] = uniform(0,1)) {dtype=6}\n");
  OpDef multinomial = Define("Multinomial", {7, 22}, 1, InferMultinomial, Multinomial,
                             "Multinomial(x: f32[2,5]) {sample_size=7, dtype=7, seed=1.0}\n"
                             "Multinomial(x: f16[1,3])\n");
  bernoulli.dtypes = multinomial.dtypes = kFloatTypes;
  return {Define("RandomUniform", {1, 22}, 0, InferShaped, Uniform,
                 "RandomUniform() {shape=[3,4], low=-1.0, high=2.0, seed=3.0}\n"
                 "RandomUniform() {shape=[2], dtype=11}\n"),
          Define("RandomNormal", {1, 22}, 0, InferShaped, Normal,
                 "RandomNormal() {shape=[3,4], mean=1.0, scale=0.5, seed=3.0}\n"
                 "RandomNormal() {shape=[0], dtype=10}\n"),
          Define("RandomUniformLike", {1, 22}, 1, InferLike, Uniform,
                 "RandomUniformLike(x: f32[3,4]) {low=-1.0, high=2.0, seed=3.0}\n"
                 "RandomUniformLike(x: i32[2]) {dtype=16}\n"),
          Define("RandomNormalLike", {1, 22}, 1, InferLike, Normal,
                 "RandomNormalLike(x: f32[3,4]) {mean=1.0, scale=0.5, seed=3.0}\n"
                 "RandomNormalLike(x: bool[2]) {dtype=1}\n"),
          std::move(bernoulli),
          std::move(multinomial)};
}

}  // namespace minim::ops
