// config.pbtxt: Triton's model configuration, as far as minim has the same thing.
#pragma once

#include <string_view>

#include "serve/repository/serving_config.h"

namespace minim::serve {

/// Reads protobuf text into `config`; what is not obeyed is added to config.warnings.
/// `model` is the folder's name, which the file may repeat.
/// Errors: kInvalidArgument with line and column; a name that differs, a count out of range.
Status ReadTritonConfig(std::string_view text, std::string_view model, ServingConfig& config);

/// Checks what config.pbtxt declares against what the model has. `batched`: the declared dims leave
/// the rows out. Errors: kInvalidArgument names the tensor, what was declared and what is there.
Status CheckDeclared(const std::vector<DeclaredTensor>& declared,
                     const std::vector<TensorInfo>& infos, bool batched);

}  // namespace minim::serve
