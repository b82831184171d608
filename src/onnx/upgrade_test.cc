// Old forms and the new ones they are lifted to give the same answers. A row is two calls, each in
// the opset beside it, on the same numbers.
#include <gtest/gtest.h>

#include "graph/text_reader.h"
#include "minim_onnx.pb.h"
#include "onnx/onnx.h"
#include "ops/reference.h"

namespace minim {
namespace {

constexpr int kNewOpset = 23;

struct Row {
  int opset;
  std::string_view before;
  std::string_view after;
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.opset << ": " << row.before; }

// A model of the one node that `line` calls: "y, z = Op(a: f32[2], b: i64[1] = [3], _) {x=1}". An
// argument with a value is a constant.
class OneNode {
 public:
  OneNode(std::string_view line, int opset) : in_(line) {
    model_.set_ir_version(8);
    model_.add_opset_import()->set_version(opset);
    status_ = Read();
  }

  Result<std::vector<Tensor>> Run() {
    MINIM_TRY(status_);
    MINIM_TRY(const Graph graph, ParseOnnx(model_.SerializeAsString()));
    return EvaluateGraph(graph, inputs_);
  }

 private:
  Status Read() {
    minim_onnx::NodeProto& node = *model_.mutable_graph()->add_node();
    MINIM_TRY(std::string name, in_.Name());
    std::vector<std::string> outputs = {"y"};
    while (in_.Accept(",")) {
      outputs.push_back(name + std::to_string(outputs.size()));
      MINIM_TRY(name, in_.Name());
    }
    if (in_.Accept("=")) {
      MINIM_TRY(name, in_.Name());
    }
    node.set_op_type(name);
    for (const std::string& output : outputs) {
      node.add_output(output);
      model_.mutable_graph()->add_output()->set_name(output);
    }
    MINIM_TRY(in_.Expect("("));
    while (!in_.Accept(")")) {
      if (node.input_size() > 0) MINIM_TRY(in_.Expect(","));
      MINIM_TRY(ReadArgument(node));
    }
    MINIM_TRY(const Attributes attributes, in_.ParseAttributes(nullptr));
    for (const auto& [key, value] : attributes.items()) Write(key, value, *node.add_attribute());
    return {};
  }

  Status ReadArgument(minim_onnx::NodeProto& node) {
    MINIM_TRY(const std::string name, in_.Name());
    node.add_input(name == "_" ? "" : name);
    if (name == "_") return {};
    MINIM_TRY(in_.Expect(":"));
    MINIM_TRY(const TensorType type, in_.Type());
    if (in_.Accept("=")) {
      MINIM_TRY(const std::vector<std::string> texts, in_.NumberList());
      MINIM_TRY(const Tensor value, TensorFromTexts(type, texts));
      auto& initializer = *model_.mutable_graph()->add_initializer();
      initializer.set_name(name);
      initializer.set_data_type(OnnxId(type.dtype));
      for (int64_t dim : value.dims()) initializer.add_dims(dim);
      initializer.set_raw_data(static_cast<const char*>(value.data()), value.bytes());
      return {};
    }
    Declare(name, type);
    inputs_.push_back(Numbers(type));
    return {};
  }

  void Declare(const std::string& name, const TensorType& type) {
    auto& input = *model_.mutable_graph()->add_input();
    input.set_name(name);
    auto& tensor = *input.mutable_type()->mutable_tensor_type();
    tensor.set_elem_type(OnnxId(type.dtype));
    tensor.mutable_shape();
    for (int64_t dim : type.dims()) tensor.mutable_shape()->add_dim()->set_dim_value(dim);
  }

  // Quarters from -1.5 to 1.5 that go on from one argument to the next.
  Tensor Numbers(const TensorType& type) {
    Tensor wide(DType::f64, type.dims());
    for (double& value : wide.as<double>()) value = static_cast<double>(drawn_++ * 5 % 13 - 6) / 4;
    return Converted(wide.view(), type.dtype);
  }

  static void Write(const std::string& name, const Attribute& value,
                    minim_onnx::AttributeProto& proto) {
    proto.set_name(name);
    if (const auto* i = std::get_if<int64_t>(&value)) proto.set_type(2), proto.set_i(*i);
    if (const auto* f = std::get_if<float>(&value)) proto.set_type(1), proto.set_f(*f);
    if (const auto* s = std::get_if<std::string>(&value)) proto.set_type(3), proto.set_s(*s);
    const auto* list = std::get_if<std::vector<int64_t>>(&value);
    if (list) proto.set_type(7);
    for (size_t i = 0; list && i < list->size(); ++i) proto.add_ints((*list)[i]);
  }

