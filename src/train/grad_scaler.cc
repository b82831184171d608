#include "minim/grad_scaler.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/dtype.h"
#include "train/saved_values.h"

namespace minim {
namespace {

constexpr size_t kMostChanges = 10000;
// Adaptive: updates after which the scale is chosen anew, and bounds of its distance to overflow.
constexpr int64_t kAdaptiveWindow = 16;
constexpr int kLeastHeadroom = 1, kMostHeadroom = 14, kFirstHeadroom = 3;
constexpr int kLargestHalfExponent = 15;

Status CheckOptions(const GradScalerOptions& o) {
  if (!(o.growth_factor > 1) || !std::isfinite(o.growth_factor))
    return InvalidArgument("growth_factor is {}, expected more than 1", o.growth_factor);
  if (!(o.backoff_factor > 0 && o.backoff_factor < 1))
    return InvalidArgument("backoff_factor is {}, expected between 0 and 1", o.backoff_factor);
  if (o.growth_interval < 1)
    return InvalidArgument("growth_interval is {}, expected at least 1", o.growth_interval);
  if (!(o.initial_scale > 0))
    return InvalidArgument("initial_scale is {}, expected a positive number", o.initial_scale);
  if (!(o.min_scale >= 0) || !(o.max_scale >= o.min_scale))
    return InvalidArgument(
        "min_scale is {} and max_scale is {}, expected 0 <= min_scale <= max_scale", o.min_scale,
        o.max_scale);
  return {};
}

// Multiplies all elements; false if one was not finite before.
template <typename T>
bool UnscaleElements(std::span<T> values, float inverse) {
  bool finite = true;
  for (T& value : values) {
    const auto x = static_cast<float>(value);
    finite = finite && std::isfinite(x);
    value = static_cast<T>(x * inverse);
  }
  return finite;
}

bool UnscaleElements(std::span<float> values, float inverse) {
  uint32_t worst = 0;
  for (float& value : values) {
    const uint32_t exponent = std::bit_cast<uint32_t>(value) & 0x7F800000u;
    worst = exponent > worst ? exponent : worst;
    value *= inverse;
  }
  return worst != 0x7F800000u;
}

bool UnscaleElements(std::span<double> values, float inverse) {
  bool finite = true;
  for (double& value : values) {
    finite = finite && std::isfinite(value);
    value *= static_cast<double>(inverse);
  }
  return finite;
}

template <typename T>
void CountExponents(std::span<const T> values, ExponentHistogram& histogram) {
  for (T value : values)
    ++histogram.counts[std::bit_cast<uint32_t>(static_cast<float>(value)) >> 23 & 0xFF];
}

}  // namespace

int64_t ExponentHistogram::total() const {
  int64_t sum = 0;
  for (int64_t count : counts) sum += count;
  return sum;
}

int64_t ExponentHistogram::small() const {
  int64_t sum = 0;
  for (int exponent = -126; exponent < -14; ++exponent) sum += counts[exponent + 127];
  return sum;
}

int ExponentHistogram::largest_exponent() const {
  for (int biased = 254; biased > 0; --biased)
    if (counts[biased] > 0) return biased - 127;
  return -127;
}

Result<GradScaler> GradScaler::Make(const GradScalerOptions& options) {
  MINIM_TRY(CheckOptions(options));
  return GradScaler(options);
}

GradScaler::GradScaler(const GradScalerOptions& options) : options_(options) { Reset(); }

void GradScaler::Reset() {
  scale_ = static_cast<float>(
      std::clamp(options_.initial_scale, options_.min_scale, options_.max_scale));
  tracker_ = 0;
  stuck_ = false;
  optimizers_.clear();
  window_top_ = last_top_ = kNothingSeen;
  headroom_ = kFirstHeadroom;
  statistics_ = {};
  statistics_.history.push_back({0, scale_});
}

float GradScaler::inverse_scale() const {
  return options_.enabled ? static_cast<float>(1 / static_cast<double>(scale_)) : 1.0f;
}

Status GradScaler::MayUnscale(int optimizer) const {
  const auto it = optimizers_.find(optimizer);
  if (it == optimizers_.end() || it->second.stage == Stage::kReady) return {};
  if (it->second.stage == Stage::kUnscaled)
    return InvalidArgument(
        "optimizer {}: its gradients were unscaled already since the last Update()", optimizer);
  return InvalidArgument("optimizer {}: gradients cannot be unscaled after Step(); call Update()",
                         optimizer);
}

Status GradScaler::MarkUnscaled(int optimizer, bool finite) {
  Optimizer& state = optimizers_[optimizer];
  state.stage = Stage::kUnscaled;
  state.checked = true;
  state.finite = state.finite && finite;
  return {};
}

Status GradScaler::Unscale(int optimizer, std::span<const View> gradients) {
  if (!options_.enabled) return {};
  MINIM_TRY(MayUnscale(optimizer));
  for (size_t i = 0; i < gradients.size(); ++i) {
    const DType dtype = gradients[i].dtype;
    if (dtype == DType::f16)
      return InvalidArgument(
          "gradient {} is f16: unscaling it would overflow or vanish again; keep gradients in f32",
          i);
    if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f64)
      return InvalidArgument("gradient {} is {}, expected f32, bf16 or f64", i, Name(dtype));
  }
  bool finite = true;
  const float inverse = inverse_scale();
  ExponentHistogram histogram;
  for (const View& view : gradients) {
    if (adaptive()) {
      if (view.dtype == DType::f32) CountExponents<float>(view.as<float>(), histogram);
      if (view.dtype == DType::f64) CountExponents<double>(view.as<double>(), histogram);
      if (view.dtype == DType::bf16) CountExponents<BFloat16>(view.as<BFloat16>(), histogram);
    }
    bool clean = true;
    if (view.dtype == DType::f32) clean = UnscaleElements(view.as<float>(), inverse);
    if (view.dtype == DType::f64) clean = UnscaleElements(view.as<double>(), inverse);
    if (view.dtype == DType::bf16) clean = UnscaleElements(view.as<BFloat16>(), inverse);
    finite = finite && clean;
  }
  Note(histogram);
  return MarkUnscaled(optimizer, finite);
}

