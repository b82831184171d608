// Request targets: the path as decoded segments.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace minim::serve {

/// The segments of a target's path, percent-decoded after splitting, so that %2F never makes a new
/// one. The query is dropped. Understands "/a/b?q", and "http://host/a/b" as proxies send it.
Result<std::vector<std::string>> PathSegments(std::string_view target);

}  // namespace minim::serve
