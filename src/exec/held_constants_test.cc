#include "exec/held_constants.h"

#include <gtest/gtest.h>

#include "exec/program.h"
#include "graph/text.h"

namespace minim {
namespace {

Tensor Numbers(DType dtype, const Dims& dims) {
  Tensor floats(DType::f32, dims);
  for (int64_t i = 0; i < floats.size(); ++i)
    floats.as<float>()[i] =
        static_cast<float>(i * 37 % 101 - 50) * (dtype == DType::f32 ? 0.3f : 1);
  return Converted(floats.view(), dtype);
}

// A store of blobs that are their sources in reverse; those of odd size cannot be unpacked.
class Reversed {
 public:
  std::shared_ptr<const std::byte> Pack(const Tensor& tensor) {
    const size_t n = tensor.bytes();
    const auto* from = static_cast<const std::byte*>(tensor.data());
    Unpack unpack;
    if (n % 2 == 0)
      unpack = [n](const std::byte* blob, void* source) {
        std::reverse_copy(blob, blob + n, static_cast<std::byte*>(source));
      };
    return store_->GetOrPack(
        tensor.view(), "reversed", n,
        [&](std::byte* blob) { std::reverse_copy(from, from + n, blob); }, std::move(unpack));
  }
  PackStore& store() { return *store_; }

 private:
  std::unique_ptr<PackStore> store_ = MakePackStore();
};

TEST(HeldConstantsTest, WhatAPackGivesBackIsLetGo) {
  Reversed packs;
  HeldConstants held({{3, Numbers(DType::f32, {64, 32})}});
  std::shared_ptr<const std::byte> blob = packs.Pack(held.All().at(3));
  held.LetGo(packs.store());
  EXPECT_EQ(held.bytes(), 0u);
  blob.reset();  // the constant keeps it
  const Tensor again = held.All().at(3), before = Numbers(DType::f32, {64, 32});
  EXPECT_EQ(again.dims(), before.dims());
  EXPECT_EQ(std::memcmp(again.data(), before.data(), before.bytes()), 0);
}

TEST(HeldConstantsTest, OthersStay) {
  Reversed packs;
  HeldConstants held({{1, Numbers(DType::f32, {64, 32})},   // not packed
                      {2, Numbers(DType::i8, {4097})},      // packed with a loss
                      {3, Numbers(DType::i8, {100, 100})},  // read by someone else
                      {4, Numbers(DType::f32, {2})}});      // small
  const Tensor shared = held.All().at(3);
  const auto blobs = {packs.Pack(held.All().at(2)), packs.Pack(shared),
                      packs.Pack(held.All().at(4))};
  const size_t bytes = held.bytes();
  held.LetGo(packs.store());
  EXPECT_EQ(held.bytes(), bytes);
}

struct Case {
  const char* name;
  DType dtype;  // of X and the weights
  const char* x;
  Dims weights;
  const char* text;
  Isa least = Isa::kPortable;  // whose kernels give the weights back
};

const Case kCases[] = {
    {"MatMul", DType::f32, "N,2,70", {70, 130}, "y = MatMul(x, w)"},
    {"MatMulOfMatrices", DType::f32, "N,2,3,70", {2, 70, 130}, "y = MatMul(x, w)"},
    {"TransposedGemm", DType::f32, "N,70", {130, 70}, "y = Gemm(x, w) {transB=1}"},
    {"MatMulBf16", DType::bf16, "N,2,70", {70, 130}, "y = MatMul(x, w)"},
    {"Pointwise", DType::f32, "N,70,12,11", {100, 70, 1, 1}, "y = Conv(x, w)"},
    {"Conv", DType::f32, "N,70,12,11", {40, 70, 5, 3}, "y = Conv(x, w) {strides=[2,1]}"},
    {"ConvBf16", DType::bf16, "N,70,12,11", {40, 70, 3, 3}, "y = Conv(x, w)", Isa::kAvx512Bf16},
    {"Groups", DType::f32, "N,70,12,11", {40, 35, 3, 3}, "y = Conv(x, w) {group=2}"},
    {"Lstm", DType::f32, "N,2,70", {1, 512, 70}, "y, h, c = LSTM(x, w, r) {hidden_size=128}"},
    {"QLinearConv",
     DType::u8,
     "N,70,12,11",
     {40, 70, 3, 3},
     "y = QLinearConv(x, s, z, w, s, none, s, z)",
     Isa::kAvx512Vnni},
    {"QLinearMatMul",
     DType::u8,
     "N,2,70",
     {70, 130},
     "y = QLinearMatMul(x, s, z, w, s, none, s, z)",
     Isa::kAvx512Vnni},
};

Graph GraphOf(const Case& c) {
  const DType weights = c.dtype == DType::u8 ? DType::i8 : c.dtype;
  std::string text = fmt::format("graph \"g\"(x: {}[{}], w: {}{}", Name(c.dtype), c.x,
                                 Name(weights), c.weights.ToString());
  if (std::string_view(c.text).find("(x, w, r)") != std::string_view::npos)
    text += ", r: f32[1,512,128]";
  text += ") -> (y) { const s: f32 = [4.0]\n const z: u8 = [0]\n const none: i8 = [0]\n";
  Graph graph = ParseText(text + c.text + " }").value();
  for (size_t i = 1; i < graph.inputs.size(); ++i) {
    const TensorType& type = graph.type(graph.inputs[i]);
    graph.constants.emplace(graph.inputs[i], Numbers(type.dtype, type.dims()));
  }
  graph.inputs.resize(1);
  PassContext context;
  context.has_kernel = HasCpuKernel;
  EXPECT_TRUE(RunPipeline(kLoadPipeline, graph, context).ok());
  return graph;
}

Tensor Answer(Program& program, const Case& c, int64_t batch) {
  ExecContext context;
  const TensorType& type = program.graph().type(program.graph().inputs[0]);
  Dims dims;
  for (const Dim& dim : *type.shape) dims.push_back(dim.known() ? dim.value() : batch);
  const Tensor x = Numbers(c.dtype, dims);
  const ConstView views[] = {x.view()};
  auto y = program.Run(context, views);
  EXPECT_TRUE(y.ok()) << c.name << ": " << y.status().message();
  return y.ok() ? (*y)[0] : Tensor();
}

class WeightsTest : public testing::TestWithParam<std::tuple<Case, Isa>> {};

// No matter which kernels took them: later bindings have the same answers as if nothing had been
// let go, and where a pack gives the weights back nothing is held beside it.
TEST_P(WeightsTest, AreHeldOnce) {
  const auto& [c, isa] = GetParam();
  if (isa > DetectIsa()) GTEST_SKIP();
  const auto make = [&, isa = isa] {
    return std::make_unique<Program>(GraphOf(c), std::make_shared<Runtime>(isa, 0),
                                     ProgramOptions{});
  };
  const auto program = make();
  const size_t before = program->constant_bytes();
  for (const int64_t batch : {1, 80, 3, 1}) {
    const Tensor y = Answer(*program, c, batch), fresh = Answer(*make(), c, batch);
    ASSERT_EQ(y.dims(), fresh.dims());
    EXPECT_EQ(std::memcmp(y.data(), fresh.data(), y.bytes()), 0) << batch;
  }
  const size_t held = isa >= c.least ? program->constant_bytes() : 0;
  EXPECT_LT(held, before / 4) << program->Explain();
}

INSTANTIATE_TEST_SUITE_P(Kernels, WeightsTest,
                         testing::Combine(testing::ValuesIn(kCases), testing::ValuesIn(kIsas)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::string(Name(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace minim
