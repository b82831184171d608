// NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss and its gradient, FP32. Scores are
// [N, C, D...], labels [N, D...]. A label outside [0, C) counts as ignored: a kernel cannot report.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/rows.h"

namespace minim {
namespace {

enum class Reduction { kNone, kMean, kSum };

struct Plan {
  int64_t n = 1, c = 1, d = 1;
  bool wide = true;  // labels are i64
  bool has_ignore = false;
  int64_t ignore = 0;
  Reduction reduction = Reduction::kMean;
  void (*softmax)(const float*, float*, int64_t, int64_t, bool) = nullptr;

  int64_t Label(const void* labels, int64_t i) const {
    const int64_t label =
        wide ? static_cast<const int64_t*>(labels)[i] : static_cast<const int32_t*>(labels)[i];
    return (has_ignore && label == ignore) || label < 0 || label >= c ? -1 : label;
  }
  // The weight of row i: 0 when ignored.
  double Weight(const void* labels, const float* weights, int64_t i) const {
    const int64_t label = Label(labels, i);
    return label < 0 ? 0 : (weights ? weights[label] : 1.0);
  }
  double TotalWeight(const void* labels, const float* weights) const {
    double total = 0;
    for (int64_t i = 0; i < n * d; ++i) total += Weight(labels, weights, i);
    return total;
  }
  // Where (row i, class) lies in the scores.
  int64_t At(int64_t i, int64_t label) const { return (i / d * c + label) * d + i % d; }
};

Result<Plan> PlanOf(const KernelRequest& request, const Dims& scores, size_t labels) {
  if (scores.rank() < 2) return Unsupported("scores of rank {}", scores.rank());
  Plan p{.n = scores[0], .c = scores[1], .d = scores.Elements(2, scores.rank())};
  const DType dtype = request.inputs[labels].dtype;
  if (dtype != DType::i64 && dtype != DType::i32) return Unsupported("labels are {}", Name(dtype));
  p.wide = dtype == DType::i64;
  const Attributes& attributes = AttributesOf(request);
  p.has_ignore = attributes.Has("ignore_index");
  p.ignore = attributes.Int("ignore_index", 0);
  const std::string reduction = attributes.String("reduction", "mean");
  p.reduction = reduction == "none"  ? Reduction::kNone
                : reduction == "sum" ? Reduction::kSum
                                     : Reduction::kMean;
  return p;
}

void Loss(const Plan& p, const float* log_prob, const void* labels, const float* weights,
          float* y) {
  double sum = 0;
  for (int64_t i = 0; i < p.n * p.d; ++i) {
    const int64_t label = p.Label(labels, i);
    const double loss = label < 0 ? 0 : -p.Weight(labels, weights, i) * log_prob[p.At(i, label)];
    if (p.reduction == Reduction::kNone) y[i] = static_cast<float>(loss);
    sum += loss;
  }
  if (p.reduction == Reduction::kSum) *y = static_cast<float>(sum);
  if (p.reduction == Reduction::kMean)
    *y = static_cast<float>(sum / p.TotalWeight(labels, weights));
}

void LogSoftmax(const Plan& p, const float* scores, float* log_prob, const ThreadBudget& threads) {
  const int64_t block = p.c * p.d;
  threads.ParallelRange(p.n, 8192 / std::max<int64_t>(1, block) + 1,
                        [&](int64_t first, int64_t last) {
                          for (int64_t i = first; i < last; ++i)
                            p.softmax(scores + i * block, log_prob + i * block, p.c, p.d, true);
                        });
}

BindResult BindCrossEntropy(const KernelRequest& request, const RowLevel& level) {
  MINIM_TRY(Plan p, PlanOf(request, request.inputs[0].dims, 1));
  p.softmax = level.softmax;
  const size_t scratch = HasOutput(request, 1) ? 0 : AlignUp(p.n * p.c * p.d * sizeof(float));
  return MakeKernel(
      fmt::format("softmax cross entropy {}", level.name),
      [p](const KernelArgs& args) {
        float* log_prob =
            Out<float>(args, 1) ? Out<float>(args, 1) : static_cast<float*>(args.scratch);
        LogSoftmax(p, In<float>(args, 0), log_prob, args.threads);
        Loss(p, log_prob, args.inputs[1], In<float>(args, 2), Out<float>(args, 0));
      },
      scratch);
}

// dscores = scale * weight * (softmax - onehot).
void Gradient(const Plan& p, const KernelArgs& args) {
  const float *dy = In<float>(args, 0), *log_prob = In<float>(args, 1),
              *weights = In<float>(args, 3);
  const void* labels = args.inputs[2];
  const double total = p.reduction == Reduction::kMean ? p.TotalWeight(labels, weights) : 1;
  for (int64_t i = 0; i < p.n * p.d; ++i) {
    const int64_t label = p.Label(labels, i);
    const double up = p.reduction == Reduction::kNone ? dy[i] : dy[0];
    const auto scale =
        static_cast<float>(label < 0 ? 0 : up * p.Weight(labels, weights, i) / total);
    for (int64_t c = 0; c < p.c; ++c) {
      const int64_t at = p.At(i, c);
      const float target = c == label ? 1.0f : 0.0f;
      Out<float>(args, 0)[at] = label < 0 ? 0 : scale * (std::exp(log_prob[at]) - target);
    }
  }
}

}  // namespace

BindResult CrossEntropyAvx2(const KernelRequest& request) {
  return BindCrossEntropy(request, WidestRows(request.isa));
}
BindResult CrossEntropyPortable(const KernelRequest& request) {
  return BindCrossEntropy(request, RowsPortable());
}

BindResult NegativeLogLikelihoodPortable(const KernelRequest& request) {
  MINIM_TRY(const Plan p, PlanOf(request, request.inputs[0].dims, 1));
  return MakeKernel("negative log likelihood", [p](const KernelArgs& args) {
    Loss(p, In<float>(args, 0), args.inputs[1], In<float>(args, 2), Out<float>(args, 0));
  });
}

BindResult CrossEntropyGradPortable(const KernelRequest& request) {
  MINIM_TRY(const Plan p, PlanOf(request, request.inputs[1].dims, 2));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  return MakeKernel("softmax cross entropy gradient",
                    [p](const KernelArgs& args) { Gradient(p, args); });
}

}  // namespace minim
