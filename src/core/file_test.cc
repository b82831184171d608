#include "core/file.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(FileTest, WritesAtomicallyAndReadsBack) {
  const Path path = Path(testing::TempDir()) / "minim_file_test.bin";
  ASSERT_TRUE(WriteFileAtomic(path, std::string_view("a\0b", 3)).ok());
  ASSERT_TRUE(WriteFileAtomic(path, "second").ok());
  EXPECT_EQ(ReadFile(path).value(), "second");
  EXPECT_EQ(ReadFile(path, 3).status().code(), StatusCode::kResourceExhausted);
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path()))
    EXPECT_FALSE(entry.path().string().ends_with(".part")) << entry.path();
  std::filesystem::remove(path);
}

TEST(FileTest, MissingFilesAndFoldersAreNamed) {
  const auto missing = ReadFile("/nonexistent/model.onnx");
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("/nonexistent/model.onnx"), std::string::npos);
  EXPECT_EQ(ReadFile("/").status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(WriteFileAtomic("/nonexistent/out", "x").ok());
}

}  // namespace
}  // namespace minim
