// oneDNN's FP32 matrix product: A[m,k] times a constant B[k,n], split over the rows.
#include <algorithm>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/dnnl_primitive.h"
#include "kernels/cpu/product_shape.h"

namespace minim {
namespace {

struct Plan {
  std::shared_ptr<const DnnlPrimitive> whole, rest;
  std::shared_ptr<const std::byte> weights;
  int64_t m = 0, n = 0, k = 0, chunk = 1;
  size_t piece_bytes = 0;
};

Result<std::shared_ptr<const DnnlPrimitive>> Compile(int64_t m, int64_t n, int64_t k,
                                                     const dnnl_memory_desc_t& b,
                                                     dnnl_memory_desc_t* chosen) {
  const int64_t a_dims[] = {m, k}, y_dims[] = {m, n};
  const dnnl_memory_desc_t a = DnnlPlain(a_dims), y = DnnlPlain(y_dims);
  dnnl_matmul_desc_t product;
  const DnnlAttributes attributes(false);
  dnnl_primitive_desc_t desc = nullptr;
  const bool ok = dnnl_matmul_desc_init(&product, &a, &b, nullptr, &y) == dnnl_success &&
                  dnnl_primitive_desc_create(&desc, &product, attributes.get(), DnnlEngine(),
                                             nullptr) == dnnl_success;
  if (!ok) return Unsupported("oneDNN refuses this product");
  *chosen = DnnlQuery(desc, dnnl_query_weights_md);
  return DnnlPrimitive::Create(desc,
                               {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, *chosen}, {DNNL_ARG_DST, y}});
}

void Run(const Plan& p, const KernelArgs& args) {
  const int pieces = static_cast<int>((p.m + p.chunk - 1) / p.chunk);
  args.threads.ParallelFor(pieces, [&](int i) {
    const int64_t row = i * p.chunk;
    void* const pointers[] = {
        const_cast<float*>(In<float>(args, 0) + row * p.k), const_cast<std::byte*>(p.weights.get()),
        Out<float>(args, 0) + row * p.n, static_cast<std::byte*>(args.scratch) + i * p.piece_bytes};
    (i + 1 == pieces ? p.rest : p.whole)->Execute(pointers);
  });
}

}  // namespace

BindResult MatMulDnnl(const KernelRequest& request) {
  MINIM_TRY(RequireRowMajor(request));
  MINIM_TRY(RequireInputs(request, 0, 2, DType::f32));
  const TensorDesc& b = request.inputs[1];
  if (b.constant == nullptr) return Unsupported("B is not known at binding");
  MINIM_TRY(const ProductShape s, ShapeOfProduct(request.inputs[0].dims, b.dims, false, false));
  if (s.batches != 1 || s.b_matrices != 1 || s.m * s.n * s.k == 0)
    return Unsupported("not one plain product");
  DnnlConfigure(request.isa);
  const int64_t pieces = std::min<int64_t>(std::max(1, request.threads), s.m);
  Plan plan{.m = s.m, .n = s.n, .k = s.k, .chunk = (s.m + pieces - 1) / pieces};
  const int64_t dims[] = {s.k, s.n};
  dnnl_memory_desc_t chosen, again;
  MINIM_TRY(plan.whole, Compile(plan.chunk, s.n, s.k, DnnlAny(dims), &chosen));
  const int64_t rest = s.m - (s.m - 1) / plan.chunk * plan.chunk;
  plan.rest = plan.whole;
  if (rest != plan.chunk) {
    MINIM_TRY(plan.rest, Compile(rest, s.n, s.k, chosen, &again));
  }
  std::string key = "dnnl matmul";
  for (const char c : std::string_view(reinterpret_cast<const char*>(&chosen), sizeof(chosen)))
    key += fmt::format("{:02x}", static_cast<unsigned char>(c));
  Status status;
  plan.weights = request.packs->GetOrPack(
      b.ConstantView(), key, dnnl_memory_desc_get_size(&chosen),
      [&](std::byte* blob) { status = DnnlReorder(DnnlPlain(dims), b.constant, chosen, blob); });
  MINIM_TRY(status);
  plan.piece_bytes =
      AlignUp(std::max(plan.whole->scratchpad_bytes(), plan.rest->scratchpad_bytes()));
  const size_t scratch = plan.piece_bytes * pieces;
  std::string name = fmt::format("dnnl {}", plan.whole->implementation());
  return MakeKernel(
      std::move(name), [plan = std::move(plan)](const KernelArgs& args) { Run(plan, args); },
      scratch);
}

}  // namespace minim
