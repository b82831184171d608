#include "onnx/onnx.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "core/dtype.h"
#include "graph/text.h"
#include "minim_onnx.pb.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "ops/reference.h"

namespace minim {
namespace {

minim_onnx::ModelProto ReluModel(int opset = 17) {
  minim_onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(opset);
  auto& graph = *model.mutable_graph();
  graph.set_name("relu");
  auto& input = *graph.add_input();
  input.set_name("x");
  auto& type = *input.mutable_type()->mutable_tensor_type();
  type.set_elem_type(1);
  type.mutable_shape()->add_dim()->set_dim_param("N");
  graph.add_output()->set_name("y");
  auto& node = *graph.add_node();
  node.set_op_type("Relu");
  node.set_name("n");
  node.add_input("x");
  node.add_output("y");
  return model;
}

TEST(OnnxTest, ReadsTypesAndNames) {
  const auto graph = ParseOnnx(ReluModel().SerializeAsString());
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->type(graph->FindValue("y")).ToString(), "f32[N]");
  EXPECT_EQ(graph->nodes[0].name, "n");
}

TEST(OnnxTest, WritesWhatItReads) {
  const auto graph = ParseOnnx(ReluModel().SerializeAsString());
  const auto again = ParseOnnx(SerializeOnnx(*graph).value());
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(ToText(*again), ToText(*graph));
}

TEST(OnnxTest, NodesInAnyOrderAndCycles) {
  auto model = ReluModel();
  auto& second = *model.mutable_graph()->add_node();
  second.set_op_type("Relu");
  second.add_input("z");
  second.add_output("w");
  auto& third = *model.mutable_graph()->add_node();
  third.set_op_type("Relu");
  third.add_input("y");
  third.add_output("z");
  EXPECT_TRUE(ParseOnnx(model.SerializeAsString()).ok());
  third.set_input(0, "w");
  EXPECT_NE(ParseOnnx(model.SerializeAsString()).status().message().find("cycle"),
            std::string::npos);
}

TEST(OnnxTest, RefusesWhatItCannotRead) {
  const auto message = [](const minim_onnx::ModelProto& model) {
    return ParseOnnx(model.SerializeAsString()).status().message();
  };
  auto unknown = ReluModel();
  unknown.mutable_graph()->mutable_node(0)->set_op_type("Sprocket");
  EXPECT_NE(message(unknown).find("Sprocket"), std::string::npos);
  EXPECT_NE(message(ReluModel(0)).find("opset 0"), std::string::npos);
  auto bare = ReluModel(6);
  bare.mutable_graph()->mutable_node(0)->set_op_type("Clip");
  bare.mutable_graph()->mutable_node(0)->clear_input();
  EXPECT_NE(message(bare).find("no first input"), std::string::npos);
  auto gap = ReluModel();
  gap.mutable_graph()->mutable_node(0)->set_op_type("Max");
  gap.mutable_graph()->mutable_node(0)->add_input("");
  EXPECT_NE(message(gap).find("input 1 is missing"), std::string::npos);
  auto mute = ReluModel();
  mute.mutable_graph()->add_node()->set_op_type("Relu");
  mute.mutable_graph()->mutable_node(1)->add_input("x");
  EXPECT_NE(message(mute).find("no outputs"), std::string::npos);
  auto list = ReluModel();
  auto& constant = *list.mutable_graph()->mutable_node(0);
  constant.set_op_type("Constant");
  constant.clear_input();
  constant.add_attribute()->set_name("value");
  constant.mutable_attribute(0)->set_type(6);  // FLOATS
  EXPECT_NE(message(list).find("has none of value"), std::string::npos);
  auto dangling = ReluModel();
  dangling.mutable_graph()->mutable_node(0)->set_input(0, "q");
  EXPECT_NE(message(dangling).find("'q'"), std::string::npos);
  auto twice = ReluModel();
  *twice.mutable_graph()->add_node() = twice.graph().node(0);
  EXPECT_NE(message(twice).find("defined twice"), std::string::npos);
  EXPECT_FALSE(ParseOnnx("").ok());
  EXPECT_FALSE(ParseOnnx("garbage").ok());
  const std::string good = ReluModel().SerializeAsString();
  for (size_t n = 0; n < good.size(); ++n) (void)ParseOnnx(good.substr(0, n));  // no crash
}

// Every byte of a file with weights, changed in each of its bits: an error or another model.
TEST(OnnxTest, MutatedFilesDoNoHarm) {
  auto model = ReluModel();
  auto& w = *model.mutable_graph()->add_initializer();
  w.set_name("w");
  w.set_data_type(1);
  w.add_dims(2);
  w.set_raw_data(std::string(8, '\x3f'));
  model.mutable_graph()->mutable_node(0)->set_op_type("Add");
  model.mutable_graph()->mutable_node(0)->add_input("w");
  const std::string good = model.SerializeAsString();
  int refused = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      const auto graph = ParseOnnx(bad);
      EXPECT_TRUE(graph.ok() || !graph.status().message().empty());
      refused += graph.ok() ? 0 : 1;
    }
  }
  EXPECT_GT(refused, static_cast<int>(good.size()));
}

