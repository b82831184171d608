// Serves a model inside this process: many futures at once, answered in batches.
// build/release/examples/05_serve_in_process model.onnx
#include <cstdio>
#include <future>
#include <vector>

#include "minim/server.h"

namespace {

int Fail(const minim::Status& status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

double Milliseconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s model.onnx or a model repository\n", argv[0]);
    return 2;
  }
  const auto server = minim::Server::Start({.path = argv[1]});
  if (!server.ok()) return Fail(server.status());
  const std::string model = (*server)->Models().front().name;
  const auto signature = (*server)->Describe(model);
  if (!signature.ok()) return Fail(signature.status());

  minim::PredictRequest request{.model = model, .use_cache = false};
  for (const minim::TensorInfo& info : signature->inputs) {
    minim::Dims dims;
    for (int64_t size : info.dims) dims.push_back(size < 0 ? 1 : size);  // symbolic dims: one
    request.inputs.push_back({info.name, minim::Tensor(info.dtype, dims)});
  }
  std::vector<std::future<minim::Result<minim::Prediction>>> answers;
  for (int i = 0; i < 100; ++i) answers.push_back((*server)->Predict(request));
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto answer = answers[i].get();
    if (!answer.ok()) return Fail(answer.status());
    if (i > 0) continue;
    for (const auto& [name, tensor] : answer->outputs)
      std::printf("%s: %s\n", name.c_str(), tensor.dims().ToString().c_str());
  }
  const minim::PredictionStats stats = (*server)->Stats().total;
  std::printf("%zu predictions, %zu failed, %zu runs; p50 %.3f ms, p99 %.3f ms\n",
              static_cast<size_t>(stats.predictions), static_cast<size_t>(stats.failures),
              static_cast<size_t>(stats.runs), Milliseconds(stats.p50), Milliseconds(stats.p99));
}
