// The whole of shrink on small models and files.
#include "compress/shrink.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "compress/testing/input_models.h"
#include "core/philox.h"
#include "data/npy.h"
#include "minim/session.h"
#include "onnx/onnx.h"
#include "ops/builder.h"
#include "train/model_builder.h"

namespace minim {
namespace {

class ShrinkTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        Path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    options_.model = folder_ / "given.onnx";
    options_.data = {folder_ / "x.npy"};
    options_.labels = folder_ / "y.npy";
    options_.out = folder_ / "model";
    WriteModel();
    WriteData(600);
  }

  void WriteModel() {
    ModelSpec spec;
    spec.input = {1, 8, 8};
    spec.layers = {{.kind = "conv", .units = 8, .kernel = 3, .padding = 1},
                   {.kind = "relu"},
                   {.kind = "max_pool", .kernel = 2},
                   {.kind = "flatten"},
                   {.kind = "linear", .units = 32},
                   {.kind = "relu"},
                   {.kind = "linear", .units = 5}};
    graph_ = BuildModel(spec, 1).value();
    ASSERT_TRUE(WriteFileAtomic(options_.model, SerializeOnnx(graph_).value()).ok());
  }

  // Labels are the model's own answers, so that it is right on all of them.
  void WriteData(int64_t count) {
    Tensor x(DType::f32, {count, 1, 8, 8});
    const Philox rng(2);
    for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = rng.Normal(static_cast<uint64_t>(i));
    const auto session = Session::Load(options_.model).value();
    const ConstView views[] = {x.view()};
    const Tensor scores = session->Run(views).value()[0];
    Tensor y(DType::i64, {count});
    for (int64_t i = 0; i < count; ++i) {
      const float* row = scores.as<float>().data() + i * 5;
      y.as<int64_t>()[i] = std::max_element(row, row + 5) - row;
    }
    ASSERT_TRUE(WriteNpy(options_.data[0], x.view()).ok());
    ASSERT_TRUE(WriteNpy(options_.labels, y.view()).ok());
  }

  std::string ErrorOf(const ShrinkOptions& options) {
    const auto report = Shrink(options);
    return report.ok() ? "" : report.status().message();
  }

  static const VariantReport* Find(const ShrinkReport& report, const std::string& name) {
    for (const VariantReport& v : report.variants)
      if (v.name == name) return &v;
    return nullptr;
  }

  Path folder_;
  ShrinkOptions options_;
  Graph graph_;
};

TEST_F(ShrinkTest, MakesJudgesTimesAndWritesVariants) {
  options_.max_loss = 0.1;
  options_.goal = ShrinkGoal::kBytes;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->metric, "accuracy");
  EXPECT_EQ(report->samples, 480);
  EXPECT_EQ(report->calibration_samples, 120);
  const Path version = folder_ / "model" / "1";
  for (const char* name : {"fp32", "bf16", "fp16", "int8", "int8-dynamic"}) {
    const VariantReport* v = Find(*report, name);
    ASSERT_NE(v, nullptr) << name;
    EXPECT_GT(v->latency.at(1).p50, 0) << name;
    EXPECT_GE(v->latency.at(32).p99, v->latency.at(32).p50) << name;
    EXPECT_EQ(v->kept, std::filesystem::exists(version / v->file)) << name;
    if (!v->kept) continue;
    EXPECT_EQ(std::filesystem::file_size(version / v->file), v->bytes) << name;
  }
  EXPECT_TRUE(Find(*report, "int8")->kept);
  EXPECT_NE(report->preferred, "fp32");
  EXPECT_EQ(report->sensitivity.size(), 3u);
  const auto json = nlohmann::json::parse(ReadFile(version / "report.json").value());
  EXPECT_EQ(json["preferred_tier"], report->preferred);
  EXPECT_EQ(json["variants"].size(), report->variants.size());
  ASSERT_FALSE(json["calibration"].empty());
  for (const auto& value : json["calibration"]) {
    int64_t before = 0, after = 0;
    for (int64_t count : value["histogram"]) before += count;
    for (int64_t count : value["quantized_histogram"]) after += count;
    EXPECT_EQ(before, after);
    EXPECT_LE(value["low"], 0);
    EXPECT_LE(value["high"], value["max"]);
  }
  EXPECT_FALSE(std::filesystem::exists(version / ".shrink"));
}

