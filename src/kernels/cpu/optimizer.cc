// Adam, Momentum and Adagrad as ai.onnx.preview.training defines them, for any number of tensors:
// inputs R, T, X..., G..., states...; outputs X..., states.... Every output may share the buffer of
// the input it replaces.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

constexpr int64_t kGrain = 16384;

// Calls update(tensor, first, last) over all tensors in parallel ranges.
template <typename Update>
void ForEachRange(const std::vector<int64_t>& sizes, const KernelArgs& args, Update update) {
  for (size_t i = 0; i < sizes.size(); ++i) {
    args.threads.ParallelRange(sizes[i], kGrain,
                               [&](int64_t first, int64_t last) { update(i, first, last); });
  }
}

// Element counts of the X tensors, given how many tensors (X, G, states) belong to each.
Result<std::vector<int64_t>> Sizes(const KernelRequest& request, size_t per_tensor) {
  const size_t tensors = request.inputs.size() < 2 ? 0 : (request.inputs.size() - 2) / per_tensor;
  if (tensors == 0 || request.inputs.size() != 2 + tensors * per_tensor)
    return Unsupported("{} inputs", request.inputs.size());
  MINIM_TRY(RequireInputs(request, 2, request.inputs.size(), DType::f32));
  MINIM_TRY(RequireInputs(request, 0, 1, DType::f32));
  MINIM_TRY(RequireInputs(request, 1, 2, DType::i64));
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < tensors; ++i) sizes.push_back(request.inputs[2 + i].dims.Elements());
  return sizes;
}

// Input `role` (0 X, 1 G, 2 first state, ...) of tensor i.
const float* Read(const KernelArgs& args, size_t tensors, size_t role, size_t i) {
  return In<float>(args, 2 + role * tensors + i);
}

BindResult BindAdam(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(std::vector<int64_t> sizes, Sizes(request, 4));
  const Attributes& a = AttributesOf(request);
  const AdamStep base{a.Float("alpha", 0.9f),
                      a.Float("beta", 0.999f),
                      a.Float("epsilon", 1e-6f),
                      a.Float("norm_coefficient", 0),
                      a.Float("norm_coefficient_post", 0),
                      0};
  return MakeKernel(
      fmt::format("adam {}", level.name),
      [base, sizes = std::move(sizes), adam = level.adam](const KernelArgs& args) {
        AdamStep step = base;
        const double rate = *In<float>(args, 0);
        const auto t = static_cast<double>(*In<int64_t>(args, 1));
        const double adjust = t > 0 ? std::sqrt(1 - std::pow(double{step.beta}, t)) /
                                          (1 - std::pow(double{step.alpha}, t))
                                    : 1;
        step.rate = static_cast<float>(rate * adjust);
        const size_t n = sizes.size();
        ForEachRange(sizes, args, [&](size_t i, int64_t first, int64_t last) {
          adam(step, Read(args, n, 0, i) + first, Read(args, n, 1, i) + first,
               Read(args, n, 2, i) + first, Read(args, n, 3, i) + first, last - first,
               Out<float>(args, i) + first, Out<float>(args, n + i) + first,
               Out<float>(args, 2 * n + i) + first);
        });
      },
      0, 2);
}

BindResult BindMomentum(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(std::vector<int64_t> sizes, Sizes(request, 3));
  const Attributes& a = AttributesOf(request);
  const MomentumStep base{a.Float("alpha", 0.9f), a.Float("beta", 1),
                          a.Float("norm_coefficient", 0), 0,
                          a.String("mode", "standard") == "nesterov"};
  return MakeKernel(
      fmt::format("momentum {}", level.name),
      [base, sizes = std::move(sizes), momentum = level.momentum](const KernelArgs& args) {
        MomentumStep step = base;
        step.rate = *In<float>(args, 0);
        if (*In<int64_t>(args, 1) <= 0) step.beta = 1;
        const size_t n = sizes.size();
        ForEachRange(sizes, args, [&](size_t i, int64_t first, int64_t last) {
          momentum(step, Read(args, n, 0, i) + first, Read(args, n, 1, i) + first,
                   Read(args, n, 2, i) + first, last - first, Out<float>(args, i) + first,
                   Out<float>(args, n + i) + first);
        });
      },
      0, 2);
}

BindResult BindAdagrad(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(std::vector<int64_t> sizes, Sizes(request, 3));
  const Attributes& a = AttributesOf(request);
  const AdagradStep base{a.Float("epsilon", 1e-6f), a.Float("norm_coefficient", 0), 0};
  const float decay = a.Float("decay_factor", 0);
  return MakeKernel(
      fmt::format("adagrad {}", level.name),
      [base, decay, sizes = std::move(sizes), adagrad = level.adagrad](const KernelArgs& args) {
        AdagradStep step = base;
        step.rate = *In<float>(args, 0) / (1 + static_cast<float>(*In<int64_t>(args, 1)) * decay);
        const size_t n = sizes.size();
        ForEachRange(sizes, args, [&](size_t i, int64_t first, int64_t last) {
          adagrad(step, Read(args, n, 0, i) + first, Read(args, n, 1, i) + first,
                  Read(args, n, 2, i) + first, last - first, Out<float>(args, i) + first,
                  Out<float>(args, n + i) + first);
        });
      },
      0, 2);
}

}  // namespace

BindResult AdamAvx2(const KernelRequest& request) { return BindAdam(request, RowsAvx2()); }
BindResult AdamPortable(const KernelRequest& request) { return BindAdam(request, RowsPortable()); }
BindResult MomentumAvx2(const KernelRequest& request) { return BindMomentum(request, RowsAvx2()); }
BindResult MomentumPortable(const KernelRequest& request) {
  return BindMomentum(request, RowsPortable());
}
BindResult AdagradAvx2(const KernelRequest& request) { return BindAdagrad(request, RowsAvx2()); }
BindResult AdagradPortable(const KernelRequest& request) {
  return BindAdagrad(request, RowsPortable());
}

}  // namespace minim
