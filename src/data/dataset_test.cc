#include "data/dataset.h"

#include <gtest/gtest.h>
#include <zip.h>

#include <set>

#include "data/npy.h"

namespace minim {
namespace {

TEST(DatasetTest, ShufflingIsAPermutationAndAFunctionOfSeedAndEpoch) {
  const auto a = ShuffledOrder(1000, 1, 2), b = ShuffledOrder(1000, 1, 2);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, ShuffledOrder(1000, 1, 3));
  EXPECT_NE(a, ShuffledOrder(1000, 2, 2));
  EXPECT_EQ(std::set<int64_t>(a.begin(), a.end()).size(), 1000u);
}

TEST(ArraySourceTest, ASubsetNamesSamplesOfTheWhole) {
  Dataset data{Tensor(DType::u8, {5, 2}), Tensor(DType::i32, {5})};
  for (int i = 0; i < 5; ++i) data.samples.as<uint8_t>()[2 * i] = data.labels.as<int32_t>()[i] = i;
  SubsetSource last(std::make_shared<ArraySource>(data), {4, 2});
  EXPECT_EQ(last.size(), 2);
  const Batch batch = last.Gather(std::vector<int64_t>{1, 0, 1}).value();
  EXPECT_EQ(batch.samples.dims(), Dims({3, 2}));
  EXPECT_EQ(batch.samples.as<float>()[0], 2);
  ASSERT_EQ(batch.labels.dtype(), DType::i64);
  EXPECT_EQ(batch.labels.as<int64_t>()[1], 4);
}

TEST(ArraySourceTest, StreamedRowsAreTheSameRows) {
  const Path path = Path(testing::TempDir()) / "minim_streamed_rows";
  const Tensor numbers = Tensor::From<float>({3, 2}, {1, 2, 3, 4, 5, 6});
  ASSERT_TRUE(
      WriteFileAtomic(path, {static_cast<const char*>(numbers.data()), numbers.bytes()}).ok());
  const MappedFile file = MapFile(path, 1).value();
  const SharedArray array{{file.bytes.data(), DType::f32, {3, 2}}, file.owner, file.streamed};
  ArraySource source(array, Share(Tensor(DType::i64, {3})));
  EXPECT_EQ(source.Gather(std::vector<int64_t>{2}).value().samples.as<float>()[1], 6);
  std::filesystem::remove(path);
}

class OpenDatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = Path(testing::TempDir()) / "minim_open_dataset";
    std::filesystem::create_directories(folder_);
    ASSERT_TRUE(
        WriteNpy(folder_ / "x.npy", Tensor::From<uint8_t>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}).view())
            .ok());
    ASSERT_TRUE(WriteNpy(folder_ / "y.npy", Tensor::From<int32_t>({2}, {0, 1}).view()).ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Path folder_;
};

TEST_F(OpenDatasetTest, MappedAndReadAreTheSame) {
  const Dataset read = ReadDataset(folder_ / "x.npy", folder_ / "y.npy", {2, 2}).value();
  const auto mapped = OpenDataset(folder_ / "x.npy", folder_ / "y.npy", {2, 2}).value();
  const Batch batch = mapped->Gather(InOrder(2)).value();
  EXPECT_EQ(batch.samples.dims(), Dims({2, 2, 2}));
  EXPECT_EQ(SerializeNpy(batch.samples.view()),
            SerializeNpy(GatherBatch(read, InOrder(2)).samples.view()));
  EXPECT_EQ(batch.labels.as<int64_t>()[1], 1);
}

TEST_F(OpenDatasetTest, AnArchiveNamesItsArrays) {
  const std::string zip = (folder_ / "xy.npz").string();
  int code = 0;
  zip_t* archive = zip_open(zip.c_str(), ZIP_CREATE, &code);
  for (const char* name : {"x.npy", "y.npy"})
    zip_file_add(archive, name, zip_source_file(archive, (folder_ / name).c_str(), 0, -1), 0);
  ASSERT_EQ(zip_close(archive), 0);
  EXPECT_EQ(OpenDataset(zip + ":x", zip + ":y", {}).value()->size(), 2);
  const std::string message = OpenDataset(zip, zip + ":y", {}).status().message();
  EXPECT_NE(message.find("NAME with one of x, y"), std::string::npos) << message;
}

TEST_F(OpenDatasetTest, ShapesThatDisagreeAreErrors) {
  EXPECT_NE(OpenDataset(folder_ / "x.npy", folder_ / "y.npy", {3})
                .status()
                .message()
                .find("cannot be read as [2,3]"),
            std::string::npos);
  ASSERT_TRUE(WriteNpy(folder_ / "y.npy", Tensor(DType::f32, {3}).view()).ok());
  EXPECT_FALSE(OpenDataset(folder_ / "x.npy", folder_ / "y.npy", {}).ok());
  ASSERT_TRUE(WriteNpy(folder_ / "y.npy", Tensor(DType::string, {2}).view()).ok());
  EXPECT_EQ(OpenDataset(folder_ / "x.npy", folder_ / "y.npy", {}).status().code(),
            StatusCode::kUnsupported);
}

}  // namespace
}  // namespace minim