TEST(OnnxTest, OutputsThatNobodyMakesOrThatRepeat) {
  auto model = ReluModel();
  for (int i = 0; i < 5000; ++i) model.mutable_graph()->add_output()->set_name("y");
  const auto repeated = ParseOnnx(model.SerializeAsString());
  EXPECT_TRUE(!repeated.ok() || repeated->outputs.size() == 5001u);
  model.mutable_graph()->add_output()->set_name(std::string("y\0z", 3));
  EXPECT_FALSE(ParseOnnx(model.SerializeAsString()).ok());
}

TEST(OnnxTest, LimitsHold) {
  auto model = ReluModel();
  for (int i = 0; i < 100; ++i) model.mutable_graph()->add_node();
  EXPECT_EQ(ParseOnnx(model.SerializeAsString(), {}, {.max_nodes = 50}).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(ParseOnnx(model.SerializeAsString(), {}, {.max_bytes = 10}).status().code(),
            StatusCode::kResourceExhausted);
  minim_onnx::ModelProto deep = ReluModel();
  minim_onnx::GraphProto* graph = deep.mutable_graph();
  for (int i = 0; i < 100; ++i) graph = graph->add_node()->add_attribute()->mutable_g();
  EXPECT_EQ(ParseOnnx(deep.SerializeAsString()).status().code(), StatusCode::kDataLoss);
}

TEST(OnnxTest, InitializersMustMatchTheirShape) {
  auto model = ReluModel();
  auto& w = *model.mutable_graph()->add_initializer();
  w.set_name("w");
  w.set_data_type(1);
  w.add_dims(3);
  w.set_raw_data(std::string(8, '\0'));
  EXPECT_EQ(ParseOnnx(model.SerializeAsString()).status().code(), StatusCode::kDataLoss);
  w.set_dims(0, int64_t{1} << 62);
  w.add_dims(4);
  EXPECT_EQ(ParseOnnx(model.SerializeAsString()).status().code(), StatusCode::kDataLoss);
}

class ExternalData : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = Path(testing::TempDir()) / "minim_external";
    std::filesystem::create_directories(folder_ / "model");
    const float values[] = {1, 2, 3};
    std::ofstream(folder_ / "model" / "w.bin", std::ios::binary)
        .write(reinterpret_cast<const char*>(values), sizeof(values));
    std::ofstream(folder_ / "secret.bin") << "0123456789ab";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Result<Graph> Load(const std::string& location, const std::string& offset = "0",
                     const std::string& length = "12", int type = 1) {
    auto model = ReluModel();
    auto& w = *model.mutable_graph()->add_initializer();
    w.set_name("w");
    w.set_data_type(type);
    w.add_dims(3);
    w.set_data_location(1);
    const std::pair<const char*, std::string> entries[] = {
        {"location", location}, {"offset", offset}, {"length", length}};
    for (const auto& [key, value] : entries) {
      auto& entry = *w.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    }
    return ParseOnnx(model.SerializeAsString(), folder_ / "model");
  }

  Path folder_;
};

TEST_F(ExternalData, IsReadFromTheModelsFolder) {
  const auto graph = Load("w.bin");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->constant(graph->FindValue("w"))->as<float>()[2], 3);
}

TEST_F(ExternalData, NeverLeavesTheModelsFolder) {
  EXPECT_FALSE(Load("../secret.bin").ok());
  EXPECT_FALSE(Load((folder_ / "secret.bin").string()).ok());
  std::filesystem::create_symlink(folder_ / "secret.bin", folder_ / "model" / "link.bin");
  EXPECT_FALSE(Load("link.bin").ok());
}

TEST_F(ExternalData, WrappingOffsetsAreRefused) {
  EXPECT_FALSE(Load("w.bin", "18446744073709551615").ok());
  EXPECT_FALSE(Load("w.bin", "4").ok());
  EXPECT_FALSE(Load("w.bin", "0", "99999999999").ok());
  EXPECT_FALSE(Load("w.bin", "-1").ok());
}

