// Loads an ONNX file and runs it once on zeros: build/release/examples/01_load_and_run model.onnx
#include <cstdio>
#include <vector>

#include "minim/session.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s model.onnx\n", argv[0]);
    return 2;
  }
  const auto session = minim::Session::Load(argv[1]);
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.status().message().c_str());
    return 1;
  }
  std::vector<minim::Tensor> inputs;
  std::vector<minim::ConstView> views;
  for (const minim::TensorInfo& info : (*session)->inputs()) {
    minim::Dims dims;
    for (int64_t size : info.dims) dims.push_back(size < 0 ? 1 : size);  // symbolic dims: one
    inputs.emplace_back(info.dtype, dims);
  }
  for (const minim::Tensor& input : inputs) views.push_back(input.view());
  const auto outputs = (*session)->Run(views);
  if (!outputs.ok()) {
    std::fprintf(stderr, "%s\n", outputs.status().message().c_str());
    return 1;
  }
  for (size_t i = 0; i < outputs->size(); ++i)
    std::printf("%s: %s\n", (*session)->outputs()[i].name.c_str(),
                (*outputs)[i].dims().ToString().c_str());
}
