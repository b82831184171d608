#include "kernels/cpu/widened.h"

#include <algorithm>
#include <array>

namespace minim {
namespace {

constexpr size_t kMostValues = 16;

bool Narrow(const TensorDesc& desc) {
  return desc.present && (desc.dtype == DType::f16 || desc.dtype == DType::bf16);
}

// A value that is converted at every run.
struct Edge {
  size_t index = 0;
  DType dtype = DType::f16;
  int64_t count = 0;
  size_t at = 0;  // in scratch
};

void Convert(const ThreadBudget& threads, int64_t n, const void* src, DType from, void* dst,
             DType to) {
  const auto step = [](DType dtype) { return dtype == DType::f32 ? 4 : 2; };
  threads.ParallelRange(n, 65536, [&](int64_t first, int64_t last) {
    const Dims dims{last - first};
    ConvertElements({static_cast<const std::byte*>(src) + first * step(from), from, dims},
                    {static_cast<std::byte*>(dst) + first * step(to), to, dims});
  });
}

class WidenedKernel final : public Kernel {
 public:
  // `constants`: FP32 forms of those inputs that were known at binding, which `kernel` reads.
  WidenedKernel(std::unique_ptr<Kernel> kernel, std::vector<Tensor> constants)
      : constants_(std::move(constants)), kernel_(std::move(kernel)) {
    bytes_ = AlignUp(kernel_->scratch_bytes());
  }
  void AddInput(size_t index, const TensorDesc& desc) { Add(inputs_, index, desc); }
  void AddOutput(size_t index, const TensorDesc& desc) { Add(outputs_, index, desc); }

  void Run(const KernelArgs& args) const override {
    auto* scratch = static_cast<std::byte*>(args.scratch);
    std::array<const void*, kMostValues> in;
    std::array<void*, kMostValues> out;
    std::copy(args.inputs.begin(), args.inputs.end(), in.begin());
    std::copy(args.outputs.begin(), args.outputs.end(), out.begin());
    for (size_t i = 0; i < constants_.size(); ++i)
      if (constants_[i].defined()) in[i] = constants_[i].data();
    for (const Edge& e : inputs_) {
      Convert(args.threads, e.count, args.inputs[e.index], e.dtype, scratch + e.at, DType::f32);
      in[e.index] = scratch + e.at;
    }
    for (const Edge& e : outputs_) out[e.index] = scratch + e.at;
    kernel_->Run({{in.data(), args.inputs.size()},
                  {out.data(), args.outputs.size()},
                  scratch,
                  args.threads});
    for (const Edge& e : outputs_)
      Convert(args.threads, e.count, scratch + e.at, DType::f32, args.outputs[e.index], e.dtype);
  }
  size_t scratch_bytes() const override { return bytes_; }
  std::string Describe() const override { return "16 bits as f32: " + kernel_->Describe(); }

 private:
  void Add(std::vector<Edge>& edges, size_t index, const TensorDesc& desc) {
    edges.push_back({index, desc.dtype, desc.dims.Elements(), bytes_});
    bytes_ += AlignUp(edges.back().count * sizeof(float));
  }

  std::vector<Tensor> constants_;  // by input; undefined where it is none
  std::unique_ptr<Kernel> kernel_;
  std::vector<Edge> inputs_, outputs_;
  size_t bytes_ = 0;
};

}  // namespace

Result<BoundKernel> BindWidened(const KernelRequest& request) {
  std::vector<TensorDesc> inputs(request.inputs.begin(), request.inputs.end()),
      outputs(request.outputs.begin(), request.outputs.end());
  if (std::none_of(inputs.begin(), inputs.end(), Narrow) &&
      std::none_of(outputs.begin(), outputs.end(), Narrow))
    return Unsupported("no value of 16 bits");
  if (inputs.size() > kMostValues || outputs.size() > kMostValues)
    return Unsupported("{} values", std::max(inputs.size(), outputs.size()));
  std::vector<Tensor> constants(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!Narrow(inputs[i])) continue;
    if (inputs[i].constant != nullptr) {
      constants[i] = Converted(inputs[i].ConstantView(), DType::f32);
      inputs[i].constant = constants[i].data();
    }
    inputs[i].dtype = DType::f32;
  }
  for (TensorDesc& output : outputs)
    if (Narrow(output)) output.dtype = DType::f32;
  KernelRequest wide = request;
  wide.row = {};
  wide.inputs = inputs;
  wide.outputs = outputs;
  MINIM_TRY(BoundKernel bound, BindCpuKernel(wide));
  auto kernel = std::make_unique<WidenedKernel>(std::move(bound.kernel), std::move(constants));
  for (size_t i = 0; i < inputs.size(); ++i)
    if (Narrow(request.inputs[i]) && request.inputs[i].constant == nullptr)
      kernel->AddInput(i, request.inputs[i]);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (Narrow(request.outputs[i])) kernel->AddOutput(i, request.outputs[i]);
  bound.kernel = std::move(kernel);
  bound.row = {};
  return bound;
}

}  // namespace minim
