// Samples: one op call per line, from which tests and benchmarks are generated.
//   Relu(x: f32[3,257] = away_from(0))
//   a, b = Split(x: f32[6], s: i64[2] = [2,4]) {axis=0}
//   Gemm(a: f32[2,3], b: f32[3,4], _) {alpha=0.5, transA=0}
// Generators: uniform (default: uniform(-1,1)), uniform(lo,hi), away_from(v[,gap]) keeps a gap of
// 0.1 from v, index(n) draws integers below n, a literal list, `const` before a generator
// makes the input a constant of the graph (needed where a shape depends on its value; integer
// lists are constants already).
#pragma once

#include "ops/op_def.h"

namespace minim {

struct Sample {
  std::string text;
  Graph graph;                 // one node, inputs and constants declared, types inferred
  std::vector<Tensor> inputs;  // seeded values, in the order of graph.inputs
};

/// Parses one sample line of `op`. Values are a function of `seed`. With `widen`, floats are f64.
Result<Sample> ParseSample(const OpDef& op, std::string_view line, uint64_t seed,
                           bool widen = false);
/// Copies of the sample whose inputs hold no elements: one axis of one input is 0 long, or every
/// axis of one length is (of inputs only, or of constants too). Those that inference refuses and
/// ops with sub-graphs, which declare their shapes, are left out.
std::vector<Sample> EmptyVariants(const Sample& sample);
/// Copies of the sample in which one axis of one input has another length, all elements of that
/// input zero. Those that inference refuses and ops with sub-graphs are left out.
std::vector<Sample> UnequalVariants(const Sample& sample);
/// Copies of the sample in which one input or constant has a small dtype. Those that inference
/// refuses and ops with sub-graphs are left out.
std::vector<Sample> SmallVariants(const Sample& sample);
/// The non-empty lines of op.samples.
std::vector<std::string> SampleLines(const OpDef& op);

}  // namespace minim
