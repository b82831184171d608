#include "data/mapped_file.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(MappedFileTest, OutlivesItsName) {
  const Path path = Path(testing::TempDir()) / "minim_mapped";
  ASSERT_TRUE(WriteFileAtomic(path, "bytes").ok());
  const MappedFile file = MapFile(path).value();
  std::filesystem::remove(path);
  EXPECT_EQ(file.bytes, "bytes");
}

TEST(MappedFileTest, EmptyMissingAndOtherFiles) {
  const Path path = Path(testing::TempDir()) / "minim_mapped_empty";
  ASSERT_TRUE(WriteFileAtomic(path, "").ok());
  EXPECT_EQ(MapFile(path)->bytes, "");
  std::filesystem::remove(path);
  EXPECT_EQ(MapFile(path).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(MapFile(testing::TempDir()).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace minim
