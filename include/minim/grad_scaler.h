// Dynamic loss scaling: gradients of FP16 values are computed from a loss times a scale, so that
// small ones do not vanish, and divided by it before they are used. The rules are those of
// PyTorch's torch.amp.GradScaler; min_scale = 0 and max_scale = infinity make it that exactly.
// Threads: one thread at a time.
#pragma once

#include <array>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

struct GradScalerOptions {
  bool enabled = true;  // false: the scale is 1, nothing is checked, every step is taken
  double initial_scale = 65536;
  double growth_factor = 2;     // after growth_interval clean updates in a row
  double backoff_factor = 0.5;  // after an update that was not clean
  int64_t growth_interval = 2000;
  double min_scale = 1;
  double max_scale = 262144;
  /// The scale follows the largest gradients seen by GradScaler::Unscale or Record instead of
  /// growing by trial.
  bool adaptive = false;
};

/// How many elements of the scaled gradients have each biased exponent of FP32: [0] are zeros and
/// FP32's subnormals, [255] infinities and NaNs.
struct ExponentHistogram {
  std::array<int64_t, 256> counts = {};

  int64_t total() const;
  /// Elements that FP16 holds as zero or with fewer than 11 bits: below 2^-14, zeros not counted.
  int64_t small() const;
  /// floor(log2) of the largest finite element; -127 if all are zero.
  int largest_exponent() const;
};

struct GradScalerStatistics {
  int64_t updates = 0;
  int64_t overflows = 0;   // updates with a gradient that was not finite
  int64_t growths = 0;     // updates that raised the scale ...
  int64_t backoffs = 0;    // ... and that lowered it
  int64_t underflows = 0;  // elements below FP16's normal range, where histograms were recorded ...
  int64_t elements = 0;    // ... of so many
  struct Change {
    int64_t update = 0;
    double scale = 0;
  };
  std::vector<Change> history;  // the first scale and every other one after it, the last 10,000
};

class GradScaler {
 public:
  /// Errors: kInvalidArgument for factors and bounds that cannot work, naming them.
  static Result<GradScaler> Make(const GradScalerOptions& options = {});

  /// What the loss is multiplied by.
  float scale() const { return options_.enabled ? scale_ : 1.0f; }
  /// What gradients are multiplied by: float(1 / double(scale)).
  float inverse_scale() const;
  /// Clean updates since the scale last changed.
  int64_t growth_tracker() const { return tracker_; }
  bool enabled() const { return options_.enabled; }
  /// True if Record() should be given histograms.
  bool adaptive() const { return options_.enabled && options_.adaptive; }
  /// True if the last update was not clean although the scale stood at its minimum already.
  bool stuck() const { return stuck_; }

  /// Multiplies gradients (f32, bf16 or f64, changed in place) of one optimizer by the inverse
  /// scale and remembers whether all were finite. Once per optimizer between updates, before Step.
  /// Errors: kInvalidArgument for f16 gradients, or a call out of order.
  Status Unscale(int optimizer, std::span<const View> gradients);

  /// In place of Unscale where a graph has unscaled and checked the gradients.
  Status Record(int optimizer, bool finite);
  /// The same, and what the scaled gradients looked like.
  Status Record(int optimizer, const ExponentHistogram& gradients, bool finite);

  /// Calls `update` unless a gradient of this optimizer was not finite; unscales first if that was
  /// not done. Returns whether it was called; a schedule advances only then.
  Result<bool> Step(int optimizer, std::span<const View> gradients,
                    const std::function<Status()>& update);

  /// Ends an iteration: any optimizer's bad gradients back the scale off, else its count of clean
  /// updates grows. Errors: kInvalidArgument if nothing was checked since the last update.
  Status Update();
  /// Sets another scale instead.
  Status Update(float scale);

  /// Everything a resumed run needs, as text of numbers that reads back to the same bits.
  std::map<std::string, std::string> Save() const;
  /// Errors: kInvalidArgument names the entry that is missing or no number; nothing is changed
  /// then.
  Status Restore(const std::map<std::string, std::string>& saved);
  /// As made: the first scale, no statistics.
  void Reset();

  const GradScalerStatistics& statistics() const { return statistics_; }
  const GradScalerOptions& options() const { return options_; }

 private:
  enum class Stage { kReady, kUnscaled, kStepped };
  struct Optimizer {
    Stage stage = Stage::kReady;
    bool checked = false;
    bool finite = true;
  };

  explicit GradScaler(const GradScalerOptions& options);
  Status MarkUnscaled(int optimizer, bool finite);
  Status MayUnscale(int optimizer) const;
  void Note(const ExponentHistogram& gradients);
  void Finish(bool clean);
  void SetScale(double scale);
  double AdaptiveScale();

  GradScalerOptions options_;
  float scale_ = 1;
  int64_t tracker_ = 0;
  bool stuck_ = false;
  std::map<int, Optimizer> optimizers_;
  // Adaptive: the largest unscaled exponent of this window and of the last, and how many powers of
  // two below FP16's largest it is kept.
  int window_top_ = kNothingSeen, last_top_ = kNothingSeen, headroom_ = 3;
  GradScalerStatistics statistics_;

  static constexpr int kNothingSeen = std::numeric_limits<int>::min();
};

}  // namespace minim
