#include "serve/cache/sha256.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace minim::serve {
namespace {

std::string Hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

TEST(Sha256Test, FipsVectors) {
  EXPECT_EQ(Hex(Sha256().Finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 abc;
  abc.Update("a");
  abc.Update("bc");
  EXPECT_EQ(Hex(abc.Finish()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256Test, FramesKeepPartsApart) {
  Sha256 a, b;
  a.UpdateFramed("ab");
  a.UpdateFramed("c");
  b.UpdateFramed("a");
  b.UpdateFramed("bc");
  EXPECT_NE(a.Finish(), b.Finish());
}

TEST(ModelFileDigestTest, IsOfTheFileAndOfNothingElse) {
  const Path folder = Path(testing::TempDir()) / ("minim_digest_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto digest = [&](const std::string& text) {
    EXPECT_TRUE(WriteFileAtomic(folder / "m.onnx", text).ok());
    return ModelFileDigest(folder / "m.onnx");
  };
  EXPECT_EQ(Hex(digest("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string large(3 << 20, 'x');
  EXPECT_EQ(digest(large).size(), 32u);
  EXPECT_NE(digest(large), digest(large + "y"));
  EXPECT_EQ(ModelFileDigest(folder / "none.onnx"), "");
  EXPECT_EQ(ModelFileDigest(folder), "");
  const std::string external = "\x0a\x08location\x12\x03w.b";
  EXPECT_EQ(digest("weights elsewhere: " + external), "");
  for (size_t cut = 1; cut < 12; ++cut) {  // wherever a read ends
    std::string text((1 << 20) - cut, 'x');
    EXPECT_EQ(digest(text + external), "") << cut;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace minim::serve
