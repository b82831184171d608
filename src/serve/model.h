// Model: what serving needs of something that computes. The production one wraps a Session.
// Threads: Run may be called concurrently.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "minim/session.h"

namespace minim::serve {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

class Model {
 public:
  virtual ~Model() = default;
  virtual const std::vector<TensorInfo>& inputs() const = 0;
  virtual const std::vector<TensorInfo>& outputs() const = 0;
  /// One view per input, in the order of inputs(). Returns one tensor per output.
  virtual Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const = 0;
  /// Makes the first Run with these dims as fast as later ones.
  virtual Status Warm(std::span<const Dims> input_dims) const = 0;
  virtual SessionMemory memory() const = 0;
  /// Gives back what no Run uses now; the next runs take it anew.
  virtual void Trim() const = 0;
};

/// One way to run one version of a model: a file, and the tier's name ("fp32", "int8").
struct TierSource {
  std::string tier;
  Path path;
  /// Run matrix products of this file in BF16, although the file says FP32.
  bool bf16_arithmetic = false;
  /// Run it by portable kernels only.
  bool portable_kernels = false;
};

using ModelLoader = std::function<Result<std::shared_ptr<Model>>(const TierSource&)>;

/// True if every input and output leads with a symbolic dim, so that rows can be put together.
inline bool IsBatchable(const Model& model) {
  const auto leads = [](const std::vector<TensorInfo>& infos) {
    for (const TensorInfo& info : infos)
      if (!info.ranked || info.dims.empty() || info.dims[0] >= 0) return false;
    return !infos.empty();
  };
  return leads(model.inputs()) && leads(model.outputs());
}

}  // namespace minim::serve