  TextReader in_;
  minim_onnx::ModelProto model_;
  std::vector<Tensor> inputs_;
  int64_t drawn_ = 0;
  Status status_;
};

class UpgradeTest : public testing::TestWithParam<Row> {};

TEST_P(UpgradeTest, GivesTheAnswersOfTheNewForm) {
  const auto before = OneNode(GetParam().before, GetParam().opset).Run();
  ASSERT_TRUE(before.ok()) << before.status().message();
  const auto after = OneNode(GetParam().after, kNewOpset).Run();
  ASSERT_TRUE(after.ok()) << after.status().message();
  ASSERT_EQ(before->size(), after->size());
  for (size_t k = 0; k < after->size(); ++k) {
    ASSERT_EQ((*before)[k].dtype(), (*after)[k].dtype()) << k;
    ASSERT_EQ((*before)[k].dims(), (*after)[k].dims()) << k;
    const Tensor a = Converted((*before)[k].view(), DType::f64);
    const Tensor b = Converted((*after)[k].view(), DType::f64);
    for (int64_t i = 0; i < b.size(); ++i)
      EXPECT_EQ(a.as<double>()[i], b.as<double>()[i]) << "output " << k << ", element " << i;
  }
}

constexpr Row kBroadcasts[] = {
    {1, "Add(a: f32[2,3,4], b: f32[2,3,4]) {consumed_inputs=[0,0]}",
     "Add(a: f32[2,3,4], b: f32[2,3,4])"},
    {6, "Add(a: f32[2,3,4], b: f32[3]) {broadcast=1, axis=1}", "Add(a: f32[2,3,4], b: f32[3,1])"},
    {6, "Sub(a: f32[2,3,4], b: f32[2,3]) {broadcast=1, axis=0}",
     "Sub(a: f32[2,3,4], b: f32[2,3,1])"},
    {6, "Mul(a: f32[2,3,4], b: f32[4]) {broadcast=1}", "Mul(a: f32[2,3,4], b: f32[4])"},
    {6, "Div(a: f32[2,3,4], b: f32[2] = [3,5]) {broadcast=1, axis=-3}",
     "Div(a: f32[2,3,4], b: f32[2,1,1] = [3,5])"},
    {1, "Pow(a: f32[3,2], b: f32[3] = [2,3,1]) {broadcast=1, axis=0}",
     "Pow(a: f32[3,2], b: f32[3,1] = [2,3,1])"},
    {1, "And(a: bool[3,2], b: bool[3]) {broadcast=1, axis=0}", "And(a: bool[3,2], b: bool[3,1])"},
    {6, "Or(a: bool[3,2], b: bool[3]) {broadcast=1, axis=0}", "Or(a: bool[3,2], b: bool[3,1])"},
    {1, "Xor(a: bool[3,2], b: bool) {broadcast=1}", "Xor(a: bool[3,2], b: bool)"},
    {1, "Equal(a: i32[3,2], b: i32[3]) {broadcast=1, axis=0}", "Equal(a: i32[3,2], b: i32[3,1])"},
    {6, "Greater(a: f32[3,2], b: f32[3]) {broadcast=1, axis=0}",
     "Greater(a: f32[3,2], b: f32[3,1])"},
    {1, "Less(a: f32[3,2], b: f32[3]) {broadcast=1, axis=0}", "Less(a: f32[3,2], b: f32[3,1])"},
    {6, "PRelu(x: f32[2,3,4], s: f32[3])", "PRelu(x: f32[2,3,4], s: f32[3,1])"},
    {1, "PRelu(x: f32[2,3], s: f32[1])", "PRelu(x: f32[2,3], s: f32[1])"},
    {7, "PRelu(x: f32[2,3,4], s: f32[4])", "PRelu(x: f32[2,3,4], s: f32[4])"},
    {6, "Gemm(a: f32[2,3], b: f32[3,4], c: f32[4]) {broadcast=1, alpha=0.5}",
     "Gemm(a: f32[2,3], b: f32[3,4], c: f32[4]) {alpha=0.5}"},
    {1, "Sum(a: f32[3], b: f32[3]) {consumed_inputs=[0,0]}", "Sum(a: f32[3], b: f32[3])"},
    {6, "Max(a: f32[3], b: f32[3])", "Max(a: f32[3], b: f32[3])"},
};

constexpr Row kAttributes[] = {
    {1, "Reshape(x: f32[2,6]) {shape=[3,-1]}", "Reshape(x: f32[2,6], s: i64[2] = [3,-1])"},
    {1, "Concat(a: f32[2,3], b: f32[2,1])", "Concat(a: f32[2,3], b: f32[2,1]) {axis=1}"},
    {1, "Tile(x: f32[2,3], n: i64 = [2], a: i64 = [1])", "Tile(x: f32[2,3], r: i64[2] = [1,2])"},
    {1, "a, b = Split(x: f32[5,2]) {split=[2,3], axis=0}",
     "a, b = Split(x: f32[5,2], s: i64[2] = [2,3]) {axis=0}"},
    {2, "a, b = Split(x: f32[4]) {axis=0}", "a, b = Split(x: f32[4], s: i64[2] = [2,2])"},
    {11, "a, b = Split(x: f32[5]) {split=[4,1]}", "a, b = Split(x: f32[5], s: i64[2] = [4,1])"},
    {1, "Pad(x: f32[2,3]) {paddings=[1,0,0,2], value=1.5}",
     "Pad(x: f32[2,3], p: i64[4] = [1,0,0,2], v: f32 = [1.5])"},
    {2, "Pad(x: f32[2,3]) {pads=[0,1,0,1], mode=\"reflect\"}",
     "Pad(x: f32[2,3], p: i64[4] = [0,1,0,1]) {mode=\"reflect\"}"},
    {10, "Pad(x: f16[2,3]) {pads=[0,1,0,1], value=0.5}",
     "Pad(x: f16[2,3], p: i64[4] = [0,1,0,1], v: f16 = [0.5])"},
    {1, "Slice(x: f32[4,3]) {starts=[1,0], ends=[3,-1], axes=[0,1]}",
     "Slice(x: f32[4,3], s: i64[2] = [1,0], e: i64[2] = [3,-1], a: i64[2] = [0,1])"},
    {9, "Slice(x: f32[4,3]) {starts=[1], ends=[9]}",
     "Slice(x: f32[4,3], s: i64[1] = [1], e: i64[1] = [9])"},
    {1, "Squeeze(x: f32[1,3,1]) {axes=[2]}", "Squeeze(x: f32[1,3,1], a: i64[1] = [2])"},
    {11, "Squeeze(x: f32[1,3,1]) {axes=[-1]}", "Squeeze(x: f32[1,3,1], a: i64[1] = [-1])"},
    {1, "Unsqueeze(x: f32[3]) {axes=[0,2]}", "Unsqueeze(x: f32[3], a: i64[2] = [0,2])"},
    {11, "Unsqueeze(x: f32[3]) {axes=[-1]}", "Unsqueeze(x: f32[3], a: i64[1] = [-1])"},
    {1, "Cast(x: f32[3]) {to=\"INT32\"}", "Cast(x: f32[3]) {to=i32}"},
    {6, "Cast(x: f32[3]) {to=i32}", "Cast(x: f32[3]) {to=i32}"},
    {1, "Clip(x: f32[9]) {min=-0.5, max=0.75}",
     "Clip(x: f32[9], l: f32 = [-0.5], h: f32 = [0.75])"},
    {6, "Clip(x: f16[9]) {max=0.75}", "Clip(x: f16[9], _, h: f16 = [0.75])"},
    {1, "v, i = TopK(x: f32[2,5]) {k=2}", "v, i = TopK(x: f32[2,5], k: i64[1] = [2])"},
    {10, "v, i = TopK(x: f32[5,2], k: i64[1] = [2]) {axis=0}",
     "v, i = TopK(x: f32[5,2], k: i64[1] = [2]) {axis=0}"},
    {1, "ReduceSum(x: f32[2,3]) {axes=[1], keepdims=0}",
     "ReduceSum(x: f32[2,3], a: i64[1] = [1]) {keepdims=0}"},
    {11, "ReduceSum(x: f32[2,3]) {axes=[-1]}", "ReduceSum(x: f32[2,3], a: i64[1] = [-1])"},
    {13, "ReduceMean(x: f32[2,3]) {axes=[0]}", "ReduceMean(x: f32[2,3], a: i64[1] = [0])"},
    {17, "ReduceMax(x: f32[2,3]) {axes=[0]}", "ReduceMax(x: f32[2,3], a: i64[1] = [0])"},
    {13, "ReduceL2(x: f32[2,3])", "ReduceL2(x: f32[2,3])"},
};

constexpr Row kLayers[] = {
    {1, "Selu(x: f32[5])", "Selu(x: f32[5]) {alpha=1.6732, gamma=1.0507}"},
    {6, "Selu(x: f32[5])", "Selu(x: f32[5])"},
    {1, "Relu(x: f32[5]) {consumed_inputs=[0]}", "Relu(x: f32[5])"},
    {1, "LeakyRelu(x: f32[5]) {alpha=0.25}", "LeakyRelu(x: f32[5]) {alpha=0.25}"},
    {1, "Softmax(x: f32[2,3,1])", "Softmax(x: f32[2,3,1]) {axis=1}"},
    {11, "LogSoftmax(x: f32[2,3]) {axis=-1}", "LogSoftmax(x: f32[2,3])"},
    {1, "Hardmax(x: f32[2,3])", "Hardmax(x: f32[2,3])"},
    {1, "Dropout(x: f32[4]) {is_test=1, ratio=0.25}", "Dropout(x: f32[4], r: f32 = [0.25])"},
    {7, "Dropout(x: f32[4]) {ratio=0.25}", "Dropout(x: f32[4], r: f32 = [0.25])"},
    {10, "y, m = Dropout(x: f32[4])", "y, m = Dropout(x: f32[4])"},
    {1,
     "BatchNormalization(x: f32[2,3,2], s: f32[3], b: f32[3], m: f32[3], v: f32[3] = [1,2,3]) "
     "{consumed_inputs=[0,0,0,1,1], is_test=1, spatial=1}",
     "BatchNormalization(x: f32[2,3,2], s: f32[3], b: f32[3], m: f32[3], v: f32[3] = [1,2,3])"},
    {9, "BatchNormalization(x: f32[2,3], s: f32[3], b: f32[3], m: f32[3], v: f32[3] = [1,2,3])",
     "BatchNormalization(x: f32[2,3], s: f32[3], b: f32[3], m: f32[3], v: f32[3] = [1,2,3])"},
    {1, "InstanceNormalization(x: f32[2,3,2], s: f32[3], b: f32[3]) {consumed_inputs=[0,0,0]}",
     "InstanceNormalization(x: f32[2,3,2], s: f32[3], b: f32[3])"},
    {1, "AveragePool(x: f32[1,2,5]) {kernel_shape=[3], pads=[1,1]}",
     "AveragePool(x: f32[1,2,5]) {kernel_shape=[3], pads=[1,1]}"},
    {1, "LpPool(x: f32[1,2,5]) {kernel_shape=[3], p=3.0}",
     "LpPool(x: f32[1,2,5]) {kernel_shape=[3], p=3}"},
    {1, "GlobalLpPool(x: f32[1,2,5]) {p=1.0}", "GlobalLpPool(x: f32[1,2,5]) {p=1}"},
    {1,
     "y, h = RNN(x: f32[2,1,3], w: f32[1,2,3], r: f32[1,2,2]) {hidden_size=2, output_sequence=1}",
     "y, h = RNN(x: f32[2,1,3], w: f32[1,2,3], r: f32[1,2,2]) {hidden_size=2}"},
    {3, "y, h = GRU(x: f32[2,1,3], w: f32[1,6,3], r: f32[1,6,2]) {hidden_size=2}",
     "y, h = GRU(x: f32[2,1,3], w: f32[1,6,3], r: f32[1,6,2]) {hidden_size=2}"},
    {1, "y, h = LSTM(x: f32[2,1,3], w: f32[1,8,3], r: f32[1,8,2]) {hidden_size=2}",
     "y, h = LSTM(x: f32[2,1,3], w: f32[1,8,3], r: f32[1,8,2]) {hidden_size=2}"},
};

INSTANTIATE_TEST_SUITE_P(Broadcasts, UpgradeTest, testing::ValuesIn(kBroadcasts));
INSTANTIATE_TEST_SUITE_P(Attributes, UpgradeTest, testing::ValuesIn(kAttributes));
INSTANTIATE_TEST_SUITE_P(Layers, UpgradeTest, testing::ValuesIn(kLayers));

TEST(UpgradeErrorTest, SaysWhatAnOldFormLacks) {
  const auto message = [](int opset, std::string_view line) {
    return std::string(OneNode(line, opset).Run().status().message());
  };
  EXPECT_NE(message(6, "Add(a: f32[2,3], b: f32[3]) {broadcast=1, axis=2}").find("axis 2"),
            std::string::npos);
  EXPECT_NE(message(1, "Cast(x: f32[3]) {to=\"STRING\"}").find("'STRING'"), std::string::npos);
  EXPECT_NE(message(1, "Tile(x: f32[3], n: i64, a: i64)").find("constant"), std::string::npos);
  EXPECT_NE(message(1, "LpPool(x: f32[1,2,5]) {kernel_shape=[3], p=2.5}").find("2.5"),
            std::string::npos);
  EXPECT_NE(message(7,
                    "BatchNormalization(x: f32[2,3], s: f32[3], b: f32[3], m: f32[3], "
                    "v: f32[3]) {spatial=0}")
                .find("spatial"),
            std::string::npos);
}

}  // namespace
}  // namespace minim
