#include "compress/work_folder.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(WorkFolderTest, KeepsWhatARunOfTheSameKeyMade) {
  const Path folder = Path(testing::TempDir()) / "minim_work_folder";
  std::filesystem::remove_all(folder);
  const WorkFolder first = WorkFolder::Open(folder, "a").value();
  EXPECT_FALSE(first.Load("x").has_value());
  ASSERT_TRUE(first.Save("x", "bytes").ok());
  EXPECT_EQ(WorkFolder::Open(folder, "a")->Load("x"), "bytes");
  const WorkFolder other = WorkFolder::Open(folder, "b").value();
  EXPECT_FALSE(other.Load("x").has_value());
  other.Remove();
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(WorkFolderTest, StampsTellFilesApart) {
  const Path file = Path(testing::TempDir()) / "minim_stamp";
  std::filesystem::remove(file);
  EXPECT_EQ(FileStamp(file), "");
  ASSERT_TRUE(WriteFileAtomic(file, "one").ok());
  const std::string stamp = FileStamp(file);
  ASSERT_TRUE(WriteFileAtomic(file, "other").ok());
  EXPECT_NE(FileStamp(file), stamp);
}

TEST(WorkFolderTest, DigestsAreThoseOfFnv) {
  EXPECT_EQ(DigestOf(""), "cbf29ce484222325");
  EXPECT_EQ(DigestOf("a"), "af63dc4c8601ec8c");
}

}  // namespace
}  // namespace minim
