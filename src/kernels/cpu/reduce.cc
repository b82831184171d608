// Reductions over any axes, ArgMax and ArgMin. Float sums accumulate in double: no order of the
// elements can spoil them, and every level gives the same bits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/shape.h"
#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

struct Axis {
  int64_t size, stride;
};

struct Plan {
  std::vector<Axis> kept, reduced;  // outermost first, collapsed; `columns` is not in kept
  int64_t columns = 1;              // innermost kept run; 1 if the innermost axis is reduced
  int64_t outer = 1, count = 1;
  std::vector<int64_t> reduced_offsets;  // of each reduced run's start
  int64_t run = 1;                       // elements of a contiguous reduced run
};

template <typename T>
using SumType = std::conditional_t<kIsFloatType<T>, double, uint64_t>;
template <typename T>
using OrderType = ComputeType<T>;

template <typename T>
constexpr T LowestOf() {
  if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  return std::numeric_limits<T>::lowest();
}
template <typename T>
constexpr T HighestOf() {
  if constexpr (std::is_floating_point_v<T>) return std::numeric_limits<T>::infinity();
  return std::numeric_limits<T>::max();
}

struct SumStep {
  template <typename T>
  using Type = SumType<T>;
  template <typename A>
  static A Start() {
    return A(0);
  }
  template <typename A>
  static A Step(A a, A x) {
    return a + x;
  }
  template <typename A>
  static A End(A a, int64_t) {
    return a;
  }
};
struct MeanStep : SumStep {
  template <typename A>
  static A End(A a, int64_t n) {
    if constexpr (std::is_floating_point_v<A>) return a / static_cast<A>(n);
    return n ? static_cast<A>(static_cast<int64_t>(a) / n) : A(0);
  }
};
struct ProdStep : SumStep {
  template <typename A>
  static A Start() {
    return A(1);
  }
  template <typename A>
  static A Step(A a, A x) {
    return a * x;
  }
};
struct L1Step : SumStep {
  template <typename A>
  static A Step(A a, A x) {
    if constexpr (std::is_floating_point_v<A>) return a + std::fabs(x);
    return a + (static_cast<int64_t>(x) < 0 ? A(0) - x : x);
  }
};
struct SumSquareStep : SumStep {
  template <typename A>
  static A Step(A a, A x) {
    return a + x * x;
  }
};
struct L2Step : SumSquareStep {
  template <typename A>
  static A End(A a, int64_t) {
    return static_cast<A>(std::sqrt(static_cast<double>(a)));
  }
};
struct LogSumStep : SumStep {
  template <typename A>
  static A End(A a, int64_t) {
    if constexpr (std::is_integral_v<A>)  // a wrapped sum; the log of 0 becomes the lowest int64
      return static_cast<A>(ConvertTo<int64_t>(std::log(static_cast<double>(int64_t(a)))));
    else
      return static_cast<A>(std::log(static_cast<double>(a)));
  }
};
struct MaxStep {
  template <typename T>
  using Type = OrderType<T>;
  template <typename A>
  static A Start() {
    return LowestOf<A>();
  }
  template <typename A>
  static A Step(A a, A x) {
    return (x > a || x != x) ? x : a;
  }
  template <typename A>
  static A End(A a, int64_t) {
    return a;
  }
};
struct MinStep : MaxStep {
  template <typename A>
  static A Start() {
    return HighestOf<A>();
  }
  template <typename A>
  static A Step(A a, A x) {
    return (x < a || x != x) ? x : a;
  }
};

int64_t OffsetOf(const std::vector<Axis>& axes, int64_t index) {
  int64_t offset = 0;
  for (size_t i = axes.size(); i-- > 0;) {
    offset += index % axes[i].size * axes[i].stride;
    index /= axes[i].size;
  }
  return offset;
}

template <typename Op, typename A>
A Fold(A a, A b) {
  if constexpr (std::is_same_v<Op, ProdStep>) return a * b;
  if constexpr (std::is_base_of_v<MaxStep, Op>) return Op::Step(a, b);
  return a + b;
}

template <typename Op, typename T, typename A>
A ReduceRun(const T* src, int64_t n, A start) {
  constexpr int64_t kLanes = 8;
  A lanes[kLanes];
  for (A& lane : lanes) lane = Op::template Start<A>();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j)
      lanes[j] = Op::Step(lanes[j], static_cast<A>(ComputeType<T>(src[i + j])));
  }
  for (; i < n; ++i) start = Op::Step(start, static_cast<A>(ComputeType<T>(src[i])));
  if (n >= kLanes) {
    // Lanes hold finished terms: fold them as sums, products or extremes do.
    for (A lane : lanes) start = Fold<Op>(start, lane);
  }
  return start;
}

