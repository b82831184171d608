// The recurrent layers' gradients, in their own file for their length.
#pragma once

#include "ops/op_def.h"

namespace minim::ops {

/// Errors: kUnsupported with sequence lengths, peepholes, clip, coupled gates, other activations or
/// the batch axis first.
Status LstmGradient(GradContext& g);
Status GruGradient(GradContext& g);

}  // namespace minim::ops
