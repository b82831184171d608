// Adagrad, Adam and Momentum of ai.onnx.preview.training. Inputs: rate R, update count T, then the
// tensors X..., their gradients G..., and one or two accumulators each; outputs are the new X...
// and accumulators.
#include <cmath>

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

// Calls update(x, g, first accumulator, second accumulator), which changes all but g.
template <typename F>
Status UpdateAll(RefContext& op, int groups, F&& update) {
  const int n = (op.input_count() - 2) / groups;
  for (int i = 0; i < n; ++i) {
    const auto x = op.input(2 + i).f64(), g = op.input(2 + n + i).f64();
    const auto v = op.input(2 + 2 * n + i).f64();
    const auto h = groups == 4 ? op.input(2 + 3 * n + i).f64() : v;
    const auto new_x = op.Output(i).f64(), new_v = op.Output(n + i).f64();
    const auto new_h = groups == 4 ? op.Output(2 * n + i).f64() : new_v;
    for (size_t k = 0; k < x.size(); ++k) {
      double a = x[k], b = v[k], c = h[k];
      update(a, g[k], b, c);
      new_x[k] = a;
      if (groups == 4) new_h[k] = c;
      new_v[k] = b;
    }
  }
  return {};
}

Status AdagradReference(RefContext& op) {
  const Attributes& a = op.attributes();
  const double decay = a.Float("decay_factor", 0), norm = a.Float("norm_coefficient", 0);
  const double epsilon = a.Float("epsilon", 1e-6f);
  const double rate = op.input(0).At(0) / (1 + op.input(1).At(0) * decay);
  return UpdateAll(op, 3, [&](double& x, double g, double& h, double&) {
    const double gradient = norm * x + g;
    h += gradient * gradient;
    x -= rate * gradient / (std::sqrt(h) + epsilon);
  });
}

Status MomentumReference(RefContext& op) {
  const Attributes& a = op.attributes();
  const double alpha = a.Float("alpha", 0), norm = a.Float("norm_coefficient", 0);
  const double rate = op.input(0).At(0), count = op.input(1).At(0);
  const double beta = count > 0 ? a.Float("beta", 1) : 1;
  const bool nesterov = a.String("mode", "standard") == "nesterov";
  return UpdateAll(op, 3, [&](double& x, double g, double& v, double&) {
    const double gradient = norm * x + g;
    v = alpha * v + beta * gradient;
    x -= rate * (nesterov ? gradient + alpha * v : v);
  });
}

Status AdamReference(RefContext& op) {
  const Attributes& a = op.attributes();
  const double alpha = a.Float("alpha", 0.9f), beta = a.Float("beta", 0.999f);
  const double epsilon = a.Float("epsilon", 1e-6f), norm = a.Float("norm_coefficient", 0);
  const double post = a.Float("norm_coefficient_post", 0), count = op.input(1).At(0);
  const double correction =
      count > 0 ? std::sqrt(1 - std::pow(beta, count)) / (1 - std::pow(alpha, count)) : 1;
  const double rate = op.input(0).At(0) * correction;
  return UpdateAll(op, 4, [&](double& x, double g, double& v, double& h) {
    const double gradient = norm * x + g;
    v = alpha * v + (1 - alpha) * gradient;
    h = beta * h + (1 - beta) * gradient * gradient;
    x = (1 - post) * (x - rate * v / (std::sqrt(h) + epsilon));
  });
}

OpDef Define(std::string name, int groups, std::function<Status(RefContext&)> reference,
             std::string samples) {
  return {.name = std::move(name),
          .domain = std::string(kTrainingDomain),
          .onnx_since = {1},
          .min_inputs = 2 + groups,
          .max_inputs = -1,
          .dtypes = kFloatTypes,
          .infer = [groups](InferContext& op) { return InferUpdate(op, 2, groups); },
          .reference = std::move(reference),
          .precision = PrecisionClass::kFp32,
          .samples = std::move(samples)};
}

}  // namespace

std::vector<OpDef> Optimizers() {
  return {
      Define("Adagrad", 3, AdagradReference,
             "a, b = Adagrad(r: f32 = [0.1], t: i64 = [3], x: f32[2,3], g: f32[2,3], h: f32[2,3] = "
             "uniform(1,2)) {decay_factor=0.1, epsilon=1e-5, norm_coefficient=0.001}"),
      Define(
          "Adam", 4, AdamReference,
          "a, b, c = Adam(r: f32 = [0.1], t: i64 = [3], x: f32[5], g: f32[5], v: f32[5], h: f32[5] "
          "= "
          "uniform(0,1)) {alpha=0.9, beta=0.99, epsilon=1e-5, norm_coefficient=0.001, "
          "norm_coefficient_post=0.01}\n"
          "a, b, c, d, e, f = Adam(r: f32 = [0.1], t: i64 = [0], x: f32[1], y: f32[2], g: f32[1], "
          "k: f32[2], v: f32[1], w: f32[2], h: f32[1] = uniform(0,1), i: f32[2] = uniform(0,1))"),
      Define("Momentum", 3, MomentumReference,
             "a, b = Momentum(r: f32 = [0.1], t: i64 = [3], x: f32[2,3], g: f32[2,3], v: f32[2,3]) "
             "{alpha=0.9, beta=0.8, mode=\"standard\", norm_coefficient=0.001}\n"
             "a, b = Momentum(r: f32 = [0.1], t: i64 = [0], x: f32[3], g: f32[3], v: f32[3]) "
             "{alpha=0.9, beta=0.8, mode=\"nesterov\", norm_coefficient=0.0}"),
  };
}

}  // namespace minim::ops