template <typename Op, typename T>
void ReduceRows(const Plan& p, const T* src, T* dst, int64_t first, int64_t last) {
  using A = typename Op::template Type<T>;
  for (int64_t i = first; i < last; ++i) {
    const T* base = src + OffsetOf(p.kept, i);
    A sum = Op::template Start<A>();
    for (int64_t offset : p.reduced_offsets) sum = ReduceRun<Op, T, A>(base + offset, p.run, sum);
    dst[i] = ConvertTo<T>(Op::End(sum, p.count));
  }
}

// Several rows at once: their sums are loaded and stored less often.
template <typename Op, int rows, typename T, typename A>
void StepRows(const T* base, const int64_t* offsets, int64_t n, A* sums) {
  for (int64_t j = 0; j < n; ++j) {
    A sum = sums[j];
    for (int i = 0; i < rows; ++i)
      sum = Op::Step(sum, static_cast<A>(ComputeType<T>(base[offsets[i] + j])));
    sums[j] = sum;
  }
}

template <typename Op, typename T>
void ReduceColumns(const Plan& p, const T* src, T* dst, int64_t first, int64_t last) {
  using A = typename Op::template Type<T>;
  constexpr int64_t kBlock = 128;
  A sums[kBlock];
  const int64_t blocks = (p.columns + kBlock - 1) / kBlock;
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t i = unit / blocks, column = unit % blocks * kBlock;
    const int64_t n = std::min(kBlock, p.columns - column);
    const T* base = src + OffsetOf(p.kept, i) + column;
    std::fill_n(sums, n, Op::template Start<A>());
    const std::span<const int64_t> offsets = p.reduced_offsets;
    size_t row = 0;
    for (; row + 4 <= offsets.size(); row += 4) StepRows<Op, 4>(base, &offsets[row], n, sums);
    for (; row < offsets.size(); ++row) StepRows<Op, 1>(base, &offsets[row], n, sums);
    for (int64_t j = 0; j < n; ++j)
      dst[i * p.columns + column + j] = ConvertTo<T>(Op::End(sums[j], p.count));
  }
}

template <typename Op, typename T>
void Reduce(const Plan& p, const KernelArgs& args) {
  const T* src = In<T>(args, 0);
  T* dst = Out<T>(args, 0);
  if (p.columns == 1) {
    args.threads.ParallelRange(
        p.outer, 16384 / std::max<int64_t>(1, p.count) + 1,
        [&](int64_t first, int64_t last) { ReduceRows<Op>(p, src, dst, first, last); });
  } else {
    const int64_t units = p.outer * ((p.columns + 127) / 128);
    args.threads.ParallelRange(
        units, 128 / std::max<int64_t>(1, p.count) + 1,
        [&](int64_t first, int64_t last) { ReduceColumns<Op>(p, src, dst, first, last); });
  }
}

// log(sum(exp(x))), shifted by the largest x so that nothing overflows.
struct LogSumExp {
  template <typename T>
  static void Run(const Plan& p, const KernelArgs& args) {
    for (int64_t i = 0; i < p.outer * p.columns; ++i) {
      const T* base = In<T>(args, 0) + OffsetOf(p.kept, i / p.columns) + i % p.columns;
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      const auto walk = [&](auto&& f) {
        for (int64_t offset : p.reduced_offsets) {
          for (int64_t j = 0; j < p.run; ++j)
            f(static_cast<double>(ComputeType<T>(base[offset + j])));
        }
      };
      walk([&](double x) { top = MaxStep::Step(top, x); });
      const double shift = std::isfinite(top) ? top : 0;
      walk([&](double x) { sum += std::exp(x - shift); });
      const double result = std::log(sum) + shift;
      if constexpr (std::is_integral_v<T>)
        Out<T>(args, 0)[i] = static_cast<T>(ConvertTo<int64_t>(result));
      else
        Out<T>(args, 0)[i] = ConvertTo<T>(result);
    }
  }
};

Result<std::vector<bool>> ReducedAxes(const KernelRequest& request) {
  const int rank = request.inputs[0].dims.rank();
  std::vector<int64_t> axes = AttributesOf(request).Ints("axes");
  if (HasInput(request, 1)) {
    MINIM_TRY(axes, ConstantInts(request, 1));
  }
  const bool all = axes.empty() && AttributesOf(request).Int("noop_with_empty_axes", 0) == 0;
  std::vector<bool> reduced(rank, all);
  for (int64_t axis : axes) {
    const int at = NormalAxis(axis, rank);
    if (at < 0 || at >= rank) return Unsupported("axis {} of rank {}", axis, rank);
    reduced[at] = true;
  }
  return reduced;
}

