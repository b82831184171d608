// `minim shrink` as a process: one model, a repository of good and bad ones.
#include <gtest/gtest.h>

#include <algorithm>

#include "apps/testing/child.h"
#include "compress/testing/input_models.h"
#include "core/file.h"
#include "core/philox.h"
#include "data/npy.h"
#include "minim/session.h"
#include "onnx/onnx.h"
#include "train/model_builder.h"

namespace minim {
namespace {

class ShrinkVerbTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) /
            ("verb_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }

  // A model with data beside it, of its own answers as labels.
  void AddModel(const std::string& name, uint64_t seed) {
    std::filesystem::create_directories(root_ / name / "1");
    std::filesystem::create_directories(root_ / name / "data");
    ModelSpec spec;
    spec.input = {16};
    spec.layers = {
        {.kind = "linear", .units = 64}, {.kind = "relu"}, {.kind = "linear", .units = 3}};
    const Graph graph = BuildModel(spec, seed).value();
    ASSERT_TRUE(WriteFileAtomic(root_ / name / "1/model.onnx", SerializeOnnx(graph).value()).ok());
    Tensor x(DType::f32, {800, 16}), y(DType::i64, {800});
    const Philox rng(seed);
    for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = rng.Normal(static_cast<uint64_t>(i));
    const auto session = Session::Load((root_ / name / "1/model.onnx").string()).value();
    const ConstView views[] = {x.view()};
    const Tensor scores = session->Run(views).value()[0];
    for (int64_t i = 0; i < 800; ++i) {
      const float* row = scores.as<float>().data() + i * 3;
      y.as<int64_t>()[i] = std::max_element(row, row + 3) - row;
    }
    ASSERT_TRUE(WriteNpy(root_ / name / "data/samples.npy", x.view()).ok());
    ASSERT_TRUE(WriteNpy(root_ / name / "data/labels.npy", y.view()).ok());
  }

  static std::string LineWith(const std::string& text, const std::string& part) {
    const size_t at = text.find("\n" + part);
    return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  }

  Path root_;
};

TEST_F(ShrinkVerbTest, OneModelBecomesAFolderWithAPage) {
  AddModel("m", 1);
  const std::string data = root_ / "m/data/samples.npy", labels = root_ / "m/data/labels.npy";
  Child shrink({"shrink", root_ / "m/1/model.onnx", "--data", data, "--labels", labels,
                "--max-loss", "0.2", "--goal", "bytes", "--out", root_ / "out"});
  const std::string said = shrink.Rest();
  EXPECT_EQ(shrink.ExitCode(), 0) << said;
  EXPECT_NE(said.find("served by default"), std::string::npos) << said;
  for (const char* file : {"model.onnx", "report.json", "report.html", "variants/int8.onnx"})
    EXPECT_TRUE(std::filesystem::exists(root_ / "out/1" / file)) << file;
}

TEST_F(ShrinkVerbTest, ARepositoryIsDoneDespiteItsBadModels) {
  for (uint64_t i = 1; i <= 3; ++i) AddModel("good" + std::to_string(i), i);
  for (const char* name : {"corrupt", "dataless", "mislabelled", "unwritable"}) AddModel(name, 9);
  ASSERT_TRUE(WriteFileAtomic(root_ / "corrupt/1/model.onnx", "no model").ok());
  std::filesystem::remove_all(root_ / "dataless/data");
  ASSERT_TRUE(
      WriteNpy(root_ / "mislabelled/data/labels.npy", Tensor(DType::i64, {799}).view()).ok());
  ASSERT_TRUE(WriteFileAtomic(root_ / "unwritable/1/variants", "a file in the way").ok());
  const std::string original = ReadFile(root_ / "good1/1/model.onnx").value();

  Child shrink({"shrink", "--repository", root_, "--max-loss", "0.2", "--goal", "bytes"});
  const std::string said = shrink.Rest();
  EXPECT_EQ(shrink.ExitCode(), 1) << said;
  for (const char* name : {"good1", "good2", "good3"}) {
    EXPECT_TRUE(std::filesystem::exists(root_ / name / "1/variants/int8.onnx")) << said;
    EXPECT_TRUE(std::filesystem::exists(root_ / name / "1/report.json")) << said;
  }
  EXPECT_EQ(ReadFile(root_ / "good1/1/model.onnx").value(), original);
  EXPECT_NE(LineWith(said, "corrupt").find("model.onnx"), std::string::npos) << said;
  EXPECT_NE(LineWith(said, "dataless").find("no data"), std::string::npos) << said;
  EXPECT_NE(LineWith(said, "mislabelled").find("first dims must be equal"), std::string::npos)
      << said;
  EXPECT_NE(LineWith(said, "unwritable").find("variants"), std::string::npos) << said;
  for (const char* name : {"corrupt", "dataless", "mislabelled", "unwritable"})
    EXPECT_FALSE(std::filesystem::exists(root_ / name / "1/report.json")) << name;

  Child again({"shrink", "--repository", root_, "--max-loss", "0.2", "--goal", "bytes"});
  const std::string repeated = again.Rest();
  EXPECT_NE(LineWith(repeated, "good2").find("as before"), std::string::npos) << repeated;
}

// The arrays of the model's inputs, and the labels that it gives them itself.
struct Inputs {
  Tensor ids{DType::i64, {600, 6}}, mask{DType::i64, {600, 6}}, labels{DType::i64, {600}};
};

Inputs TokenInputs(const Graph& graph) {
  Inputs inputs;
  const Philox rng(5);
  for (int64_t i = 0; i < inputs.ids.size(); ++i) {
    inputs.ids.as<int64_t>()[i] = rng.Below(static_cast<uint64_t>(i), 50);
    inputs.mask.as<int64_t>()[i] = i % 6 < 2 + i / 6 % 5;
  }
  const Tensor logits = RunAll(graph, {inputs.ids, inputs.mask})[0];
  for (int64_t i = 0; i < 600; ++i) {
    const float* row = logits.as<float>().data() + i * 3;
    inputs.labels.as<int64_t>()[i] = std::max_element(row, row + 3) - row;
  }
  return inputs;
}

class SeveralInputsTest : public ShrinkVerbTest {
 protected:
  void SetUp() override {
    ShrinkVerbTest::SetUp();
    const Graph graph = TokenNet();
    model_ = root_ / "tokens.onnx";
    ASSERT_TRUE(WriteFileAtomic(model_, SerializeOnnx(graph).value()).ok());
    const Inputs inputs = TokenInputs(graph);
    ASSERT_TRUE(WriteNpy(root_ / "ids.npy", inputs.ids.view()).ok());
    ASSERT_TRUE(WriteNpy(root_ / "mask.npy", inputs.mask.view()).ok());
    ASSERT_TRUE(WriteNpy(root_ / "y.npy", inputs.labels.view()).ok());
    ids_ = "input_ids=" + (root_ / "ids.npy").string();
    mask_ = "attention_mask=" + (root_ / "mask.npy").string();
  }

