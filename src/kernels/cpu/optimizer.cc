// The optimizers, for any number of tensors: Adam, Momentum and Adagrad as
// ai.onnx.preview.training defines them (inputs rate, count, X..., G..., states...), and minim's
// own updates, whose gradients' inverse scale and clipping coefficient stand behind the count.
// Outputs are X..., states...; each may share the buffer of the input it replaces.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

constexpr int64_t kGrain = 16384;

// What a node updates: `tensors` parameters, each with a gradient and some states.
struct Update {
  size_t first = 2;  // input of the first parameter
  size_t states = 0;
  std::vector<int64_t> sizes;
  GradientRule gradient;

  size_t tensors() const { return sizes.size(); }
  /// Role 0: X, 1: G, 2: first state ...
  const float* In(const KernelArgs& args, size_t role, size_t i) const {
    return minim::In<float>(args, first + role * tensors() + i);
  }
  /// Role 0: X, 1: first state ...
  float* Out(const KernelArgs& args, size_t role, size_t i) const {
    return minim::Out<float>(args, role * tensors() + i);
  }
  float Rate(const KernelArgs& args) const { return *minim::In<float>(args, 0); }
  int64_t Count(const KernelArgs& args) const { return *minim::In<int64_t>(args, 1); }
  GradientRule Rule(const KernelArgs& args) const {
    GradientRule rule = gradient;
    if (first == 4) {
      rule.inverse_scale = *minim::In<float>(args, 2);
      rule.coefficient = *minim::In<float>(args, 3);
    }
    return rule;
  }
  std::vector<int> InPlace() const {
    std::vector<int> inputs;
    for (size_t role = 0; role <= states; ++role) {
      for (size_t i = 0; i < tensors(); ++i)
        inputs.push_back(static_cast<int>(first + (role + (role > 0)) * tensors() + i));
    }
    return inputs;
  }
};

bool IsOwn(const KernelRequest& request) { return request.op.ends_with("Update"); }

Result<Update> UpdateOf(const KernelRequest& request, size_t states) {
  const Attributes& a = AttributesOf(request);
  const bool own = IsOwn(request);
  Update update{.first = own ? 4u : 2u, .states = states};
  const size_t roles = 2 + states, inputs = request.inputs.size();
  const size_t tensors = inputs < update.first ? 0 : (inputs - update.first) / roles;
  if (tensors == 0 || inputs != update.first + tensors * roles)
    return Unsupported("{} inputs", inputs);
  MINIM_TRY(RequireInputs(request, 2, inputs, DType::f32));
  MINIM_TRY(RequireInputs(request, 0, 1, DType::f32));
  MINIM_TRY(RequireInputs(request, 1, 2, DType::i64));
  for (size_t i = 0; i < tensors; ++i)
    update.sizes.push_back(request.inputs[update.first + i].dims.Elements());
  if (!own) {
    update.gradient.decay = a.Float("norm_coefficient", 0);
    return update;
  }
  if (a.Int("decoupled", 0) == 0) update.gradient.decay = a.Float("weight_decay", 0);
  if (const float limit = a.Float("clip_value", 0); limit > 0) update.gradient.limit = limit;
  return update;
}

// Calls visit(tensor, first, last) over all tensors in parallel ranges.
template <typename Visit>
void ForEachRange(const Update& update, const KernelArgs& args, Visit visit) {
  for (size_t i = 0; i < update.tensors(); ++i) {
    args.threads.ParallelRange(update.sizes[i], kGrain,
                               [&](int64_t first, int64_t last) { visit(i, first, last); });
  }
}

float DecoupledDecay(const KernelRequest& request) {
  const Attributes& a = AttributesOf(request);
  return a.Int("decoupled", 0) != 0 ? a.Float("weight_decay", 0) : 0;
}

struct Corrections {
  double moment = 1, square = 1;  // 1 - beta^t of Adam
};

Corrections CorrectionsAt(int64_t count, float alpha, float beta) {
  if (count <= 0) return {};
  const auto t = static_cast<double>(count);
  return {1 - std::pow(double{alpha}, t), 1 - std::pow(double{beta}, t)};
}

AdamStep AdamOf(const KernelRequest& request) {
  const Attributes& a = AttributesOf(request);
  const bool own = IsOwn(request);
  return {.gradient = {},
          .alpha = a.Float(own ? "beta1" : "alpha", 0.9f),
          .beta = a.Float(own ? "beta2" : "beta", 0.999f),
          .epsilon = a.Float("epsilon", own ? 1e-8f : 1e-6f),
          .keep = own ? 1 : 1 - a.Float("norm_coefficient_post", 0),
          .rate = 0,
          .root_scale = 1};
}

