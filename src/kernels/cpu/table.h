// The CPU kernel table: every row of every family, best first, and what a bind function needs.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "core/dtype.h"
#include "kernels/kernel.h"

namespace minim {

/// The largest error a row may show against the double-precision definition. kUlp: in units of the
/// last place of the result; kDot: times epsilon times the sum of |a||b|.
struct Bound {
  enum Kind : uint8_t { kExact, kUlp, kDot } kind = kExact;
  double factor = 0;
};
constexpr Bound Exact() { return {}; }
constexpr Bound Ulp(double n) { return {Bound::kUlp, n}; }
constexpr Bound Dot(double c) { return {Bound::kDot, c}; }

using BindResult = Result<std::unique_ptr<Kernel>>;
using BindFunction = BindResult (*)(const KernelRequest&);

inline constexpr int kAnyDType = -1;

struct KernelRow {
  std::string_view op;
  Isa isa;
  int dtype;  // of the first present input; kAnyDType fits all
  BindFunction bind;
  std::string_view name;
  Bound bound;
};

std::span<const KernelRow> CpuKernelTable();

/// A kernel that is a function object: run(const KernelArgs&) const.
template <typename F>
class FunctionKernel final : public Kernel {
 public:
  FunctionKernel(std::string description, F run, size_t scratch, std::vector<int> in_place,
                 std::vector<int> packed)
      : run_(std::move(run)),
        description_(std::move(description)),
        scratch_(scratch),
        in_place_(std::move(in_place)),
        packed_(std::move(packed)) {}
  void Run(const KernelArgs& args) const override { run_(args); }
  size_t scratch_bytes() const override { return scratch_; }
  int in_place_input(int output) const override {
    const auto at = static_cast<size_t>(output);
    return at < in_place_.size() ? in_place_[at] : -1;
  }
  bool reads(int input) const override {
    return std::find(packed_.begin(), packed_.end(), input) == packed_.end();
  }
  std::string Describe() const override { return description_; }

 private:
  F run_;
  std::string description_;
  size_t scratch_;
  std::vector<int> in_place_;
  std::vector<int> packed_;
};

/// in_place: by output, the input whose buffer it may share; -1 and missing: none. packed: the
/// inputs that `run` does not read; -1: none.
template <typename F>
std::unique_ptr<Kernel> MakeKernel(std::string description, F run, size_t scratch = 0,
                                   std::vector<int> in_place = {}, std::vector<int> packed = {}) {
  return std::make_unique<FunctionKernel<F>>(std::move(description), std::move(run), scratch,
                                             std::move(in_place), std::move(packed));
}

/// body(unit, piece) for every unit of work, cut over the threads in order; each thread has its own
/// piece_bytes of scratch.
template <typename F>
void RunUnits(const ThreadBudget& threads, void* scratch, int64_t units, size_t piece_bytes,
              F&& body) {
  const int pieces = static_cast<int>(units < threads.threads ? units : threads.threads);
  threads.ParallelFor(pieces, [&](int i) {
    auto* piece = reinterpret_cast<float*>(static_cast<std::byte*>(scratch) + i * piece_bytes);
    for (int64_t unit = units * i / pieces; unit < units * (i + 1) / pieces; ++unit)
      body(unit, piece);
  });
}

/// The request's attributes; an empty set when it has none.
const Attributes& AttributesOf(const KernelRequest& request);
inline bool HasInput(const KernelRequest& request, size_t i) {
  return i < request.inputs.size() && request.inputs[i].present;
}
inline bool HasOutput(const KernelRequest& request, size_t i) {
  return i < request.outputs.size() && request.outputs[i].present;
}
/// Elements of input `i`, 0 if it is absent. -1 is no input, here as for In().
inline int64_t ElementsOf(const KernelRequest& request, int i) {
  const auto at = static_cast<size_t>(i);
  return HasInput(request, at) ? request.inputs[at].dims.Elements() : 0;
}
/// The values of a constant integer input (i32 or i64). Errors: kUnsupported when not constant.
Result<std::vector<int64_t>> ConstantInts(const KernelRequest& request, size_t input);
/// A negative axis counts from the end.
inline int NormalAxis(int64_t axis, int rank) {
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}
/// Errors: kUnsupported unless inputs [first, last) that are present have `dtype`.
Status RequireInputs(const KernelRequest& request, size_t first, size_t last, DType dtype);

/// Errors: kUnsupported if input `i` is present and its dims are not those of output 0.
Status RequireOutputDims(const KernelRequest& request, size_t i);

inline size_t AlignUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <typename T>
const T* In(const KernelArgs& args, size_t i) {
  return i < args.inputs.size() ? static_cast<const T*>(args.inputs[i]) : nullptr;
}
template <typename T>
T* Out(const KernelArgs& args, size_t i) {
  return i < args.outputs.size() ? static_cast<T*>(args.outputs[i]) : nullptr;
}

}  // namespace minim