TEST(TensorProtoTest, RoundTrip) {
  const Tensor tensor = Tensor::From<BFloat16>({2}, {BFloat16(1.5f), BFloat16(-2)});
  const auto back = ParseTensorProto(SerializeTensorProto(tensor, "t"));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->dtype(), DType::bf16);
  EXPECT_EQ(back->as<BFloat16>()[1], tensor.as<BFloat16>()[1]);
  minim_onnx::TensorProto half;
  half.set_data_type(10);
  half.add_dims(1);
  half.add_int32_data(0x3c00);
  EXPECT_EQ(static_cast<float>(ParseTensorProto(half.SerializeAsString())->as<Half>()[0]), 1.0f);
}

Tensor Nibbles() {
  return Tensor::From<Int4>({5}, {Int4(1), Int4(-2), Int4(7), Int4(-8), Int4(-1)});
}

TEST(TensorProtoTest, TypesBelowAByteArePackedLowBitsFirst) {
  minim_onnx::TensorProto proto;
  ASSERT_TRUE(proto.ParseFromString(SerializeTensorProto(Nibbles(), "t")));
  EXPECT_EQ(proto.raw_data(), "\xe1\x87\x0f");
  const auto check = [&] {
    const auto back = ParseTensorProto(proto.SerializeAsString());
    ASSERT_TRUE(back.ok()) << back.status().message();
    for (int i = 0; i < 5; ++i) EXPECT_EQ(back->as<Int4>()[i], Nibbles().as<Int4>()[i]) << i;
  };
  check();
  proto.clear_raw_data();
  for (int byte : {0xe1, 0x87, 0x0f}) proto.add_int32_data(byte);
  check();
  proto.add_int32_data(0);
  EXPECT_EQ(ParseTensorProto(proto.SerializeAsString()).status().code(), StatusCode::kDataLoss);
}

TEST(TensorProtoTest, EverySmallTypeSurvivesTheRoundTrip) {
  for (const DType dtype : kSmallTypes) {
    for (const int64_t n : {0, 1, 3, 4, 9}) {
      Tensor tensor(dtype, {n});
      for (int64_t i = 0; i < n; ++i)
        VisitSmall(dtype, [&]<typename T>() { tensor.as<T>()[i] = ConvertTo<T>(int64_t{1} << i); });
      const std::string bytes = SerializeTensorProto(tensor, "t");
      minim_onnx::TensorProto proto;
      ASSERT_TRUE(proto.ParseFromString(bytes));
      EXPECT_EQ(proto.raw_data().size(), static_cast<size_t>(n * FileBits(dtype) + 7) / 8);
      const auto back = ParseTensorProto(bytes);
      ASSERT_TRUE(back.ok()) << back.status().message();
      EXPECT_EQ(back->dtype(), dtype);
      EXPECT_TRUE(n == 0 || std::memcmp(back->data(), tensor.data(), tensor.bytes()) == 0);
    }
  }
}

TEST_F(ExternalData, IsUnpacked) {
  std::ofstream(folder_ / "model" / "w.bin", std::ios::binary) << "\x21\x03";
  const auto graph = Load("w.bin", "0", "2", OnnxId(DType::u4));
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const Tensor& w = *graph->constant(graph->FindValue("w"));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(w.as<UInt4>()[i], UInt4(i + 1));
}

TEST(OnnxTest, SmallTypesKeepTheirModelAndRaiseItsVersions) {
  constexpr std::string_view kText = R"(graph "g"(x: i4[2,3], y: f8e4m3fn[N]) -> (z, t, c) {
  const s: f32 = [0.5]
  const w: f4e2m1[3] = [0.5, -6.0, 1.5]
  const p: u2[3] = [3, 0, 1]
  z: f32[2,3] = DequantizeLinear(x, s) {axis=1}
  t: f8e4m3fn[N] = Identity(y)
  c: u2[6] = Concat(p, p) {axis=0}
  v: f4e2m1[3] = Identity(w)
}
)";
  const auto graph = ParseText(kText);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const std::string bytes = SerializeOnnx(*graph).value();
  minim_onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(bytes));
  EXPECT_EQ(model.opset_import(0).version(), 25);  // of u2
  EXPECT_EQ(model.ir_version(), 13);
  const auto again = ParseOnnx(bytes);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->type(again->FindValue("t")).ToString(), "f8e4m3fn[N]");
  for (const std::string name : {"w", "p"}) {
    const Tensor &before = *graph->constant(graph->FindValue(name)),
                 &after = *again->constant(again->FindValue(name));
    EXPECT_EQ(after.dtype(), before.dtype());
    EXPECT_EQ(std::memcmp(after.data(), before.data(), before.bytes()), 0);
  }
}

