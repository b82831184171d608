// A repository of small real models, for tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "core/file.h"
#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim::serve {

class ModelFolder {
 public:
  explicit ModelFolder(const std::string& name)
      : path_(Path(testing::TempDir()) / ("minim_" + name + "_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const Path& path() const { return path_; }
  /// The text form of a graph as the model's version 1.
  void Add(const std::string& model, const std::string& text) const {
    const Path file = path_ / model / "1/model.onnx";
    std::filesystem::create_directories(file.parent_path());
    const auto graph = ParseText(text);
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    const Status status = ExportOnnx(*graph, file);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  Path Write(const std::string& file, const std::string& bytes) const {
    const Path path = path_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

 private:
  const Path path_;
};

}  // namespace minim::serve
