// Shared by the kernel tests: bind and run one request, seeded inputs, comparisons.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/philox.h"
#include "kernels/cpu/table.h"

namespace minim {

inline Tensor Uniform(const Dims& dims, uint64_t seed, float low = -1, float high = 1) {
  Tensor tensor(DType::f32, dims);
  const Philox random(seed);
  auto values = tensor.as<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = low + (high - low) * random.Uniform(i);
  return tensor;
}

template <typename T>
Tensor Integers(const Dims& dims, uint64_t seed, int64_t low, int64_t high) {
  Tensor tensor(kDTypeOf<T>, dims);
  const Philox random(seed);
  auto values = tensor.as<T>();
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(low + random.Below(i, static_cast<uint32_t>(high - low + 1)));
  return tensor;
}

inline Tensor Bytes(DType dtype, const Dims& dims, uint64_t seed) {
  return dtype == DType::u8 ? Integers<uint8_t>(dims, seed, 0, 255)
                            : Integers<int8_t>(dims, seed, -128, 127);
}

/// One request and its tensors. An undefined input tensor is an absent one.
struct KernelCase {
  std::string op;
  Attributes attributes;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::vector<int> constants;  // inputs known at binding
  const ElementwiseProgram* program = nullptr;
  int threads = 1;
};

inline TensorDesc DescOf(const Tensor& tensor) {
  TensorDesc desc;
  desc.present = tensor.defined();
  if (!desc.present) return desc;
  desc.dtype = tensor.dtype();
  desc.dims = tensor.dims();
  return desc;
}

/// A case bound at one level: owns what the kernel borrows.
class BoundCase {
 public:
  BoundCase(KernelCase& test, Isa isa) : case_(test), packs_(MakePackStore()) {
    for (const Tensor& input : test.inputs) inputs_.push_back(DescOf(input));
    for (const Tensor& output : test.outputs) outputs_.push_back(DescOf(output));
    for (int i : test.constants) inputs_[i].constant = test.inputs[i].data();
    request_ = {.op = test.op,
                .attributes = &test.attributes,
                .inputs = inputs_,
                .outputs = outputs_,
                .program = test.program,
                .isa = isa,
                .threads = test.threads,
                .packs = packs_.get()};
    bound_ = std::make_unique<Result<BoundKernel>>(BindCpuKernel(request_));
    if (!bound_->ok()) return;
    scratch_ = Tensor(DType::u8, Dims{static_cast<int64_t>(kernel().scratch_bytes())});
    if (test.threads > 1) pool_ = std::make_unique<ThreadPool>(test.threads - 1);
  }
  bool ok() const { return bound_->ok(); }
  const Status& status() const { return bound_->status(); }
  const KernelRequest& request() const { return request_; }
  const Kernel& kernel() const { return *(*bound_)->kernel; }
  const BoundKernel& bound() const { return **bound_; }

  void Run() {
    in_.clear();
    out_.clear();
    for (Tensor& input : case_.inputs) in_.push_back(input.data());
    for (Tensor& output : case_.outputs) out_.push_back(output.data());
    if (scratch_.size() > 0) std::memset(scratch_.data(), 0xFF, scratch_.bytes());
    RunPrepared();
  }
  /// Run again with the pointers of the last Run.
  void RunPrepared() { kernel().Run({in_, out_, scratch_.data(), {pool_.get(), case_.threads}}); }

 private:
  KernelCase& case_;
  std::unique_ptr<PackStore> packs_;
  std::vector<TensorDesc> inputs_, outputs_;
  KernelRequest request_;
  std::unique_ptr<Result<BoundKernel>> bound_;
  Tensor scratch_;
  std::vector<const void*> in_;
  std::vector<void*> out_;
  std::unique_ptr<ThreadPool> pool_;
};

/// The levels this machine can run that have rows of their own.
inline std::vector<Isa> TestLevels() {
  std::vector<Isa> levels;
  for (Isa isa : kIsas)
    if (DetectIsa() >= isa) levels.push_back(isa);
  return levels;
}

inline void RunCase(KernelCase& test, Isa isa) {
  BoundCase bound(test, isa);
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  bound.Run();
}

/// |a - b| <= absolute + relative |b| elementwise; both-NaN and equal infinities agree.
inline void ExpectNear(std::span<const float> actual, const std::vector<double>& expected,
                       double relative, double absolute, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = actual[i], b = expected[i];
    if (std::isnan(a) && std::isnan(b)) continue;
    if (a == b || actual[i] == static_cast<float>(b)) continue;
    ASSERT_LE(std::fabs(a - b), absolute + relative * std::fabs(b))
        << what << " element " << i << ": " << a << " against " << b;
  }
}

inline bool SameBytes(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

}  // namespace minim