BindResult BindAdam(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(Update update, UpdateOf(request, 2));
  const AdamStep base = AdamOf(request);
  const bool own = IsOwn(request);
  const float decoupled = DecoupledDecay(request);
  const std::vector<int> in_place = update.InPlace();
  return MakeKernel(
      fmt::format("adam {}", level.name),
      [base, own, decoupled, update = std::move(update),
       adam = level.adam](const KernelArgs& args) {
        AdamStep step = base;
        step.gradient = update.Rule(args);
        const double rate = update.Rate(args);
        const Corrections by = CorrectionsAt(update.Count(args), step.alpha, step.beta);
        if (own) {
          step.rate = static_cast<float>(rate / by.moment);
          step.root_scale = static_cast<float>(1 / std::sqrt(by.square));
          step.keep = static_cast<float>(1 - rate * double{decoupled});
        } else {
          step.rate = static_cast<float>(rate * std::sqrt(by.square) / by.moment) * base.keep;
        }
        ForEachRange(update, args, [&](size_t i, int64_t first, int64_t last) {
          adam(step, update.In(args, 0, i) + first, update.In(args, 1, i) + first,
               update.In(args, 2, i) + first, update.In(args, 3, i) + first, last - first,
               update.Out(args, 0, i) + first, update.Out(args, 1, i) + first,
               update.Out(args, 2, i) + first);
        });
      },
      0, in_place);
}

BindResult BindMomentum(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(Update update, UpdateOf(request, 1));
  const Attributes& a = AttributesOf(request);
  const MomentumStep base = {.gradient = {},
                             .alpha = a.Float("alpha", 0),
                             .beta = a.Float("beta", 1),
                             .rate = 0,
                             .nesterov = a.String("mode", "standard") == "nesterov"};
  const std::vector<int> in_place = update.InPlace();
  return MakeKernel(
      fmt::format("momentum {}", level.name),
      [base, update = std::move(update), momentum = level.momentum](const KernelArgs& args) {
        MomentumStep step = base;
        step.gradient = update.Rule(args);
        step.rate = update.Rate(args);
        if (update.Count(args) <= 0) step.beta = 1;
        ForEachRange(update, args, [&](size_t i, int64_t first, int64_t last) {
          momentum(step, update.In(args, 0, i) + first, update.In(args, 1, i) + first,
                   update.In(args, 2, i) + first, last - first, update.Out(args, 0, i) + first,
                   update.Out(args, 1, i) + first);
        });
      },
      0, in_place);
}

BindResult BindSgd(const KernelRequest& request, const RowLevel& level) {
  const Attributes& a = AttributesOf(request);
  const float alpha = a.Float("momentum", 0);
  MINIM_TRY(Update update, UpdateOf(request, alpha != 0 ? 1 : 0));
  const bool nesterov = a.Int("nesterov", 0) != 0;
  const std::vector<int> in_place = update.InPlace();
  return MakeKernel(
      fmt::format("sgd {}", level.name),
      [alpha, nesterov, update = std::move(update), &level](const KernelArgs& args) {
        const MomentumStep step = {.gradient = update.Rule(args),
                                   .alpha = alpha,
                                   .beta = 1,
                                   .rate = update.Rate(args),
                                   .nesterov = nesterov};
        ForEachRange(update, args, [&](size_t i, int64_t first, int64_t last) {
          const float *x = update.In(args, 0, i) + first, *g = update.In(args, 1, i) + first;
          float* next = update.Out(args, 0, i) + first;
          if (alpha == 0) return level.sgd(step.gradient, step.rate, x, g, last - first, next);
          level.momentum(step, x, g, update.In(args, 2, i) + first, last - first, next,
                         update.Out(args, 1, i) + first);
        });
      },
      0, in_place);
}

BindResult BindAdagrad(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(Update update, UpdateOf(request, 1));
  const Attributes& a = AttributesOf(request);
  const bool own = IsOwn(request);
  const AdagradStep base = {
      .gradient = {}, .epsilon = a.Float("epsilon", own ? 1e-10f : 1e-6f), .rate = 0};
  const float decay = a.Float(own ? "rate_decay" : "decay_factor", 0);
  const std::vector<int> in_place = update.InPlace();
  return MakeKernel(
      fmt::format("adagrad {}", level.name),
      [base, decay, own, update = std::move(update),
       adagrad = level.adagrad](const KernelArgs& args) {
        AdagradStep step = base;
        step.gradient = update.Rule(args);
        const auto before = static_cast<float>(update.Count(args) - (own ? 1 : 0));
        step.rate = update.Rate(args) / (1 + before * decay);
        ForEachRange(update, args, [&](size_t i, int64_t first, int64_t last) {
          adagrad(step, update.In(args, 0, i) + first, update.In(args, 1, i) + first,
                  update.In(args, 2, i) + first, last - first, update.Out(args, 0, i) + first,
                  update.Out(args, 1, i) + first);
        });
      },
      0, in_place);
}