TEST_F(ShrinkTest, WithoutLabelsAgreementDecides) {
  options_.labels.clear();
  options_.max_loss = 0.1;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->metric, "agreement");
  EXPECT_EQ(Find(*report, "fp32")->gate.variant, 1);
  EXPECT_NEAR(Find(*report, "int8")->gate.variant, Find(*report, "int8")->likeness.agreement, 1e-9);
}

TEST_F(ShrinkTest, ABudgetOfNothingIsNotPassedByInt8) {
  options_.max_loss = 0;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->preferred, "fp32");
  EXPECT_FALSE(Find(*report, "int8")->kept);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "model/1/variants/int8.onnx"));
  EXPECT_NE(Find(*report, "int8-mixed"), nullptr);  // it tried
}

TEST_F(ShrinkTest, AnInterruptedRunContinues) {
  const auto stopped =
      Shrink(options_, [](double, const std::string& doing) { return doing != "timing"; });
  EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled);
  const Path version = folder_ / "model/1";
  EXPECT_FALSE(std::filesystem::exists(version / "report.json"));
  const Path saved = version / ".shrink/sensitivity";
  EXPECT_EQ(nlohmann::json::parse(ReadFile(saved).value()).size(), 3u);
  const std::string mark = R"([{"op": "mark", "kind": "Conv", "error": 1, "saved_us": 2}])";
  ASSERT_TRUE(WriteFileAtomic(saved, mark).ok());
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->sensitivity[0].op, "mark");  // was not measured again
  EXPECT_FALSE(std::filesystem::exists(version / ".shrink"));
}

TEST_F(ShrinkTest, WhatAnEarlierReportKeptGoesWhereThisOneDoesNot) {
  options_.max_loss = 0.2;
  options_.goal = ShrinkGoal::kBytes;
  ASSERT_TRUE(Shrink(options_).ok());
  const Path variants = folder_ / "model/1/variants";
  ASSERT_TRUE(std::filesystem::exists(variants / "int8.onnx"));
  ASSERT_TRUE(WriteFileAtomic(variants / "mine.onnx", "of the user").ok());
  options_.max_loss = -1;  // nothing passes
  ASSERT_TRUE(Shrink(options_).ok());
  EXPECT_FALSE(std::filesystem::exists(variants / "int8.onnx"));
  EXPECT_TRUE(std::filesystem::exists(variants / "mine.onnx"));
}

TEST_F(ShrinkTest, OtherOptionsStartAnew) {
  const auto stop = [](double, const std::string& doing) { return doing != "timing"; };
  EXPECT_FALSE(Shrink(options_, stop).ok());
  ASSERT_TRUE(WriteFileAtomic(folder_ / "model/1/.shrink/sensitivity", "[]").ok());
  options_.max_loss = 0.3;
  EXPECT_EQ(Shrink(options_)->sensitivity.size(), 3u);
}

TEST_F(ShrinkTest, WhatIsDoneIsNotDoneAgain) {
  options_.skip_if_done = true;
  const auto first = Shrink(options_), second = Shrink(options_);
  ASSERT_TRUE(second.ok()) << second.status().message();
  EXPECT_FALSE(first->was_done);
  EXPECT_TRUE(second->was_done);
  EXPECT_EQ(second->preferred, first->preferred);
  EXPECT_EQ(second->variants.size(), first->variants.size());
  EXPECT_EQ(second->variants[0].latency.at(32).p50, first->variants[0].latency.at(32).p50);
  options_.seed = 2;
  EXPECT_FALSE(Shrink(options_)->was_done);
}

