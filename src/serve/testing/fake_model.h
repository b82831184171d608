// A model for tests: y = 2x over float rows [N, width], which can fail, block and count.
#pragma once

#include <atomic>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "serve/model.h"

namespace minim::serve {

class FakeModel : public Model {
 public:
  explicit FakeModel(int64_t width = 2, float factor = 2)
      : factor_(factor),
        inputs_{{"x", DType::f32, {-1, width}, {"N", ""}}},
        outputs_{{"y", DType::f32, {-1, width}, {"N", ""}}, {"row", DType::i64, {-1}, {"N"}}} {}

  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }

  Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const override {
    WaitWhileBlocked();
    const ConstView& x = inputs[0];
    const int64_t rows = x.dims[0];
    runs_ += 1;
    largest_ = std::max(largest_.load(), rows);
    Tensor y(DType::f32, x.dims), row(DType::i64, {rows});
    if (fault_ == Fault::kFail) return Internal("made to fail");
    if (fault_ == Fault::kSlow) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    // Busy: a sleeper would wait for its processor afterwards, and seem slow.
    const auto until = std::chrono::steady_clock::now() + run_time_;
    while (std::chrono::steady_clock::now() < until) continue;
    for (int64_t i = 0; i < x.size(); ++i) {
      if (x.as<float>()[i] == kPoison) return InvalidArgument("input 'x': poison at {}", i);
      y.as<float>()[i] = factor_ * x.as<float>()[i];
    }
    if (fault_ == Fault::kNaN) y.as<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    if (fault_ == Fault::kDrift)
      for (float& value : y.as<float>()) value = -value;
    for (int64_t i = 0; i < rows; ++i) row.as<int64_t>()[i] = i;
    return std::vector<Tensor>{y, row};
  }

  Status Warm(std::span<const Dims> dims) const override {
    warmed_ += 1;
    return dims[0][0] > 0 ? Status() : InvalidArgument("no rows");
  }

  SessionMemory memory() const override {
    return {.weights = weight_bytes_, .arena = arena_bytes_, .contexts = trimmed_ ? 0u : 1u};
  }
  void Trim() const override { trimmed_ = true; }

  /// What it says it holds; the arena until it is trimmed.
  size_t weight_bytes_ = 0;
  size_t arena_bytes_ = 0;
  mutable std::atomic<bool> trimmed_{false};

  /// While blocked, every Run waits.
  void Block(bool blocked) const {
    {
      std::lock_guard lock(mutex_);
      blocked_ = blocked;
    }
    changed_.notify_all();
  }
  void WaitUntilEntered(int runs) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return entered_ >= runs; });
  }

  /// What is wrong with every Run from now on.
  enum class Fault { kNone, kFail, kNaN, kDrift, kSlow };
  mutable std::atomic<Fault> fault_{Fault::kNone};
  /// What a Run takes besides.
  // More than what is run on the caller's thread: a blocked model must not block that.
  mutable std::chrono::microseconds run_time_{30};
  static constexpr float kPoison = -999;
  mutable std::atomic<int> runs_{0};
  mutable std::atomic<int> warmed_{0};
  mutable std::atomic<int64_t> largest_{0};

 private:
  void WaitWhileBlocked() const {
    std::unique_lock lock(mutex_);
    ++entered_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !blocked_; });
  }

  const float factor_;
  const std::vector<TensorInfo> inputs_;
  const std::vector<TensorInfo> outputs_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable bool blocked_ = false;  // guarded by mutex_
  mutable int entered_ = 0;       // guarded by mutex_
};

}  // namespace minim::serve