TEST(OnnxTest, OpsThatALaterOpsetDeprecatesAreWrittenBeforeIt) {
  const auto graph = ParseText(R"(graph "g"(x: f32[N,2]) -> (y) {
  y = ai.onnx.ml.TreeEnsembleRegressor(x) {nodes_treeids=[0], nodes_nodeids=[0],
    nodes_featureids=[0], nodes_values=[0.0], nodes_modes=["LEAF"], nodes_truenodeids=[0],
    nodes_falsenodeids=[0], target_treeids=[0], target_nodeids=[0], target_ids=[0],
    target_weights=[1.0], n_targets=1}
})");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  minim_onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(SerializeOnnx(*graph).value()));
  std::map<std::string, int64_t> versions;
  for (const auto& set : model.opset_import()) versions[set.domain()] = set.version();
  EXPECT_EQ(versions["ai.onnx.ml"], 3);
}

TEST(OnnxTest, SubgraphsAreWrittenAndReadBack) {
  const Graph graph = ParseText(R"(graph "g"(m: i64, x: f32[2]) -> (y, all) {
    k = Neg(x)
    y, all = Loop(m, _, x, k) {captures=1,
      body=graph "b"(i: i64, c: bool, v: f32[2], k: f32[2]) -> (c2, w, s) {
        c2 = Identity(c) w = Add(v, k) s = Identity(w) }} })")
                          .value();
  const auto bytes = SerializeOnnx(graph);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  const auto again = ParseOnnx(*bytes);
  ASSERT_TRUE(again.ok()) << again.status().message();
  const std::vector<Tensor> inputs = {Tensor::Scalar<int64_t>(3), Tensor::From<float>({2}, {1, 2})};
  const auto before = EvaluateGraph(graph, inputs), after = EvaluateGraph(*again, inputs);
  ASSERT_TRUE(before.ok() && after.ok()) << after.status().message();
  EXPECT_EQ((*after)[0].as<float>()[1], -4);
  EXPECT_EQ((*after)[1].dims(), Dims({3, 2}));
  EXPECT_EQ((*before)[1].as<float>()[5], (*after)[1].as<float>()[5]);
}

// twice(a) = a + a, scaled(a; by) = Elu(twice(a)) with alpha = by.
minim_onnx::ModelProto FunctionModel() {
  auto model = ReluModel();
  auto& twice = *model.add_functions();
  twice.set_name("twice");
  twice.set_domain("mine");
  twice.add_input("a");
  twice.add_output("r");
  twice.add_opset_import()->set_version(17);
  auto& add = *twice.add_node();
  add.set_op_type("Add");
  add.add_input("a");
  add.add_input("a");
  add.add_output("r");
  auto& scaled = *model.add_functions();
  scaled = twice;
  scaled.set_name("scaled");
  scaled.add_attribute("by");
  auto& domain = *scaled.add_opset_import();
  domain.set_domain("mine");
  domain.set_version(1);
  scaled.mutable_node(0)->set_op_type("twice");
  scaled.mutable_node(0)->set_domain("mine");
  scaled.mutable_node(0)->mutable_input()->RemoveLast();
  scaled.mutable_node(0)->set_output(0, "t");
  auto& elu = *scaled.add_node();
  elu.set_op_type("Elu");
  elu.add_input("t");
  elu.add_output("r");
  auto& alpha = *elu.add_attribute();
  alpha.set_name("alpha");
  alpha.set_type(1);
  alpha.set_ref_attr_name("by");
  auto& import = *model.add_opset_import();
  import.set_domain("mine");
  import.set_version(1);
  auto& call = *model.mutable_graph()->mutable_node(0);
  call.set_op_type("scaled");
  call.set_domain("mine");
  auto& by = *call.add_attribute();
  by.set_name("by");
  by.set_type(1);
  by.set_f(0.5f);
  return model;
}

TEST(OnnxTest, FunctionsAreInlinedWithTheirAttributes) {
  const auto graph = ParseOnnx(FunctionModel().SerializeAsString());
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const auto y = EvaluateGraph(*graph, {Tensor::From<float>({2}, {3, -50})});
  ASSERT_TRUE(y.ok()) << y.status().message();
  EXPECT_EQ((*y)[0].as<float>()[0], 6);
  EXPECT_FLOAT_EQ((*y)[0].as<float>()[1], -0.5f);
}

TEST(OnnxTest, FunctionsThatCallThemselvesAreRefused) {
  auto model = FunctionModel();
  model.mutable_functions(0)->mutable_node(0)->set_op_type("scaled");
  model.mutable_functions(0)->mutable_node(0)->set_domain("mine");
  EXPECT_NE(ParseOnnx(model.SerializeAsString()).status().message().find("nested deeper"),
            std::string::npos);
}

TEST(OnnxTest, NodesInFunctionsAndSubgraphsCount) {
  OnnxLimits limits;
  limits.max_nodes = 2;
  EXPECT_EQ(ParseOnnx(FunctionModel().SerializeAsString(), {}, limits).status().code(),
            StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace minim
