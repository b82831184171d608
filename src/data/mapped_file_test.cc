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

TEST(MappedFileTest, AStreamedFileIsReadAsAnnounced) {
  const Path path = Path(testing::TempDir()) / "minim_streamed";
  std::string text(100000, 'a');
  text[50000] = 'b';
  ASSERT_TRUE(WriteFileAtomic(path, text).ok());
  EXPECT_FALSE(MapFile(path)->streamed);
  const MappedFile file = MapFile(path, 1000).value();
  EXPECT_TRUE(file.streamed);
  Announce(file.bytes.substr(49999, 7));
  EXPECT_EQ(file.bytes, text);
  std::filesystem::remove(path);
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