BindResult BindRmsprop(const KernelRequest& request, const RowLevel& level) {
  const Attributes& a = AttributesOf(request);
  const RmspropStep base = {.gradient = {},
                            .alpha = a.Float("alpha", 0.99f),
                            .epsilon = a.Float("epsilon", 1e-8f),
                            .momentum = a.Float("momentum", 0),
                            .rate = 0};
  const bool moves = base.momentum != 0;
  MINIM_TRY(Update update, UpdateOf(request, moves ? 2 : 1));
  const std::vector<int> in_place = update.InPlace();
  return MakeKernel(
      fmt::format("rmsprop {}", level.name),
      [base, moves, update = std::move(update), rmsprop = level.rmsprop](const KernelArgs& args) {
        RmspropStep step = base;
        step.gradient = update.Rule(args);
        step.rate = update.Rate(args);
        ForEachRange(update, args, [&](size_t i, int64_t first, int64_t last) {
          rmsprop(step, update.In(args, 0, i) + first, update.In(args, 1, i) + first,
                  update.In(args, 2, i) + first, moves ? update.In(args, 3, i) + first : nullptr,
                  last - first, update.Out(args, 0, i) + first, update.Out(args, 1, i) + first,
                  moves ? update.Out(args, 2, i) + first : nullptr);
        });
      },
      0, in_place);
}

int64_t ChunksOf(int64_t size) { return (size + kGrain - 1) / kGrain; }

// Calls visit(chunk, first, last) over chunks of fixed size, so that sums of chunks do not depend
// on the number of threads.
template <typename Visit>
void ForEachChunk(int64_t size, const KernelArgs& args, Visit visit) {
  args.threads.ParallelRange(ChunksOf(size), 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      visit(chunk, chunk * kGrain, std::min(size, (chunk + 1) * kGrain));
  });
}

// You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020: the
// step of each tensor is as long as the tensor times the rate.
BindResult BindLamb(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(Update update, UpdateOf(request, 2));
  AdamStep base = AdamOf(request);
  base.keep = DecoupledDecay(request);
  int64_t chunks = 1;
  for (int64_t size : update.sizes) chunks = std::max(chunks, ChunksOf(size));
  const std::vector<int> in_place = update.InPlace();
  const auto run = [base, update = std::move(update), &level](const KernelArgs& args) {
    AdamStep step = base;
    step.gradient = update.Rule(args);
    const Corrections by = CorrectionsAt(update.Count(args), step.alpha, step.beta);
    step.rate = static_cast<float>(1 / by.moment);
    step.root_scale = static_cast<float>(1 / std::sqrt(by.square));
    auto* squares = static_cast<float*>(args.scratch);
    for (size_t i = 0; i < update.tensors(); ++i) {
      const float* x = update.In(args, 0, i);
      float *v = update.Out(args, 1, i), *h = update.Out(args, 2, i);
      ForEachChunk(update.sizes[i], args, [&](int64_t chunk, int64_t first, int64_t last) {
        level.lamb_moments(step, x + first, update.In(args, 1, i) + first,
                           update.In(args, 2, i) + first, update.In(args, 3, i) + first,
                           last - first, v + first, h + first, squares + 2 * chunk);
      });
      double parameter = 0, direction = 0;
      for (int64_t chunk = 0; chunk < ChunksOf(update.sizes[i]); ++chunk) {
        parameter += squares[2 * chunk];
        direction += squares[2 * chunk + 1];
      }
      const double trust =
          parameter > 0 && direction > 0 ? std::sqrt(parameter) / std::sqrt(direction) : 1;
      const auto rate = static_cast<float>(update.Rate(args) * trust);
      args.threads.ParallelRange(update.sizes[i], kGrain, [&](int64_t first, int64_t last) {
        level.lamb_apply(step, rate, x + first, v + first, h + first, last - first,
                         update.Out(args, 0, i) + first);
      });
    }
  };
  return MakeKernel(fmt::format("lamb {}", level.name), run,
                    static_cast<size_t>(2 * chunks) * sizeof(float), in_place);
}

