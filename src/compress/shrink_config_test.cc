#include "compress/shrink_config.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

class ShrinkConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = Path(testing::TempDir()) / "minim_shrink_config";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "data");
  }
  void Put(const std::string& file, std::string_view text) {
    ASSERT_TRUE(WriteFileAtomic(folder_ / file, text).ok());
  }
  std::string Error() {
    const auto options = FolderShrinkOptions(folder_, {});
    return options.ok() ? "" : options.status().message();
  }
  using Files = std::vector<std::string>;
  Path folder_;
};

TEST_F(ShrinkConfigTest, DataBesideTheModelIsFound) {
  EXPECT_NE(Error().find("data/samples.npy"), std::string::npos);
  Put("data/samples.csv", "");
  Put("data/train_labels.npy", "");
  const ShrinkOptions options = FolderShrinkOptions(folder_, {.max_loss = 0.5}).value();
  EXPECT_EQ(options.data, Files({folder_ / "data/samples.csv"}));
  EXPECT_EQ(options.train_labels, (folder_ / "data/train_labels.npy").string());
  EXPECT_EQ(options.labels, "");
  EXPECT_EQ(options.max_loss, 0.5);
}

TEST_F(ShrinkConfigTest, TheFileOfTheModelDecides) {
  Put("minim.toml",
      "[shrink]\ndata = \"x.npy\"\nlabels = \"/y.npy\"\nmetric = \"auc\"\nmax_loss = 0.01\n"
      "goal = \"bytes\"\nrecipe = \"prune,quantize\"\ncalibrator = \"mse\"\n[other]\nx = 1\n");
  const auto options = FolderShrinkOptions(folder_, {});
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->data, Files({folder_ / "x.npy"}));
  EXPECT_EQ(options->labels, "/y.npy");
  EXPECT_EQ(options->metric, "auc");
  EXPECT_EQ(options->goal, ShrinkGoal::kBytes);
  EXPECT_EQ(options->recipe, (std::vector<std::string>{"prune", "quantize"}));
  EXPECT_EQ(options->calibrator, Calibrator::kMse);
}

TEST_F(ShrinkConfigTest, SeveralInputsAndStatesAreTables) {
  Put("minim.toml",
      "[shrink]\ndata = { ids = \"i.npy\", mask = \"/m.npy\" }\ncalibration = \"c.npz\"\n"
      "state = { h0 = \"hn\" }\nsequence_length = 7\n");
  const auto options = FolderShrinkOptions(folder_, {});
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->data, Files({"ids=" + (folder_ / "i.npy").string(), "mask=/m.npy"}));
  EXPECT_EQ(options->calibration, Files({folder_ / "c.npz"}));
  EXPECT_EQ(options->states, (std::map<std::string, std::string>{{"h0", "hn"}}));
  EXPECT_EQ(options->sequence_length, 7);
}

TEST_F(ShrinkConfigTest, SaysWhatIsWrong) {
  Put("minim.toml", "[shrink]\ndta = \"x.npy\"\n");
  EXPECT_NE(Error().find("dta: unknown key"), std::string::npos);
  Put("minim.toml", "[shrink]\ndata = \"x.npy\"\ngoal = \"size\"\n");
  EXPECT_NE(Error().find("goal 'size'"), std::string::npos);
  Put("minim.toml", "[shrink]\ndata = \"x.npy\"\nrecipe = \"prun\"\n");
  EXPECT_NE(Error().find("step 'prun'"), std::string::npos);
  Put("minim.toml", "[shrink]\ndata = { ids = 3 }\n");
  EXPECT_NE(Error().find("data: expected \"FILE\" or { INPUT"), std::string::npos);
  Put("minim.toml", "[shrink]\ndata = \"x.npy\"\nstate = \"h\"\n");
  EXPECT_NE(Error().find("state: expected { INPUT = \"OUTPUT\""), std::string::npos);
  Put("minim.toml", "[shrink\n");
  EXPECT_NE(Error().find("line 1"), std::string::npos);
}

}  // namespace
}  // namespace minim
