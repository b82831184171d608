#include "exec/tuning.h"

#include <gtest/gtest.h>

#include "graph/text.h"
#include "ops/infer.h"

namespace minim {
namespace {

Path FileFor(const std::string& text) {
  const Path path = Path(testing::TempDir()) / "tuning_test" / "tuning.json";
  std::filesystem::remove_all(path.parent_path());
  if (!text.empty()) {
    std::filesystem::create_directories(path.parent_path());
    EXPECT_TRUE(WriteFileAtomic(path, text).ok());
  }
  return path;
}

TEST(TuningTest, AFileIsReadAsItWasWritten) {
  TuningFile file;
  file.levels["avx2"].SetRow("Conv(f32[1,2])", "WinogradAvx2");
  file.levels["avx2"].SetRow("Relu(f32[1,2])", "");
  file.levels["avx2"].SetRowsTogether("0123", 4);
  file.levels["amx"].SetRowsTogether("0123", 8);
  const Path path = FileFor("");
  ASSERT_TRUE(file.Write(path).ok());  // makes the folder
  const auto read = TuningFile::Read(path);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->stale, "");
  const Tuning& avx2 = read->levels.at("avx2");
  EXPECT_EQ(avx2.RowOf("Conv(f32[1,2])"), "WinogradAvx2");
  EXPECT_EQ(avx2.RowOf("Relu(f32[1,2])"), "");
  EXPECT_EQ(avx2.RowOf("Gelu(f32[1,2])"), "");
  EXPECT_EQ(avx2.RowsTogether("0123"), 4);
  EXPECT_EQ(avx2.RowsTogether("4567"), 0);
  EXPECT_EQ(avx2.steps(), 2u);
  EXPECT_EQ(read->levels.at("amx").RowsTogether("0123"), 8);
}

TEST(TuningTest, NewerMeasurementsReplaceOlder) {
  Tuning old, newer;
  old.SetRow("a", "Slow");
  old.SetRow("b", "Kept");
  newer.SetRow("a", "");
  newer.SetRowsTogether("x", 2);
  old.Merge(newer);
  EXPECT_EQ(old.RowOf("a"), "");
  EXPECT_EQ(old.RowOf("b"), "Kept");
  EXPECT_EQ(old.RowsTogether("x"), 2);
}

TEST(TuningTest, OtherProcessorsAndVersionsDoNotCount) {
  const auto none = TuningFile::Read(FileFor(""));
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->levels.empty());
  EXPECT_EQ(none->stale, "");
  const auto other = TuningFile::Read(FileFor(
      R"({"version": "0.0.0", "cpu": "abacus", "levels": {"amx": {"steps": {"a": "R"}, "batches": {}}}})"));
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(other->levels.empty());
  EXPECT_EQ(other->stale, "minim 0.0.0 on abacus");
}

TEST(TuningTest, WhatIsNoTuningFileSaysWhatToDo) {
  TuningFile file;
  file.levels["amx"].SetRow("a", "R");
  file.levels["amx"].SetRowsTogether("b", 7);
  const Path path = FileFor("");
  ASSERT_TRUE(file.Write(path).ok());
  const std::string good = ReadFile(path).value();
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  const std::string broken[] = {"{",
                                "[]",
                                "{}",
                                good.substr(0, good.size() / 2),
                                with("\"levels\"", "\"floors\""),
                                with("\"steps\"", "\"stairs\""),
                                with("\"R\"", "3"),
                                with("7", "-7"),
                                with("7", "\"7\"")};
  for (const std::string& text : broken) {
    const auto read = TuningFile::Read(FileFor(text));
    EXPECT_EQ(read.status().code(), StatusCode::kDataLoss) << text;
    EXPECT_NE(read.status().message().find("delete it, or run minim tune"), std::string::npos);
  }
}

TEST(TuningTest, SignaturesTellStepsApart) {
  const auto signature = [](const std::string& nodes, int threads) {
    auto graph = ParseText("graph \"g\"(x: f32[2,3]) -> (y) {" + nodes + "}").value();
    EXPECT_TRUE(InferGraph(graph).ok());
    return StepSignature(graph, graph.nodes.back(), threads);
  };
  const std::string relu = signature("y = Relu(x)", 1);
  EXPECT_EQ(relu, signature("y = Relu(x) \"of another name\"", 1));
  EXPECT_NE(relu, signature("y = Relu(x)", 2));
  EXPECT_NE(relu, signature("y = Abs(x)", 1));
  EXPECT_NE(relu, signature("c = Concat(x, x) y = Relu(c)", 1));
  EXPECT_NE(signature("y = Softmax(x) {axis=1}", 1), signature("y = Softmax(x) {axis=0}", 1));
  EXPECT_NE(signature("y = Add(x, x)", 1),
            signature("const c: f32[2,3] = [1, 2, 3, 4, 5, 6] y = Add(x, c)", 1));
}

// The environment's file, or none.
TEST(TuningTest, TheFileIsWhereTheEnvironmentSays) {
  const char* names[] = {"MINIM_TUNING", "XDG_CACHE_HOME", "HOME"};
  std::map<std::string, std::optional<std::string>> saved;
  for (const char* name : names) {
    const char* value = std::getenv(name);
    saved[name] = value ? std::optional<std::string>(value) : std::nullopt;
    ::unsetenv(name);
  }
  EXPECT_EQ(TuningFile::DefaultPath(), std::nullopt);
  ::setenv("HOME", "/home/u", 1);
  EXPECT_EQ(TuningFile::DefaultPath(), Path("/home/u/.cache/minim/tuning.json"));
  ::setenv("XDG_CACHE_HOME", "/cache", 1);
  EXPECT_EQ(TuningFile::DefaultPath(), Path("/cache/minim/tuning.json"));
  ::setenv("MINIM_TUNING", "here.json", 1);
  EXPECT_EQ(TuningFile::DefaultPath(), Path("here.json"));
  ::setenv("MINIM_TUNING", "off", 1);
  EXPECT_EQ(TuningFile::DefaultPath(), std::nullopt);
  for (const auto& [name, value] : saved)
    if (value)
      ::setenv(name.c_str(), value->c_str(), 1);
    else
      ::unsetenv(name.c_str());
}

}  // namespace
}  // namespace minim
