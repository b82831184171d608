// oneDNN's FP32 convolution and its two gradients on row-major images, split over the batch.
// Constant weights are reordered once to the layout the implementation likes.
#include <algorithm>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/dnnl_primitive.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/window.h"

namespace minim {
namespace {

enum class Direction { kForward, kInput, kWeights };

struct Problem {
  Direction direction;
  Dims image, weights, result;  // weights as [g, m, c, k...] when grouped
  bool bias = false, relu = false;
  int spatial = 2;
  dnnl_dims_t strides{}, dilations{}, begin{}, end{};
};

Result<Problem> ProblemOf(const KernelRequest& request, Direction direction, const Dims& image,
                          const Dims& weights, const Dims& result) {
  const Attributes& attributes = AttributesOf(request);
  MINIM_TRY(const Window w, WindowOf(attributes, image, result, weights.span().subspan(2)));
  Problem p{.direction = direction, .image = image, .result = result, .spatial = image.rank() - 2};
  const int64_t groups = attributes.Int("group", 1);
  if (groups < 1 || weights[0] % groups != 0) return Unsupported("{} groups", groups);
  if (groups > 1) p.weights.push_back(groups);
  p.weights.push_back(weights[0] / groups);
  for (int i = 1; i < weights.rank(); ++i) p.weights.push_back(weights[i]);
  for (int i = 0; i < p.spatial; ++i) {
    const int axis = 3 - p.spatial + i;
    p.strides[i] = w.stride[axis];
    p.dilations[i] = w.dilation[axis] - 1;
    p.begin[i] = w.begin[axis];
    p.end[i] = (w.out[axis] - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1 -
               w.in[axis] - w.begin[axis];
  }
  if (image.Elements() == 0 || result.Elements() == 0 || weights.Elements() == 0)
    return Unsupported("nothing to do");
  return p;
}

Dims WithBatch(Dims dims, int64_t batch) {
  dims[0] = batch;
  return dims;
}

Result<dnnl_primitive_desc_t> ForwardDesc(const Problem& p, int64_t batch,
                                          const dnnl_memory_desc_t& weights) {
  const dnnl_memory_desc_t src = DnnlPlain(WithBatch(p.image, batch).span()),
                           dst = DnnlPlain(WithBatch(p.result, batch).span());
  const int64_t channels[] = {p.result[1]};
  const dnnl_memory_desc_t bias = DnnlPlain(channels);
  dnnl_convolution_desc_t conv;
  const dnnl_prop_kind_t kind =
      p.direction == Direction::kForward ? dnnl_forward_inference : dnnl_forward_training;
  const DnnlAttributes attributes(p.relu);
  dnnl_primitive_desc_t desc = nullptr;
  const bool ok =
      dnnl_dilated_convolution_forward_desc_init(
          &conv, kind, dnnl_convolution_direct, &src, &weights, p.bias ? &bias : nullptr, &dst,
          p.strides, p.dilations, p.begin, p.end) == dnnl_success &&
      dnnl_primitive_desc_create(&desc, &conv, attributes.get(), DnnlEngine(), nullptr) ==
          dnnl_success;
  if (!ok) return Unsupported("oneDNN refuses this convolution");
  return desc;
}

Result<dnnl_primitive_desc_t> GradientDesc(const Problem& p, int64_t batch,
                                           const dnnl_memory_desc_t& weights) {
  const dnnl_memory_desc_t any = DnnlAny(p.weights.span());
  MINIM_TRY(dnnl_primitive_desc_t hint, ForwardDesc(p, batch, any));
  const dnnl_memory_desc_t src = DnnlPlain(WithBatch(p.image, batch).span()),
                           dst = DnnlPlain(WithBatch(p.result, batch).span());
  dnnl_convolution_desc_t conv;
  const dnnl_status_t status = p.direction == Direction::kInput
                                   ? dnnl_dilated_convolution_backward_data_desc_init(
                                         &conv, dnnl_convolution_direct, &src, &weights, &dst,
                                         p.strides, p.dilations, p.begin, p.end)
                                   : dnnl_dilated_convolution_backward_weights_desc_init(
                                         &conv, dnnl_convolution_direct, &src, &weights, nullptr,
                                         &dst, p.strides, p.dilations, p.begin, p.end);
  const DnnlAttributes attributes(false);
  dnnl_primitive_desc_t desc = nullptr;
  const bool ok = status == dnnl_success &&
                  dnnl_primitive_desc_create(&desc, &conv, attributes.get(), DnnlEngine(), hint) ==
                      dnnl_success;
  dnnl_primitive_desc_destroy(hint);
  if (!ok) return Unsupported("oneDNN refuses this gradient");
  return desc;
}

// One primitive over `batch` images. Arguments: its two sources, [bias], its result.
Result<std::shared_ptr<const DnnlPrimitive>> Compile(const Problem& p, int64_t batch,
                                                     const dnnl_memory_desc_t& weights,
                                                     dnnl_memory_desc_t* chosen) {
  MINIM_TRY(dnnl_primitive_desc_t desc, p.direction == Direction::kForward
                                            ? ForwardDesc(p, batch, weights)
                                            : GradientDesc(p, batch, weights));
  const dnnl_memory_desc_t src = DnnlPlain(WithBatch(p.image, batch).span()),
                           dst = DnnlPlain(WithBatch(p.result, batch).span());
  *chosen = DnnlQuery(desc, p.direction == Direction::kWeights ? dnnl_query_diff_weights_md
                                                               : dnnl_query_weights_md);
  const int64_t channels[] = {p.result[1]};
  std::vector<DnnlArg> args;
  if (p.direction == Direction::kForward) {
    args = {{DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, *chosen}};
    if (p.bias) args.push_back({DNNL_ARG_BIAS, DnnlPlain(channels)});
    args.push_back({DNNL_ARG_DST, dst});
  } else if (p.direction == Direction::kInput) {
    args = {{DNNL_ARG_DIFF_DST, dst}, {DNNL_ARG_WEIGHTS, *chosen}, {DNNL_ARG_DIFF_SRC, src}};
  } else {
    args = {{DNNL_ARG_DIFF_DST, dst}, {DNNL_ARG_SRC, src}, {DNNL_ARG_DIFF_WEIGHTS, *chosen}};
  }
  return DnnlPrimitive::Create(desc, std::move(args));
}

struct Plan {
  std::shared_ptr<const DnnlPrimitive> whole, rest;  // of `chunk` images, and of the last piece
  std::shared_ptr<const std::byte> weights;
  int64_t chunk = 1, batch = 1;
  int64_t a_image = 0, b_image = 0, y_image = 0;  // elements per image; 0: not split
  bool bias = false;
  bool residual = false;  // added, then activated, after the primitive
  Activation activation;
  int64_t pixels = 1;
  size_t piece_bytes = 0;
};

void AddResidual(const Plan& p, const KernelArgs& args, int64_t image, int64_t images) {
  const int64_t at = image * p.y_image;
  const Epilogue epilogue{
      .residual = In<float>(args, 3) + at, .residual_stride = p.pixels, .activation = p.activation};
  GemmAvx2().finish(epilogue, images * p.y_image / p.pixels, p.pixels, Out<float>(args, 0) + at,
                    p.pixels);
}

void Run(const Plan& p, const KernelArgs& args) {
  const int pieces = static_cast<int>((p.batch + p.chunk - 1) / p.chunk);
  args.threads.ParallelFor(pieces, [&](int i) {
    const int64_t image = i * p.chunk;
    void* pointers[5];
    int n = 0;
    pointers[n++] = const_cast<float*>(In<float>(args, 0) + image * p.a_image);
    pointers[n++] =
        p.weights ? const_cast<std::byte*>(p.weights.get())
                  : static_cast<void*>(const_cast<float*>(In<float>(args, 1) + image * p.b_image));
    if (p.bias) pointers[n++] = const_cast<float*>(In<float>(args, 2));
    pointers[n++] = Out<float>(args, 0) + image * p.y_image;
    pointers[n++] = static_cast<std::byte*>(args.scratch) + i * p.piece_bytes;
    const bool last = i + 1 == pieces;
    (last ? p.rest : p.whole)->Execute({pointers, static_cast<size_t>(n)});
    if (p.residual) AddResidual(p, args, image, std::min(p.chunk, p.batch - image));
  });
}

Status PackConstant(const KernelRequest& request, const Problem& problem,
                    const dnnl_memory_desc_t& chosen, Plan* plan) {
  const dnnl_memory_desc_t plain = DnnlPlain(problem.weights.span());
  const size_t bytes = dnnl_memory_desc_get_size(&chosen);
  std::string key = "dnnl";
  for (const char c : std::string_view(reinterpret_cast<const char*>(&chosen), sizeof(chosen)))
    key += fmt::format("{:02x}", static_cast<unsigned char>(c));
  Status status;
  plan->weights =
      request.packs->GetOrPack(request.inputs[1].ConstantView(), key, bytes, [&](std::byte* blob) {
        status = DnnlReorder(plain, request.inputs[1].constant, chosen, blob);
      });
  return status;
}

BindResult Bind(const KernelRequest& request, const Problem& problem, Activation after = {}) {
  DnnlConfigure(request.isa);
  Plan plan{.batch = problem.image[0], .bias = problem.bias, .activation = after};
  plan.residual = problem.direction == Direction::kForward && HasInput(request, 3);
  plan.pixels = problem.result.Elements(2, problem.result.rank());
  const int64_t pieces = problem.direction == Direction::kWeights
                             ? 1
                             : std::min<int64_t>(std::max(1, request.threads), plan.batch);
  if (problem.direction == Direction::kWeights && request.threads > 1)
    return Unsupported("oneDNN would run on one thread");
  plan.chunk = (plan.batch + pieces - 1) / pieces;
  const bool constant =
      problem.direction != Direction::kWeights && request.inputs[1].constant != nullptr;
  const dnnl_memory_desc_t wanted =
      constant ? DnnlAny(problem.weights.span()) : DnnlPlain(problem.weights.span());
  dnnl_memory_desc_t chosen, again;
  MINIM_TRY(plan.whole, Compile(problem, plan.chunk, wanted, &chosen));
  const int64_t rest = plan.batch - (plan.batch - 1) / plan.chunk * plan.chunk;
  plan.rest = plan.whole;
  if (rest != plan.chunk) {
    MINIM_TRY(plan.rest, Compile(problem, rest, chosen, &again));
  }
  if (constant) MINIM_TRY(PackConstant(request, problem, chosen, &plan));
  const int64_t image = problem.image.Elements() / plan.batch,
                result = problem.result.Elements() / plan.batch;
  plan.a_image = problem.direction == Direction::kForward ? image : result;
  plan.b_image = problem.direction == Direction::kWeights ? image : 0;
  plan.y_image = problem.direction == Direction::kForward ? result
                 : problem.direction == Direction::kInput ? image
                                                          : 0;
  plan.piece_bytes =
      AlignUp(std::max(plan.whole->scratchpad_bytes(), plan.rest->scratchpad_bytes()));
  const size_t scratch = plan.piece_bytes * pieces;
  std::string name = fmt::format("dnnl {}", plan.whole->implementation());
  return MakeKernel(
      std::move(name), [plan = std::move(plan)](const KernelArgs& args) { Run(plan, args); },
      scratch);
}

}  // namespace

BindResult ConvDnnl(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 4, DType::f32));
  MINIM_TRY(RequireOutputDims(request, 3));
  const bool residual = HasInput(request, 3);
  MINIM_TRY(Problem problem, ProblemOf(request, Direction::kForward, request.inputs[0].dims,
                                       request.inputs[1].dims, request.outputs[0].dims));
  MINIM_TRY(const Activation activation, ActivationOf(AttributesOf(request)));
  if (!residual && activation.kind != Activation::kNone && activation.kind != Activation::kRelu)
    return Unsupported("this activation");
  problem.relu = !residual && activation.kind == Activation::kRelu;
  problem.bias = HasInput(request, 2);
  return Bind(request, problem, activation);
}

BindResult ConvInputGradDnnl(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  MINIM_TRY(const Problem problem, ProblemOf(request, Direction::kInput, request.outputs[0].dims,
                                             request.inputs[1].dims, request.inputs[0].dims));
  return Bind(request, problem);
}

BindResult ConvWeightGradDnnl(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  MINIM_TRY(const Problem problem, ProblemOf(request, Direction::kWeights, request.inputs[1].dims,
                                             request.outputs[0].dims, request.inputs[0].dims));
  return Bind(request, problem);
}

}  // namespace minim
