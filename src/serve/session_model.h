// The production Model: a Session behind the seam.
#pragma once

#include "serve/model.h"

namespace minim::serve {

/// Adapts a session; one thread per run, because concurrency comes from the instances.
std::shared_ptr<Model> WrapSession(std::shared_ptr<const Session> session);

/// Loads a tier's file. A ModelLoader.
Result<std::shared_ptr<Model>> LoadSessionModel(const TierSource& source);

}  // namespace minim::serve
