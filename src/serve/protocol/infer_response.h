// The infer answer: JSON, followed by the tensors that were asked for as binary.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "minim/tensor.h"
#include "serve/http/message.h"

namespace minim::serve {

struct AnsweredOutput {
  std::string_view name;
  Tensor tensor;
  bool binary = false;
};

/// How the answer came about; becomes the answer's "parameters".
struct AnswerNotes {
  std::string tier;
  /// Why a tier before it did not answer; empty if none was tried.
  std::string fallback;
  int64_t rows = 1;        // of this request
  int64_t batch_size = 0;  // of the run it was part of
  bool cache_hit = false;
  int64_t queue_us = 0;
  int64_t infer_us = 0;
  int64_t total_us = 0;
};

/// What made this answer cheaper: "int8,batch,cache".
std::string OptimizationsOf(const AnswerNotes& notes);

/// With a binary output the Inference-Header-Content-Length field is set. JSON has no NaN and no
/// infinity: such values are written as null; ask for binary to see them.
HttpResponse InferResponse(std::string_view model, std::string_view version, std::string_view id,
                           const std::vector<AnsweredOutput>& outputs, const AnswerNotes& notes);

}  // namespace minim::serve