Status GradScaler::Record(int optimizer, bool finite) {
  if (!options_.enabled) return {};
  MINIM_TRY(MayUnscale(optimizer));
  return MarkUnscaled(optimizer, finite);
}

Status GradScaler::Record(int optimizer, const ExponentHistogram& gradients, bool finite) {
  MINIM_TRY(Record(optimizer, finite));
  if (options_.enabled) Note(gradients);
  return {};
}

void GradScaler::Note(const ExponentHistogram& gradients) {
  statistics_.underflows += gradients.small();
  statistics_.elements += gradients.total();
  if (const int top = gradients.largest_exponent(); top > -127)
    window_top_ = std::max(window_top_, top - std::ilogb(scale_));
}

Result<bool> GradScaler::Step(int optimizer, std::span<const View> gradients,
                              const std::function<Status()>& update) {
  if (!options_.enabled) {
    MINIM_TRY(update());
    return true;
  }
  if (optimizers_[optimizer].stage == Stage::kStepped)
    return InvalidArgument("optimizer {}: Step() was called already since the last Update()",
                           optimizer);
  if (optimizers_[optimizer].stage == Stage::kReady) MINIM_TRY(Unscale(optimizer, gradients));
  Optimizer& state = optimizers_[optimizer];
  if (state.finite) MINIM_TRY(update());
  state.stage = Stage::kStepped;
  return state.finite;
}

void GradScaler::SetScale(double scale) {
  const auto next = static_cast<float>(std::clamp(scale, options_.min_scale, options_.max_scale));
  if (next == scale_) return;
  ++(next > scale_ ? statistics_.growths : statistics_.backoffs);
  scale_ = next;
  if (statistics_.history.size() == kMostChanges)
    statistics_.history.erase(statistics_.history.begin() + 1);
  statistics_.history.push_back({statistics_.updates, scale_});
}

// The power of two that brings the largest recent gradient to the headroom below FP16's largest.
double GradScaler::AdaptiveScale() {
  const int top = std::max(window_top_, last_top_);
  last_top_ = window_top_;
  window_top_ = kNothingSeen;
  return top == kNothingSeen ? scale_ : std::exp2(kLargestHalfExponent - headroom_ - top);
}

