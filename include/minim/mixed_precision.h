// Mixed precision for training loops of your own: FP32 masters, working copies in 16 bits, moments,
// loss scaling and clipping, around gradients that you compute.
// Threads: one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "minim/grad_scaler.h"
#include "minim/train.h"

namespace minim {

struct MixedPrecisionOptions {
  TrainPrecision precision = TrainPrecision::kFp16;  // of the working copies; not kAuto
  OptimizerSpec optimizer;
  GradScalerOptions scaler;  // used with FP16
  double ema_decay = 0;      // > 0: averages() follow the masters
  int threads = 1;
};

struct MixedPrecisionStep {
  bool stepped = false;  // false: a gradient was not finite, and masters and moments are as before
  double norm = 0;       // of the unscaled gradients, before clipping
  double scale = 1;      // that the loss was multiplied by
};

class MixedPrecisionTrainer {
 public:
  struct Parameter {
    std::string name;  // unique
    Tensor value;      // f32; copied
  };

  /// Computes the gradients of `loss_scale` times the loss with respect to the working copies into
  /// `gradients` (f32, the shapes of the parameters, zeros at the call). An error ends the step.
  using GradientFunction = std::function<Status(std::span<const Tensor> working, float loss_scale,
                                                std::span<Tensor> gradients)>;

  /// Errors: kInvalidArgument for parameters that are not f32 or share a name, and for options that
  /// cannot work.
  static Result<std::unique_ptr<MixedPrecisionTrainer>> Make(
      const std::vector<Parameter>& parameters, const MixedPrecisionOptions& options);
  virtual ~MixedPrecisionTrainer() = default;

  /// Gradients, unscaling, clipping, update, loss scale, working copies: in this order.
  virtual Result<MixedPrecisionStep> Step(const GradientFunction& gradients, double rate) = 0;

  /// In the order of the parameters; they change with each step.
  virtual std::span<const Tensor> working() const = 0;   // of `precision`
  virtual std::span<const Tensor> masters() const = 0;   // f32
  virtual std::span<const Tensor> averages() const = 0;  // f32; empty without ema_decay
  virtual const GradScaler& scaler() const = 0;
  /// Weights, moments, gradients, working copies and what the update needs besides.
  virtual size_t bytes() const = 0;

  /// One safetensors file, replaced atomically; restored, training goes on with the same bits.
  virtual Status Save(const std::string& path) const = 0;
  /// Errors: kNotFound, kDataLoss; kInvalidArgument for another model's file. Nothing is changed
  /// then.
  virtual Status Restore(const std::string& path) = 0;
};

}  // namespace minim