TEST_F(ShrinkTest, RecipesAreOneGatedChain) {
  options_.train_data = options_.data;
  options_.train_labels = options_.labels;
  options_.recipe = {"prune", "distill", "quantize"};
  options_.max_loss = 0.6;  // what a few steps on few samples leave
  options_.goal = ShrinkGoal::kBytes;
  options_.epochs = 4;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  const VariantReport *whole = Find(*report, "fp32"), *pruned = Find(*report, "pruned");
  ASSERT_NE(pruned, nullptr);
  EXPECT_LT(pruned->bytes, 0.55 * whole->bytes) << pruned->reason;
  ASSERT_NE(Find(*report, "pruned-distilled"), nullptr);
  const VariantReport* last = Find(*report, "pruned-distilled-int8");
  ASSERT_NE(last, nullptr);
  EXPECT_LT(last->bytes, pruned->bytes);
  EXPECT_TRUE(last->kept) << last->reason;
}

TEST_F(ShrinkTest, TrainingCutShortIsSaid) {
  options_.train_data = options_.data;
  options_.train_labels = options_.labels;
  options_.recipe = {"distill"};
  options_.epochs = 100000;
  options_.time_budget = std::chrono::seconds(0);
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  const VariantReport* distilled = Find(*report, "distilled");
  ASSERT_NE(distilled, nullptr);
  EXPECT_NE(distilled->detail.find("loss "), std::string::npos) << distilled->detail;
  EXPECT_NE(distilled->detail.find("cut short by the time budget"), std::string::npos)
      << distilled->detail;
}

// Two towers: every step of a recipe, judged on targets of the model's own.
TEST_F(ShrinkTest, RecipesTrainModelsOfSeveralInputs) {
  const Graph graph = TowersNet();
  ASSERT_TRUE(WriteFileAtomic(options_.model, SerializeOnnx(graph).value()).ok());
  const Tensor user = NormalTensor({640, 8}, 3, 1), item = NormalTensor({640, 5}, 4, 1);
  const Tensor score = RunAll(graph, {user, item})[0];
  std::string files[] = {folder_ / "u.npy", folder_ / "i.npy"};
  ASSERT_TRUE(WriteNpy(files[0], user.view()).ok());
  ASSERT_TRUE(WriteNpy(files[1], item.view()).ok());
  ASSERT_TRUE(WriteNpy(options_.labels, score.view()).ok());
  options_.data = {"item=" + files[1], "user=" + files[0]};
  options_.train_data = options_.data;
  options_.train_labels = options_.labels;
  options_.recipe = {"prune", "distill", "quantize"};
  options_.metric = "cosine";
  options_.max_loss = 0.5;
  options_.goal = ShrinkGoal::kBytes;
  options_.epochs = 8;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  const VariantReport *whole = Find(*report, "fp32"), *last = nullptr;
  ASSERT_NE(last = Find(*report, "pruned-distilled-int8"), nullptr);
  EXPECT_LT(last->bytes, 0.5 * static_cast<double>(whole->bytes)) << last->reason;
  EXPECT_EQ(last->gate.verdict, Verdict::kPass) << last->gate.variant << " " << last->detail;
  EXPECT_GT(whole->arena_bytes.at(32), whole->arena_bytes.at(1));
}

TEST_F(ShrinkTest, StaticInt8IsAsAskedFor) {
  options_.static_int8.symmetric = true;
  options_.static_int8.per_channel = false;
  options_.goal = ShrinkGoal::kBytes;
  options_.max_loss = 0.3;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_TRUE(Find(*report, "int8")->kept) << Find(*report, "int8")->reason;
  const Graph graph = ImportOnnx((folder_ / "model/1/variants/int8.onnx").string()).value();
  int rounded = 0;
  for (const Node& node : graph.nodes) {
    if (!node.Is("QuantizeLinear")) continue;
    ++rounded;
    EXPECT_EQ(graph.constant(node.input(2))->dtype(), DType::i8);
    EXPECT_EQ(graph.constant(node.input(2))->as<int8_t>()[0], 0);
  }
  EXPECT_GT(rounded, 0);
  for (const Node& node : graph.nodes)
    if (node.Is("DequantizeLinear")) {
      EXPECT_EQ(graph.constant(node.input(1))->size(), 1);
    }
}

TEST_F(ShrinkTest, RecipesNeedDataToTrainOn) {
  options_.recipe = {"distill"};
  EXPECT_NE(ErrorOf(options_).find("--train-data"), std::string::npos);
}

