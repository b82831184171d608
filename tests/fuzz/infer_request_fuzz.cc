// Fuzzes what a client can put into an infer request: chunked framing, the JSON, the binary tensors
// behind it, and the check against a model's signature.
// Input: one line (the Inference-Header-Content-Length field, or nothing), then the body.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "serve/http/framing.h"
#include "serve/protocol/infer_request.h"
#include "serve/protocol/infer_response.h"
#include "serve/protocol/routes.h"

namespace minim::serve {
namespace {

const std::vector<TensorInfo> kInputs = {{"x", DType::f32, {-1, 2}, {"N", ""}}};
const std::vector<TensorInfo> kOutputs = {{"y", DType::f32, {-1}, {"N"}}};

void FuzzRequest(std::string_view length, std::string body) {
  auto request = ParseInferRequest(body, length);
  if (!request.ok()) {
    MINIM_CHECK(!request.status().message().empty());
    return;
  }
  size_t bytes = 0;
  for (const NamedTensor& input : request->inputs) bytes += input.tensor.bytes();
  // Two characters of JSON make one element of at most eight bytes.
  MINIM_CHECK(bytes <= 4 * body.size() + 8 * request->inputs.size());
  std::vector<AnsweredOutput> echo;
  for (const NamedTensor& input : request->inputs) echo.push_back({input.name, input.tensor});
  MINIM_CHECK(!InferResponse("m", "1", request->id, echo, {}).body.empty());
  if (BindRequest(*request, kInputs, kOutputs, true).ok())
    MINIM_CHECK(request->inputs.size() == 1 && request->inputs[0].tensor.dims()[1] == 2);
}

void FuzzChunks(std::string_view wire) {
  ChunkDecoder whole(1 << 16), bytewise(1 << 16);
  std::string whole_body, body;
  std::string_view rest = wire;
  const bool good = whole.Feed(rest, whole_body);
  bool good_bytewise = true;
  for (size_t i = 0; i < wire.size() && good_bytewise; ++i) {
    std::string_view byte = wire.substr(i, 1);
    good_bytewise = bytewise.Feed(byte, body);
  }
  MINIM_CHECK(whole_body.size() <= 1 << 16);
  MINIM_CHECK(good == good_bytewise && whole.done() == bytewise.done());
  MINIM_CHECK(!good || whole_body == body);
}

}  // namespace
}  // namespace minim::serve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(input.find('\n'), input.size());
  const std::string_view body = input.substr(std::min(line + 1, input.size()));
  minim::serve::FuzzRequest(input.substr(0, line), std::string(body));
  minim::serve::FuzzChunks(body);
  (void)minim::serve::FindRoute("POST", body).ok();
  return 0;
}