// Inputs: inverse scale, G...; outputs: finite, norm, clipping coefficient.
BindResult BindGradientNorm(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(RequireInputs(request, 0, request.inputs.size(), DType::f32));
  std::vector<int64_t> sizes;
  int64_t chunks = 0;
  for (const TensorDesc& input : request.inputs.subspan(1)) {
    sizes.push_back(input.dims.Elements());
    chunks += ChunksOf(sizes.back());
  }
  const double max_norm = AttributesOf(request).Float("max_norm", 0);
  const auto run = [sizes, max_norm, sums = level.gradient_sums](const KernelArgs& args) {
    const float inverse_scale = *In<float>(args, 0);
    auto* parts = static_cast<GradientSums*>(args.scratch);
    int64_t before = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const float* g = In<float>(args, 1 + i);
      ForEachChunk(sizes[i], args, [&](int64_t chunk, int64_t first, int64_t last) {
        parts[before + chunk] = sums(g + first, inverse_scale, last - first);
      });
      before += ChunksOf(sizes[i]);
    }
    double squares = 0;
    bool finite = true;
    for (int64_t i = 0; i < before; ++i) {
      squares += parts[i].squares;
      finite = finite && parts[i].finite;
    }
    const auto norm = static_cast<float>(std::sqrt(squares));
    if (max_norm > 0) finite = finite && std::isfinite(norm);
    if (bool* out = Out<bool>(args, 0)) *out = finite;
    if (float* out = Out<float>(args, 1)) *out = norm;
    if (float* out = Out<float>(args, 2))
      *out = max_norm > 0 ? static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6))) : 1.0f;
  };
  return MakeKernel(fmt::format("gradient norm {}", level.name), run,
                    static_cast<size_t>(chunks) * sizeof(GradientSums));
}

}  // namespace

BindResult ExponentHistogramAny(const KernelRequest& request) {
  MINIM_TRY(RequireInputs(request, 0, request.inputs.size(), DType::f32));
  std::vector<int64_t> sizes;
  for (const TensorDesc& input : request.inputs) sizes.push_back(input.dims.Elements());
  return MakeKernel("exponent histogram", [sizes](const KernelArgs& args) {
    constexpr int kCopies = 4;  // neighbours often share an exponent and would wait for each other
    int64_t counts[kCopies][256] = {};
    for (size_t i = 0; i < sizes.size(); ++i) {
      const auto* bits = In<uint32_t>(args, i);
      for (int64_t k = 0; k < sizes[i]; ++k) ++counts[k % kCopies][bits[k] >> 23 & 0xFF];
    }
    int64_t* out = Out<int64_t>(args, 0);
    for (int e = 0; e < 256; ++e)
      out[e] = counts[0][e] + counts[1][e] + counts[2][e] + counts[3][e];
  });
}

BindResult AdamAvx2(const KernelRequest& request) {
  return BindAdam(request, WidestRows(request.isa));
}
BindResult AdamPortable(const KernelRequest& request) { return BindAdam(request, RowsPortable()); }
BindResult MomentumAvx2(const KernelRequest& request) {
  return BindMomentum(request, WidestRows(request.isa));
}
BindResult MomentumPortable(const KernelRequest& request) {
  return BindMomentum(request, RowsPortable());
}
BindResult SgdAvx2(const KernelRequest& request) {
  return BindSgd(request, WidestRows(request.isa));
}
BindResult SgdPortable(const KernelRequest& request) { return BindSgd(request, RowsPortable()); }
BindResult AdagradAvx2(const KernelRequest& request) {
  return BindAdagrad(request, WidestRows(request.isa));
}
BindResult AdagradPortable(const KernelRequest& request) {
  return BindAdagrad(request, RowsPortable());
}
BindResult RmspropAvx2(const KernelRequest& request) {
  return BindRmsprop(request, WidestRows(request.isa));
}
BindResult RmspropPortable(const KernelRequest& request) {
  return BindRmsprop(request, RowsPortable());
}
BindResult LambAvx2(const KernelRequest& request) {
  return BindLamb(request, WidestRows(request.isa));
}
BindResult LambPortable(const KernelRequest& request) { return BindLamb(request, RowsPortable()); }
BindResult GradientNormAvx2(const KernelRequest& request) {
  return BindGradientNorm(request, WidestRows(request.isa));
}
BindResult GradientNormPortable(const KernelRequest& request) {
  return BindGradientNorm(request, RowsPortable());
}

}  // namespace minim