// The loss reads logits, users read probabilities under the name that they know.
TEST_F(ShrinkTest, AModelThatEndsInASoftmaxKeepsIt) {
  Graph graph = graph_;
  Builder builder(graph);
  const ValueId p = builder.Emit("Softmax", {graph.outputs[0]}, {{"axis", int64_t{-1}}});
  graph.value(p).name = "probabilities";
  graph.outputs = {p};
  ASSERT_TRUE(WriteFileAtomic(options_.model, SerializeOnnx(graph).value()).ok());
  options_.train_data = options_.data;
  options_.train_labels = options_.labels;
  options_.recipe = {"magnitude"};
  options_.max_loss = 0.9;
  options_.goal = ShrinkGoal::kBytes;
  options_.epochs = 1;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  const VariantReport* sparse = Find(*report, "sparse");
  ASSERT_NE(sparse, nullptr);
  ASSERT_TRUE(sparse->kept) << sparse->reason;
  const auto session = Session::Load(folder_ / "model/1" / sparse->file).value();
  EXPECT_EQ(session->outputs()[0].name, "probabilities");
  const Tensor x(DType::f32, {3, 1, 8, 8});
  const ConstView views[] = {x.view()};
  const Tensor answers = session->Run(views).value()[0];
  for (int64_t row = 0; row < 3; ++row) {
    const float* values = answers.as<float>().data() + row * 5;
    EXPECT_NEAR(std::accumulate(values, values + 5, 0.0), 1, 1e-5);
  }
}

TEST_F(ShrinkTest, BadInputIsOneClearLineAndWritesNothing) {
  ShrinkOptions options = options_;
  Tensor few(DType::i64, {599});
  ASSERT_TRUE(WriteNpy(folder_ / "short.npy", few.view()).ok());
  options.labels = folder_ / "short.npy";
  EXPECT_NE(ErrorOf(options).find("first dims must be equal"), std::string::npos);

  options = options_;
  ASSERT_TRUE(WriteNpy(folder_ / "flat.npy", Tensor(DType::f32, {600, 63}).view()).ok());
  options.data = {folder_ / "flat.npy"};
  EXPECT_NE(ErrorOf(options).find("cannot be read as"), std::string::npos);

  Tensor nan(DType::f32, {600, 1, 8, 8});
  nan.as<float>()[64 * 17 + 3] = NAN;
  ASSERT_TRUE(WriteNpy(folder_ / "nan.npy", nan.view()).ok());
  options.data = {folder_ / "nan.npy"};
  EXPECT_NE(ErrorOf(options).find("sample 17 holds nan"), std::string::npos);

  options = options_;
  Tensor high(DType::i64, {600});
  high.as<int64_t>()[599] = 5;
  ASSERT_TRUE(WriteNpy(folder_ / "high.npy", high.view()).ok());
  options.labels = folder_ / "high.npy";
  EXPECT_NE(ErrorOf(options).find("none of the model's 5 classes"), std::string::npos);

  options = options_;
  WriteData(39);
  EXPECT_NE(ErrorOf(options).find("calibration: found 7 samples, expected at least 8"),
            std::string::npos);
  WriteData(600);

  options = options_;
  Tensor targets(DType::f32, {600, 5});
  targets.as<float>()[5 * 9] = INFINITY;
  ASSERT_TRUE(WriteNpy(folder_ / "targets.npy", targets.view()).ok());
  options.labels = folder_ / "targets.npy";
  EXPECT_NE(ErrorOf(options).find("the label of sample 9 holds inf"), std::string::npos);

  options = options_;
  options.metric = "speed";
  EXPECT_NE(ErrorOf(options).find("there are accuracy"), std::string::npos);
  options = options_;
  options.output = "logitz";
  EXPECT_NE(ErrorOf(options).find("no output 'logitz'"), std::string::npos);
  options = options_;
  ASSERT_TRUE(WriteFileAtomic(folder_ / "file", "x").ok());
  options.out = folder_ / "file";
  EXPECT_NE(ErrorOf(options).find("choose a writable folder"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "model"));
}

TEST_F(ShrinkTest, FewSamplesAreAWarning) {
  WriteData(60);
  options_.max_loss = 0.5;
  const auto report = Shrink(options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->warnings.size(), 2u);
}

}  // namespace
}  // namespace minim
