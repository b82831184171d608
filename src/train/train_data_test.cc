#include "train/train_data.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/table_encoding.h"

namespace minim {
namespace {

class TrainDataTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = Path(testing::TempDir()) / "minim_train_data";
    std::filesystem::create_directories(folder_);
    Dataset numbers = Numbers();
    ASSERT_TRUE(WriteNpy(folder_ / "x.npy", numbers.samples.view()).ok());
    ASSERT_TRUE(WriteNpy(folder_ / "y.npy", numbers.labels.view()).ok());
    std::ofstream csv(folder_ / "t.csv");
    csv << "x,kind,label\n";
    for (int i = 0; i < 10; ++i)
      csv << i << ',' << (i == 9 ? "late" : "usual") << ',' << i % 2 << '\n';
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static Dataset Numbers() {
    Dataset data{Tensor(DType::f32, {10, 1}), Tensor(DType::i64, {10})};
    for (int i = 0; i < 10; ++i) {
      data.samples.as<float>()[i] = static_cast<float>(i);
      data.labels.as<int64_t>()[i] = i % 2;
    }
    return data;
  }
  TrainConfig Arrays() const {
    TrainConfig config;
    config.train_samples = (folder_ / "x.npy").string();
    config.train_labels = (folder_ / "y.npy").string();
    return config;
  }
  TrainConfig Csv() const {
    TrainConfig config;
    config.csv = {.file = (folder_ / "t.csv").string(), .target = "label"};
    return config;
  }
  static std::vector<float> Samples(DataSource& source) {
    const Batch batch = source.Gather(InOrder(source.size())).value();
    return {batch.samples.as<float>().begin(), batch.samples.as<float>().end()};
  }

  Path folder_;
};

TEST_F(TrainDataTest, TheLastSamplesOrADrawnPartAreForTesting) {
  TrainConfig config = Arrays();
  config.split = {.test_fraction = 0.3, .kind = SplitKind::kChronological};
  const TrainData last = OpenTrainData(config).value();
  EXPECT_EQ(last.train->size(), 7);
  EXPECT_EQ(Samples(*last.test), (std::vector<float>{7, 8, 9}));
  config.split.gap = 2;
  EXPECT_EQ(OpenTrainData(config)->train->size(), 5);
  config.split.kind = SplitKind::kRandom;
  const TrainData drawn = OpenTrainData(config).value();
  std::vector<float> all = Samples(*drawn.train);
  for (float x : Samples(*drawn.test)) all.push_back(x);
  EXPECT_EQ(std::set<float>(all.begin(), all.end()).size(), 10u);
  EXPECT_EQ(Samples(*OpenTrainData(config)->test), Samples(*drawn.test));
  config.split.seed = 2;
  EXPECT_NE(Samples(*OpenTrainData(config)->test), Samples(*drawn.test));
}

TEST_F(TrainDataTest, CategoriesAreThoseOfTheTrainingPart) {
  TrainConfig config = Csv();
  config.split = {.test_fraction = 0.2, .kind = SplitKind::kChronological};
  const TrainData data = OpenTrainData(config).value();
  EXPECT_EQ(data.one_hot, (std::vector<bool>{false, true}));
  EXPECT_EQ(Samples(*data.test), (std::vector<float>{8, 1, 9, 0}));
  const TableEncoding encoding =
      EncodingFromJson(data.metadata.at(std::string(kEncodingKey))).value();
  EXPECT_EQ(encoding.classes, (std::vector<std::string>{"0", "1"}));
  config = Csv();
  config.csv.test_file = config.csv.file;
  EXPECT_EQ(OpenTrainData(config)->test->size(), 10);
}

TEST_F(TrainDataTest, MistakesNameTheKey) {
  const auto message = [](const TrainConfig& config) {
    return OpenTrainData(config).status().message();
  };
  const auto expect = [](const std::string& found, const char* part) {
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  expect(message({}), "give either csv or train_samples");
  TrainConfig config = Csv();
  config.csv.target = "";
  expect(message(config), "target");
  config = Csv();
  config.train_samples = "x.npy";
  expect(message(config), "give either");
  config = Arrays();
  config.split.test_fraction = 1;
  expect(message(config), "test_fraction is 1");
  config.split.test_fraction = 0.5;
  config.test_samples = config.train_samples;
  config.test_labels = config.train_labels;
  expect(message(config), "either test data or a test_fraction");
  config = Arrays();
  config.train_labels = "";
  expect(message(config), "train_labels: name the file of labels of ");
  config = Arrays();
  config.test_labels = config.train_labels;
  expect(message(config), "test_samples and test_labels go together");
  config = Arrays();
  config.split.gap = -1;
  expect(message(config), "split_gap is -1");
  config = Csv();
  config.csv.target = "x";
  config.csv.categorical = {"x"};
  config.loss = LossKind::kBinaryCrossEntropy;
  expect(message(config), "column 'x' has 10 classes, but binary_cross_entropy takes 2");
  config = Csv();
  config.csv.target = "kind";
  config.loss = LossKind::kMeanSquaredError;
  expect(message(config), "mse takes numbers");
  config.csv.target = "x";
  config.loss = LossKind::kBinaryCrossEntropy;
  expect(message(config), "label 2 of binary_cross_entropy");
}

// Gives a batch of another shape, dtype or label once it was asked often enough.
class Changing final : public DataSource {
 public:
  explicit Changing(Batch later) : later_(std::move(later)) {}
  int64_t size() const override { return 4; }
  Result<Batch> Gather(std::span<const int64_t>) override {
    if (calls_++ > 0) return later_;
    return Batch{Tensor(DType::f32, {2, 3}), Tensor(DType::i64, {2})};
  }

 private:
  Batch later_;
  int calls_ = 0;
};

TEST_F(TrainDataTest, BatchesOfAnotherShapeAreRefused) {
  const auto message = [](const Batch& later) {
    TrainConfig config;
    config.train_source = std::make_shared<Changing>(later);
    const TrainData data = OpenTrainData(config).value();
    EXPECT_TRUE(data.train->Gather(InOrder(2)).ok());
    return data.train->Gather(InOrder(2)).status().message();
  };
  const Tensor x(DType::f32, {2, 3}), y(DType::i64, {2});
  EXPECT_EQ(message({x, y}), "");
  EXPECT_NE(message({Tensor(DType::f32, {2, 2}), y}).find("samples f32[2,2], expected f32[2,3]"),
            std::string::npos);
  EXPECT_NE(message({x, Tensor(DType::f32, {2})}).find("labels f32[2], expected i64[2]"),
            std::string::npos);
  EXPECT_FALSE(message({x, Tensor::From<int64_t>({2}, {0, -1})}).empty());
  EXPECT_FALSE(message({}).empty());
}

}  // namespace
}  // namespace minim
