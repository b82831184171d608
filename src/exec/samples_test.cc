// Every op, by the kernels of each level and by the reference: its samples as they are, without
// elements, and with an input of a small type.
#include "ops/samples.h"

#include <gtest/gtest.h>

#include "core/dtype.h"
#include "core/isa.h"
#include "exec/cpu/bind.h"
#include "exec/program.h"
#include "ops/reference.h"

namespace minim {
namespace {

struct Case {
  const OpDef* op;
  Isa isa;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const OpDef* op : AllOps())
    for (Isa isa : kIsas)
      if (isa <= DetectIsa()) cases.push_back({op, isa});
  return cases;
}

Result<std::vector<Tensor>> RunKernels(const Sample& sample, Isa isa) {
  Graph graph = sample.graph;
  PassContext context;
  context.has_kernel = HasCpuKernel;
  MINIM_TRY(RunPipeline(kLoadPipeline, graph, context));
  Program program(std::move(graph), std::make_shared<Runtime>(isa, 0), {});
  ExecContext exec;
  std::vector<ConstView> views;
  for (const Tensor& input : sample.inputs) views.push_back(input.view());
  return program.Run(exec, views);
}

// Loose: exact bounds are the kernels' own tests.
void ExpectClose(const Tensor& actual, const Tensor& expected, const std::string& text) {
  ASSERT_EQ(actual.dtype(), expected.dtype()) << text;
  ASSERT_EQ(actual.dims(), expected.dims()) << text;
  if (expected.dtype() == DType::string) {
    for (int64_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(actual.as<std::string>()[i], expected.as<std::string>()[i]) << text;
    return;
  }
  const double rtol = SizeOf(expected.dtype()) == 2 ? 0.02 : 1e-4;
  const Tensor a = Converted(actual.view(), DType::f64), e = Converted(expected.view(), DType::f64);
  for (int64_t i = 0; i < a.size(); ++i) {
    const double x = a.as<double>()[i], y = e.as<double>()[i];
    const bool same = x == y || (std::isnan(x) && std::isnan(y));
    ASSERT_TRUE(same || std::fabs(x - y) <= rtol * (1 + std::fabs(y)))
        << text << ": element " << i << " is " << x << ", expected " << y;
  }
}

void Check(const Sample& sample, Isa isa) {
  const auto expected = EvaluateGraph(sample.graph, sample.inputs);
  const auto actual = RunKernels(sample, isa);
  if (!expected.ok()) return;  // such as an index out of range, which kernels cannot report
  ASSERT_TRUE(actual.ok()) << sample.text << ": " << actual.status().message();
  ASSERT_EQ(actual->size(), expected->size()) << sample.text;
  for (size_t i = 0; i < expected->size(); ++i)
    ExpectClose((*actual)[i], (*expected)[i], sample.text);
}

class SamplesTest : public testing::TestWithParam<Case> {};

TEST_P(SamplesTest, KernelsAgreeWithTheReference) {
  const OpDef& op = *GetParam().op;
  for (const std::string& line : SampleLines(op)) {
    const auto sample = ParseSample(op, line, 1);
    ASSERT_TRUE(sample.ok()) << sample.status().message();
    Check(*sample, GetParam().isa);
    for (const Sample& variant : EmptyVariants(*sample)) Check(variant, GetParam().isa);
    for (const Sample& variant : UnequalVariants(*sample)) Check(variant, GetParam().isa);
    for (const Sample& variant : SmallVariants(*sample)) Check(variant, GetParam().isa);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SamplesTest, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name =
      fmt::format("{}_{}_{}", info.param.op->domain, info.param.op->name, Name(info.param.isa));
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace minim