  std::vector<std::string> Arguments(const std::vector<std::string>& more) {
    std::vector<std::string> all = {"shrink",     model_,  "--labels",      root_ / "y.npy",
                                    "--goal",     "bytes", "--out",         root_ / "out",
                                    "--max-loss", "0.2",   "--time-budget", "20"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  std::string ErrorOf(const std::vector<std::string>& more) {
    Child shrink(Arguments(more));
    const std::string said = shrink.Rest();
    EXPECT_EQ(shrink.ExitCode(), 2) << said;
    EXPECT_FALSE(std::filesystem::exists(root_ / "out")) << said;
    return said;
  }

  std::string model_, ids_, mask_;
};

TEST_F(SeveralInputsTest, EachHasItsFile) {
  Child shrink(
      Arguments({"--data", ids_, "--data", mask_, "--calibration", mask_, "--calibration", ids_}));
  const std::string said = shrink.Rest();
  ASSERT_EQ(shrink.ExitCode(), 0) << said;
  const std::string report = ReadFile(root_ / "out/1/report.json").value();
  EXPECT_NE(report.find("\"samples\": 600"), std::string::npos);
  EXPECT_NE(report.find("\"calibration_samples\": 500"), std::string::npos);
  EXPECT_NE(report.find("arena_bytes_batch_32"), std::string::npos);
  for (const char* name : {"int8", "int8-dynamic", "bf16"}) {
    const auto session = Session::Load(root_ / "out/1/variants" / (std::string(name) + ".onnx"));
    ASSERT_TRUE(session.ok()) << name << "\n" << said;
    EXPECT_EQ((*session)->inputs()[1].name, "attention_mask");
    EXPECT_EQ((*session)->inputs()[1].dtype, DType::i64);
  }
}

TEST_F(SeveralInputsTest, WhatDoesNotFitIsNamed) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(ErrorOf({"--data", ids_}), "input 'attention_mask' was not given; add attention_mask=FILE");
  has(ErrorOf({"--data", (root_ / "ids.npy").string(), "--data", mask_}),
      "of which input? The model has input_ids, attention_mask");
  has(ErrorOf({"--data", ids_, "--data", mask_, "--data", ids_}), "'input_ids' was given twice");
  ASSERT_TRUE(WriteNpy(root_ / "few.npy", Tensor(DType::i64, {599, 6}).view()).ok());
  const std::string few = "attention_mask=" + (root_ / "few.npy").string();
  has(ErrorOf({"--data", ids_, "--data", few}), "found 599 samples, expected 600");
  ASSERT_TRUE(WriteNpy(root_ / "wide.npy", Tensor(DType::i64, {600, 7}).view()).ok());
  const std::string wide = "attention_mask=" + (root_ / "wide.npy").string();
  has(ErrorOf({"--data", ids_, "--data", wide}), "input 'attention_mask'");
  Tensor half(DType::f32, {600, 6});
  half.as<float>()[8] = 0.5f;
  ASSERT_TRUE(WriteNpy(root_ / "half.npy", half.view()).ok());
  const std::string fraction = "input_ids=" + (root_ / "half.npy").string();
  has(ErrorOf({"--data", fraction, "--data", mask_}),
      "element 8 is 0.5, which the input's dtype i64 cannot hold");
}

TEST_F(SeveralInputsTest, ARepositorySaysWhichFileIsWhich) {
  std::filesystem::create_directories(root_ / "models/tokens/1");
  std::filesystem::rename(model_, root_ / "models/tokens/1/model.onnx");
  ASSERT_TRUE(WriteFileAtomic(root_ / "models/tokens/minim.toml",
                              "[shrink]\ndata = { input_ids = \"../../ids.npy\", "
                              "attention_mask = \"../../mask.npy\" }\n"
                              "labels = \"../../y.npy\"\nmax_loss = 0.2\ngoal = \"bytes\"\n")
                  .ok());
  Child shrink({"shrink", "--repository", root_ / "models"});
  const std::string said = shrink.Rest();
  EXPECT_EQ(shrink.ExitCode(), 0) << said;
  EXPECT_TRUE(std::filesystem::exists(root_ / "models/tokens/1/variants/int8.onnx")) << said;
}

TEST_F(SeveralInputsTest, StatesComeBack) {
  const Graph graph = StepNet(64);
  ASSERT_TRUE(WriteFileAtomic(model_, SerializeOnnx(graph).value()).ok());
  ASSERT_TRUE(WriteNpy(root_ / "x.npy", NormalTensor({400, 6}, 7, 1).view()).ok());
  const std::vector<std::string> arguments = {
      "shrink",     model_,  "--data",  root_ / "x.npy", "--state",           "h0=hn",
      "--goal",     "bytes", "--out",   root_ / "out",   "--output",          "logits",
      "--max-loss", "0.2",   "--state", "c0=cn",         "--sequence-length", "20"};
  Child shrink(arguments);
  const std::string said = shrink.Rest();
  ASSERT_EQ(shrink.ExitCode(), 0) << said;
  const std::string report = ReadFile(root_ / "out/1/report.json").value();
  EXPECT_NE(report.find("\"samples\": 320"), std::string::npos);
  EXPECT_NE(report.find("\"calibration_samples\": 80"), std::string::npos);
  const auto session = Session::Load(root_ / "out/1/variants/int8-dynamic.onnx");
  ASSERT_TRUE(session.ok()) << said;
  EXPECT_EQ((*session)->outputs()[0].name, "hn");
  EXPECT_EQ((*session)->inputs()[2].name, "c0");

  Child wrong({"shrink", model_, "--data", root_ / "x.npy", "--out", root_ / "no", "--state",
               "h0=h", "--state", "c0=cn"});
  const std::string error = wrong.Rest();
  EXPECT_NE(error.find("'h' is no output of the model; it has hn, logits, cn"), std::string::npos)
      << error;
  EXPECT_EQ(wrong.ExitCode(), 2);
}

TEST_F(ShrinkVerbTest, WrongArgumentsAreOneLine) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"shrink"},
        {"shrink", "m.onnx"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--goal", "speed"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--recipe", "fold"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--calibrator", "best"},
        {"shrink", "m.onnx", "--data", "x.npy", "--out", "o", "--state", "h0"},
        {"shrink", "no-such.onnx", "--data", "x.npy", "--out", "o"}}) {
    Child shrink(arguments);
    const std::string said = shrink.Rest();
    EXPECT_EQ(shrink.ExitCode(), 2) << said;
    const size_t at = said.find("minim: ");  // behind a line of progress, maybe
    ASSERT_NE(at, std::string::npos) << said;
    EXPECT_EQ(std::count(said.begin() + static_cast<ptrdiff_t>(at), said.end(), '\n'), 1) << said;
  }
}

}  // namespace
}  // namespace minim
