#include "onnx/onnx.h"

#include <gtest/gtest.h>

#include <fstream>

#include "graph/text.h"
#include "minim_onnx.pb.h"
#include "ops/infer.h"

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
                     const std::string& length = "12") {
    auto model = ReluModel();
    auto& w = *model.mutable_graph()->add_initializer();
    w.set_name("w");
    w.set_data_type(1);
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

}  // namespace
}  // namespace minim