void GradScaler::Finish(bool clean) {
  ++statistics_.updates;
  stuck_ = !clean && scale_ <= static_cast<float>(options_.min_scale);
  if (!clean) {
    ++statistics_.overflows;
    tracker_ = 0;
    headroom_ = std::min(headroom_ + 1, kMostHeadroom);
    return SetScale(static_cast<float>(scale_ * options_.backoff_factor));
  }
  ++tracker_;
  const bool due = tracker_ == options_.growth_interval;
  if (due) tracker_ = 0;
  if (options_.adaptive) {
    if (due) headroom_ = std::max(headroom_ - 1, kLeastHeadroom);
    if (statistics_.updates % kAdaptiveWindow == 0) SetScale(AdaptiveScale());
    return;
  }
  const auto grown = static_cast<float>(scale_ * options_.growth_factor);
  if (due && std::isfinite(grown)) SetScale(grown);
}

Status GradScaler::Update() {
  if (!options_.enabled) return {};
  bool checked = false, clean = true;
  for (const auto& [id, optimizer] : optimizers_) {
    checked = checked || optimizer.checked;
    clean = clean && optimizer.finite;
  }
  if (!checked)
    return InvalidArgument(
        "no gradients were checked since the last Update(); call Unscale() or Step() first");
  Finish(clean);
  optimizers_.clear();
  return {};
}

Status GradScaler::Update(float scale) {
  if (!options_.enabled) return {};
  if (!(scale > 0))
    return InvalidArgument("the new scale is {}, expected a positive number", scale);
  ++statistics_.updates;
  SetScale(scale);
  optimizers_.clear();
  return {};
}

std::map<std::string, std::string> GradScaler::Save() const {
  const GradScalerStatistics& s = statistics_;
  SavedValues saved;
  Put(saved, "scaler.scale", scale_);
  Put(saved, "scaler.growth_factor", options_.growth_factor);
  Put(saved, "scaler.backoff_factor", options_.backoff_factor);
  Put(saved, "scaler.growth_interval", options_.growth_interval);
  Put(saved, "scaler.growth_tracker", tracker_);
  Put(saved, "scaler.window_top", window_top_);
  Put(saved, "scaler.last_top", last_top_);
  Put(saved, "scaler.headroom", headroom_);
  Put(saved, "scaler.updates", s.updates);
  Put(saved, "scaler.overflows", s.overflows);
  Put(saved, "scaler.growths", s.growths);
  Put(saved, "scaler.backoffs", s.backoffs);
  Put(saved, "scaler.underflows", s.underflows);
  Put(saved, "scaler.elements", s.elements);
  return saved;
}

Status GradScaler::Restore(const std::map<std::string, std::string>& saved) {
  GradScaler read(options_);
  GradScalerOptions& o = read.options_;
  GradScalerStatistics& s = read.statistics_;
  MINIM_TRY(Get(saved, "scaler.scale", read.scale_));
  MINIM_TRY(Get(saved, "scaler.growth_factor", o.growth_factor));
  MINIM_TRY(Get(saved, "scaler.backoff_factor", o.backoff_factor));
  MINIM_TRY(Get(saved, "scaler.growth_interval", o.growth_interval));
  MINIM_TRY(Get(saved, "scaler.growth_tracker", read.tracker_));
  MINIM_TRY(Get(saved, "scaler.window_top", read.window_top_));
  MINIM_TRY(Get(saved, "scaler.last_top", read.last_top_));
  MINIM_TRY(Get(saved, "scaler.headroom", read.headroom_));
  MINIM_TRY(Get(saved, "scaler.updates", s.updates));
  MINIM_TRY(Get(saved, "scaler.overflows", s.overflows));
  MINIM_TRY(Get(saved, "scaler.growths", s.growths));
  MINIM_TRY(Get(saved, "scaler.backoffs", s.backoffs));
  MINIM_TRY(Get(saved, "scaler.underflows", s.underflows));
  MINIM_TRY(Get(saved, "scaler.elements", s.elements));
  MINIM_TRY(Annotate(CheckOptions(o), "saved loss scaler"));
  if (!(read.scale_ >= 0))
    return InvalidArgument("saved loss scaler: the scale is {}, expected a positive number",
                           read.scale_);
  s.history = {{s.updates, read.scale_}};
  *this = std::move(read);
  return {};
}

}  // namespace minim