Plan PlanOf(const Dims& dims, const std::vector<bool>& reduced) {
  Plan p;
  const Dims strides = RowMajorStrides(dims);
  std::vector<bool> kinds;  // of the collapsed axes, in order
  for (int i = 0; i < dims.rank(); ++i) {
    if (dims[i] == 1) continue;
    std::vector<Axis>& list = reduced[i] ? p.reduced : p.kept;
    if (!kinds.empty() && kinds.back() == reduced[i]) {
      list.back() = {list.back().size * dims[i], strides[i]};
    } else {
      list.push_back({dims[i], strides[i]});
      kinds.push_back(reduced[i]);
    }
  }
  for (const Axis& axis : p.reduced) p.count *= axis.size;
  std::vector<Axis> starts = p.reduced;
  if (!kinds.empty() && kinds.back()) {
    p.run = starts.back().size;
    starts.pop_back();
  } else if (!p.kept.empty()) {
    p.columns = p.kept.back().size;
    p.kept.pop_back();
  }
  for (const Axis& axis : p.kept) p.outer *= axis.size;
  int64_t runs = 1;
  for (const Axis& axis : starts) runs *= axis.size;
  for (int64_t i = 0; i < runs; ++i) p.reduced_offsets.push_back(OffsetOf(starts, i));
  return p;
}

template <typename F>
BindResult VisitReducible(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f.template operator()<float>();
    case DType::f64: return f.template operator()<double>();
    case DType::f16: return f.template operator()<Half>();
    case DType::bf16: return f.template operator()<BFloat16>();
    case DType::i32: return f.template operator()<int32_t>();
    case DType::i64: return f.template operator()<int64_t>();
    case DType::i8: return f.template operator()<int8_t>();
    case DType::u8: return f.template operator()<uint8_t>();
    default: return Unsupported("dtype {}", Name(dtype));
  }
}

template <typename Op>
BindResult BindReduce(const KernelRequest& request) {
  MINIM_TRY(const std::vector<bool> reduced, ReducedAxes(request));
  Plan plan = PlanOf(request.inputs[0].dims, reduced);
  return VisitReducible(request.inputs[0].dtype, [&]<typename T>() -> BindResult {
    return MakeKernel("reduce", [plan = std::move(plan)](const KernelArgs& args) {
      if constexpr (std::is_same_v<Op, LogSumExp>) {
        LogSumExp::Run<T>(plan, args);
      } else {
        Reduce<Op, T>(plan, args);
      }
    });
  });
}

struct ArgPlan {
  int64_t outer, n, inner;
  bool largest, last;
};

template <typename T>
void ArgBest(const ArgPlan& p, const KernelArgs& args) {
  for (int64_t i = 0; i < p.outer * p.inner; ++i) {
    const T* src = In<T>(args, 0) + i / p.inner * p.n * p.inner + i % p.inner;
    int64_t best = 0;
    for (int64_t j = 1; j < p.n; ++j) {
      const auto x = ComputeType<T>(src[j * p.inner]), y = ComputeType<T>(src[best * p.inner]);
      if ((p.largest ? x > y : x < y) || (p.last && x == y)) best = j;
    }
    Out<int64_t>(args, 0)[i] = best;
  }
}

BindResult BindArg(const KernelRequest& request, bool largest) {
  const Dims& x = request.inputs[0].dims;
  const int axis = NormalAxis(AttributesOf(request).Int("axis", 0), x.rank());
  if (axis < 0 || axis >= x.rank()) return Unsupported("axis out of range");
  const ArgPlan p{x.Elements(0, axis), x[axis], x.Elements(axis + 1, x.rank()), largest,
                  AttributesOf(request).Int("select_last_index", 0) != 0};
  return VisitReducible(request.inputs[0].dtype, [&]<typename T>() -> BindResult {
    return MakeKernel(largest ? "arg max" : "arg min",
                      [p](const KernelArgs& args) { ArgBest<T>(p, args); });
  });
}

}  // namespace

BindResult ReduceSumAny(const KernelRequest& request) { return BindReduce<SumStep>(request); }
BindResult ReduceMeanAny(const KernelRequest& request) { return BindReduce<MeanStep>(request); }
BindResult ReduceMaxAny(const KernelRequest& request) { return BindReduce<MaxStep>(request); }
BindResult ReduceMinAny(const KernelRequest& request) { return BindReduce<MinStep>(request); }
BindResult ReduceProdAny(const KernelRequest& request) { return BindReduce<ProdStep>(request); }
BindResult ReduceL1Any(const KernelRequest& request) { return BindReduce<L1Step>(request); }
BindResult ReduceL2Any(const KernelRequest& request) { return BindReduce<L2Step>(request); }
BindResult ReduceSumSquareAny(const KernelRequest& request) {
  return BindReduce<SumSquareStep>(request);
}
BindResult ReduceLogSumAny(const KernelRequest& request) { return BindReduce<LogSumStep>(request); }
BindResult ReduceLogSumExpAny(const KernelRequest& request) {
  return BindReduce<LogSumExp>(request);
}
BindResult ArgMaxAny(const KernelRequest& request) { return BindArg(request, true); }
BindResult ArgMinAny(const KernelRequest& request) { return BindArg(request, false); }

}  // namespace minim
