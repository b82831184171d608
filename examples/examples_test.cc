// Runs the examples and the verbs of the binary as a user would, on a model trained here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "core/file.h"
#include "core/philox.h"
#include "data/npy.h"

namespace minim {
namespace {

class ExamplesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = Path(testing::TempDir()) / "minim_examples";
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(Path(EXAMPLES_SOURCE) / "tiny.toml", folder_ / "tiny.toml",
                               std::filesystem::copy_options::overwrite_existing);
    Tensor x(DType::f32, {320, 2}), y(DType::i64, {320});
    const Philox rng(1);
    for (int64_t i = 0; i < 320; ++i) {
      for (int64_t k = 0; k < 2; ++k) x.as<float>()[2 * i + k] = rng.Normal(2 * i + k);
      y.as<int64_t>()[i] = x.as<float>()[2 * i] > x.as<float>()[2 * i + 1];
    }
    ASSERT_TRUE(WriteNpy(folder_ / "tiny_x.npy", x.view()).ok());
    ASSERT_TRUE(WriteNpy(folder_ / "tiny_y.npy", y.view()).ok());
    ASSERT_EQ(Run(Example("02_train") + " tiny.toml"), 0);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }

  static std::string Example(const std::string& name) {
    return std::string(EXAMPLES_BINARY) + "/" + name;
  }
  static std::string Minim(const std::string& arguments) {
    return std::string(MINIM_BINARY) + " " + arguments;
  }
  // Exit code; both streams go to out.txt.
  static int Run(const std::string& command) {
    const int status =
        std::system(("cd " + folder_.string() + " && " + command + " > out.txt 2>&1").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  static std::string Output() { return ReadFile(folder_ / "out.txt").value(); }

  static inline Path folder_;
};

// The recipes between ```toml and ``` of a page.
std::vector<std::string> RecipesOf(const Path& page) {
  const std::string text = ReadFile(page).value(), begin = "```toml\n", end = "```";
  std::vector<std::string> recipes;
  for (size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
    at += begin.size();
    recipes.push_back(text.substr(at, text.find(end, at) - at));
  }
  return recipes;
}

TEST_F(ExamplesTest, RecipesOfTheDataPageTrain) {
  const Philox rng(2);
  std::ofstream csv(folder_ / "customers.csv");
  csv << "id,age,zip,plan,left\n";
  Tensor windows(DType::f32, {200, 4, 2}), up(DType::f32, {200});
  for (int i = 0; i < 200; ++i) {
    const bool old = rng.Uniform(2 * i) > 0.5f, basic = rng.Uniform(2 * i + 1) > 0.5f;
    csv << 'c' << i << ','
        << (old          ? "70"
            : i % 7 == 0 ? ""
                         : "30")
        << ',' << 8000 + i % 3 << ',' << (basic ? "\"basic, monthly\"" : "full") << ','
        << (old && basic ? "yes" : "no") << '\n';
    for (int k = 0; k < 8; ++k) windows.as<float>()[8 * i + k] = rng.Normal(1000 + 8 * i + k);
    up.as<float>()[i] = windows.as<float>()[8 * i + 7] > 0;
  }
  csv.close();
  ASSERT_TRUE(WriteNpy(folder_ / "windows.npy", windows.view()).ok());
  ASSERT_TRUE(WriteNpy(folder_ / "up.npy", up.view()).ok());
  const auto recipes = RecipesOf(Path(EXAMPLES_SOURCE) / "../docs/training-data.md");
  ASSERT_EQ(recipes.size(), 2u);
  for (const std::string& recipe : recipes) {
    std::ofstream(folder_ / "page.toml") << recipe;
    ASSERT_EQ(Run(Minim("train page.toml")), 0) << recipe << Output();
    EXPECT_NE(Output().find("AUC"), std::string::npos) << Output();
  }
  ASSERT_EQ(Run(Minim("inspect left.onnx")), 0);
  EXPECT_NE(Output().find("basic, monthly"), std::string::npos) << Output();
  ASSERT_EQ(Run(Minim("run left.onnx --input customers.csv --output-dir left")), 0) << Output();
  EXPECT_EQ(ReadNpy(folder_ / "left" / "logits.npy")->dims(), Dims({200, 2}));
  EXPECT_EQ(Run(Minim("run tiny.onnx --input customers.csv")), 2);
  EXPECT_NE(Output().find("not trained on a table"), std::string::npos) << Output();
}

TEST_F(ExamplesTest, TelcoChurnIsRankedAsWellAsItCanBe) {
  const char* data = std::getenv("MINIM_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "MINIM_TEST_DATA is not set";
  const Path packed = Path(data) / "telco-churn.csv.xz";
  if (!std::filesystem::exists(packed)) GTEST_SKIP() << packed << " is not there";
  if (std::system("command -v xz > /dev/null") != 0) GTEST_SKIP() << "xz is not installed";
  ASSERT_EQ(std::system(fmt::format("xz -dc '{}' > '{}'", packed.string(),
                                    (folder_ / "telco-churn.csv").string())
                            .c_str()),
            0);
  std::filesystem::copy_file(Path(EXAMPLES_SOURCE) / "telco_churn.toml",
                             folder_ / "telco_churn.toml");
  ASSERT_EQ(Run(Minim("train telco_churn.toml")), 0) << Output();
  const std::string output = Output(), before = "AUC ";
  const double auc = std::atof(output.c_str() + output.rfind(before) + before.size());
  EXPECT_GT(auc, 0.835) << output;  // logistic regression: 0.83 to 0.87, by the split
  EXPECT_EQ(Run(Minim("run telco_churn.onnx --input telco-churn.csv")), 0) << Output();
}

TEST_F(ExamplesTest, LoadAndRun) {
  EXPECT_EQ(Run(Example("01_load_and_run") + " tiny.onnx"), 0) << Output();
  EXPECT_NE(Output().find("logits: [1,2]"), std::string::npos);
  EXPECT_EQ(Run(Example("01_load_and_run") + " missing.onnx"), 1);
}

TEST_F(ExamplesTest, ServeInProcess) {
  EXPECT_EQ(Run(Example("05_serve_in_process") + " tiny.onnx"), 0) << Output();
  EXPECT_NE(Output().find("logits: [1,2]"), std::string::npos) << Output();
  EXPECT_NE(Output().find("100 predictions, 0 failed"), std::string::npos) << Output();
  EXPECT_EQ(Run(Example("05_serve_in_process") + " missing.onnx"), 1);
}

TEST_F(ExamplesTest, ALoopOfOnesOwnFindsTheWeights) {
  ASSERT_EQ(Run(Example("03_own_loop")), 0) << Output();
  const std::string output = Output(), before = "ratio ";
  const double ratio = std::atof(output.c_str() + output.find(before) + before.size());
  EXPECT_NEAR(ratio, -0.5, 0.05) << output;
}

TEST_F(ExamplesTest, ASourceOfOnesOwnTrains) {
  ASSERT_EQ(Run(Example("04_data_source")), 0) << Output();
  EXPECT_NE(Output().find("test AUC 0.9"), std::string::npos) << Output();
}

TEST_F(ExamplesTest, TrainingFitsABudgetOrSaysTheLeast) {
  EXPECT_NE(Run(Minim("train tiny.toml --budget 0.0001")), 0);
  const std::string refused = Output(), before = "the least found is ";
  const size_t at = refused.find(before);
  ASSERT_NE(at, std::string::npos) << refused;
  const double least = std::atof(refused.c_str() + at + before.size()) / (1 << 20);
  EXPECT_EQ(Run(Minim(fmt::format("train tiny.toml --budget {:.6f}", least + 1e-6))), 0)
      << Output();
}

TEST_F(ExamplesTest, TrainingTunesItself) {
  ASSERT_EQ(Run(Minim("train tiny.toml --tune")), 0) << Output();
  EXPECT_NE(Output().find("chosen: [train] precision = "), std::string::npos) << Output();
  EXPECT_NE(Output().find("samples/s"), std::string::npos);
  EXPECT_NE(Output().find("wrote "), std::string::npos) << Output();
}

TEST_F(ExamplesTest, TrainWritesCurvesBesideItsLog) {
  std::string toml = ReadFile(folder_ / "tiny.toml").value();
  toml += "log = \"curves.jsonl\"\n";
  std::ofstream(folder_ / "curves.toml") << toml;
  ASSERT_EQ(Run(Minim("train curves.toml --precision fp16")), 0) << Output();
  EXPECT_NE(Output().find("fp16; a step needs"), std::string::npos) << Output();
  const std::string page = ReadFile(folder_ / "curves.html").value();
  EXPECT_NE(page.find("Training loss"), std::string::npos);
  EXPECT_NE(page.find("Test AUC"), std::string::npos);
  EXPECT_NE(page.find("Gradient norm"), std::string::npos);
  EXPECT_EQ(Run(Minim("train curves.toml --precision fp12")), 2);
}

// Whenever training dies, what it left behind continues to the same bits.
TEST_F(ExamplesTest, TrainingKilledAtRandomMomentsEndsWithTheSameModel) {
  constexpr int kKills = 50;
  std::string toml = ReadFile(folder_ / "tiny.toml").value();
  const auto put = [&](const std::string& from, const std::string& to) {
    toml.replace(toml.find(from), from.size(), to);
  };
  put("epochs = 2", "epochs = 600\nprecision = \"fp16\"\nema_decay = 0.9");
  put("tiny.onnx", "whole.onnx");
  for (const char* tested : {"test_samples = \"tiny_x.npy\"\n", "test_labels = \"tiny_y.npy\"\n"})
    put(tested, "");
  std::ofstream(folder_ / "whole.toml") << toml;
  ASSERT_EQ(Run(Minim("train whole.toml")), 0) << Output();
  put("whole.onnx", "killed.onnx");
  std::ofstream(folder_ / "killed.toml") << toml + "checkpoint = \"killed.safetensors\"\n";
  const Philox rng(11);
  int kills = 0;
  for (int run = 0; kills < kKills && run < 2 * kKills; ++run) {
    const double seconds = 0.02 + 0.08 * rng.Uniform(static_cast<uint64_t>(run));
    const int code = Run("timeout -s KILL " + std::to_string(seconds) + " " +
                         Minim("train killed.toml --resume"));
    kills += code == 137;
    if (code == 137) continue;
    ASSERT_EQ(code, 0) << Output();
    EXPECT_EQ(ReadFile(folder_ / "killed.onnx").value(), ReadFile(folder_ / "whole.onnx").value());
    std::filesystem::remove(folder_ / "killed.safetensors");  // and again from the start
  }
  EXPECT_EQ(kills, kKills);
  ASSERT_EQ(Run(Minim("train killed.toml --resume")), 0) << Output();
  EXPECT_EQ(ReadFile(folder_ / "killed.onnx").value(), ReadFile(folder_ / "whole.onnx").value());
}

TEST_F(ExamplesTest, VerbsWorkOnTheTrainedFile) {
  EXPECT_EQ(Run(Minim("inspect tiny.onnx")), 0) << Output();
  EXPECT_NE(Output().find("input  input: f32[N,2]"), std::string::npos) << Output();
  EXPECT_EQ(Run(Minim("inspect tiny.onnx --text")), 0);
  EXPECT_EQ(Run(Minim("explain tiny.onnx --batch 4")), 0) << Output();
  EXPECT_NE(Output().find("FusedGemm"), std::string::npos) << Output();
  EXPECT_EQ(Run(Minim("run tiny.onnx --input input=tiny_x.npy --output-dir answers")), 0)
      << Output();
  EXPECT_EQ(ReadNpy(folder_ / "answers" / "logits.npy")->dims(), Dims({320, 2}));
  EXPECT_EQ(Run(Minim("bench tiny.onnx --seconds 0.1 --batch 3 --precision bf16 --json")), 0)
      << Output();
  EXPECT_NE(Output().find("\"median_us\""), std::string::npos);
  EXPECT_EQ(Run(Minim("doctor")), 0);
}

TEST_F(ExamplesTest, ShrinkWritesAModelFolderAndAReport) {
  const std::string data = " --data tiny_x.npy --labels tiny_y.npy --goal bytes --max-loss 0.5";
  ASSERT_EQ(Run(Minim("shrink tiny.onnx" + data + " --out models/tiny")), 0) << Output();
  for (const char* file : {"model.onnx", "report.json", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(folder_ / "models/tiny/1" / file)) << file;
  // So few weights that INT8's scales outweigh them: made, judged and not kept.
  EXPECT_NE(Output().find("int8-dynamic"), std::string::npos) << Output();
  EXPECT_NE(Output().find("gains nothing"), std::string::npos) << Output();
  EXPECT_FALSE(std::filesystem::exists(folder_ / "models/tiny/1/variants/int8-dynamic.onnx"));
  EXPECT_EQ(Run(Minim("report --shrink models/tiny/1/report.json --out page.html")), 0) << Output();
  EXPECT_NE(ReadFile(folder_ / "page.html")->find("<svg"), std::string::npos);
}

TEST_F(ExamplesTest, MistakesGetOneLineAndExitCode2) {
  std::ofstream(folder_ / "junk.onnx") << "junk";
  for (const char* arguments :
       {"", "frobnicate", "run", "run missing.onnx", "run junk.onnx", "run tiny.onnx",
        "run tiny.onnx --input nope=tiny_x.npy", "run tiny.onnx --input tiny_x.txt",
        "bench tiny.onnx --precision fp12", "bench tiny.onnx --shape input=2xx",
        "train missing.toml", "compare tiny.onnx", "shrink tiny.onnx",
        "explain tiny.onnx --threads 0"}) {
    EXPECT_EQ(Run(Minim(arguments)), 2) << arguments << "\n" << Output();
    const std::string output = Output();
    EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1) << arguments << "\n" << output;
  }
}

TEST_F(ExamplesTest, EveryVerbHasHelpWithAnExample) {
  for (const char* verb : {"train", "shrink", "serve", "run", "compare", "bench", "inspect",
                           "explain", "doctor", "report"}) {
    EXPECT_EQ(Run(Minim(std::string(verb) + " --help")), 0);
    EXPECT_NE(Output().find("xample"), std::string::npos) << verb;
  }
}

}  // namespace
}  // namespace minim
