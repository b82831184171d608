#include "kernels/cpu/dnnl_primitive.h"

// The two calls of OpenMP 5.0 (3.2.1, 3.2.3) that are made here. Its header is the compiler's own, and
// clang's brings a second run-time beside the one that oneDNN uses.
extern "C" {
void omp_set_num_threads(int count);
int omp_get_max_threads();
}

namespace minim {
namespace {

// oneDNN runs one thread inside a piece; the entering thread's own setting comes back afterwards.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }

 private:
  int before_;
};

dnnl_stream_t ThreadStream() {
  struct Holder {
    dnnl_stream_t stream = nullptr;
    Holder() { dnnl_stream_create(&stream, DnnlEngine(), dnnl_stream_default_flags); }
    ~Holder() { dnnl_stream_destroy(stream); }
  };
  thread_local Holder holder;
  return holder.stream;
}

dnnl_memory_desc_t Describe(std::span<const int64_t> dims, bool any) {
  dnnl_memory_desc_t desc{};
  dnnl_dims_t sizes{}, strides{};
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    sizes[i] = dims[i];
    strides[i] = stride;
    stride *= dims[i];
  }
  const int rank = static_cast<int>(dims.size());
  if (any) {
    dnnl_memory_desc_init_by_tag(&desc, rank, sizes, dnnl_f32, dnnl_format_tag_any);
  } else {
    dnnl_memory_desc_init_by_strides(&desc, rank, sizes, dnnl_f32, strides);
  }
  return desc;
}

}  // namespace

dnnl_engine_t DnnlEngine() {
  static const dnnl_engine_t engine = [] {
    dnnl_engine_t created = nullptr;
    dnnl_engine_create(&created, dnnl_cpu, 0);
    return created;
  }();
  return engine;
}

void DnnlConfigure(Isa isa) {
  static const bool once = [isa] {
    const dnnl_cpu_isa_t caps[] = {dnnl_cpu_isa_sse41, dnnl_cpu_isa_avx2, dnnl_cpu_isa_avx512_core,
                                   dnnl_cpu_isa_all};
    dnnl_set_max_cpu_isa(caps[static_cast<int>(isa)]);
    dnnl_set_primitive_cache_capacity(0);
    return true;
  }();
  static_cast<void>(once);
}

dnnl_memory_desc_t DnnlPlain(std::span<const int64_t> dims) { return Describe(dims, false); }
dnnl_memory_desc_t DnnlAny(std::span<const int64_t> dims) { return Describe(dims, true); }

dnnl_memory_desc_t DnnlQuery(dnnl_primitive_desc_t desc, dnnl_query_t what) {
  const dnnl_memory_desc_t* md = dnnl_primitive_desc_query_md(desc, what, 0);
  return md ? *md : dnnl_memory_desc_t{};
}

DnnlAttributes::DnnlAttributes(bool relu) {
  dnnl_primitive_attr_create(&attr_);
  dnnl_primitive_attr_set_scratchpad_mode(attr_, dnnl_scratchpad_mode_user);
  if (!relu) return;
  dnnl_post_ops_t ops = nullptr;
  dnnl_post_ops_create(&ops);
  dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
  dnnl_primitive_attr_set_post_ops(attr_, ops);
  dnnl_post_ops_destroy(ops);
}

Result<std::shared_ptr<const DnnlPrimitive>> DnnlPrimitive::Create(dnnl_primitive_desc_t desc,
                                                                   std::vector<DnnlArg> args) {
  const std::unique_ptr<std::remove_pointer_t<dnnl_primitive_desc_t>,
                        decltype(&dnnl_primitive_desc_destroy)>
      owner(desc, dnnl_primitive_desc_destroy);
  const char* name = nullptr;
  dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
  std::shared_ptr<DnnlPrimitive> result(new DnnlPrimitive());
  result->implementation_ = name ? name : "unknown";
  if (result->implementation_.find("ref") != std::string::npos)
    return Unsupported("oneDNN would run {}", result->implementation_);
  const OneOpenMpThread guard;
  if (dnnl_primitive_create(&result->primitive_, desc) != dnnl_success)
    return Unsupported("oneDNN cannot compile {}", result->implementation_);
  const dnnl_memory_desc_t scratchpad = DnnlQuery(desc, dnnl_query_scratchpad_md);
  result->scratchpad_bytes_ = dnnl_memory_desc_get_size(&scratchpad);
  args.push_back({DNNL_ARG_SCRATCHPAD, scratchpad});
  for (int i = 0; i < kSets; ++i) {
    auto set = std::make_unique<ArgumentSet>();
    for (const DnnlArg& arg : args) {
      dnnl_memory_t memory = nullptr;
      dnnl_memory_create(&memory, &arg.desc, DnnlEngine(), DNNL_MEMORY_NONE);
      set->args.push_back({arg.role, memory});
    }
    result->sets_.push_back(std::move(set));
  }
  return std::shared_ptr<const DnnlPrimitive>(std::move(result));
}

DnnlPrimitive::~DnnlPrimitive() {
  for (const auto& set : sets_) {
    for (const dnnl_exec_arg_t& arg : set->args) dnnl_memory_destroy(arg.memory);
  }
  if (primitive_) dnnl_primitive_destroy(primitive_);
}

void DnnlPrimitive::Execute(std::span<void* const> pointers) const {
  const OneOpenMpThread guard;
  int at = 0;
  while (sets_[at]->busy.test_and_set(std::memory_order_acquire)) at = (at + 1) % kSets;
  const ArgumentSet& set = *sets_[at];
  for (size_t i = 0; i < set.args.size(); ++i)
    dnnl_memory_set_data_handle(set.args[i].memory, i < pointers.size() ? pointers[i] : nullptr);
  dnnl_stream_t stream = ThreadStream();
  dnnl_primitive_execute(primitive_, stream, static_cast<int>(set.args.size()), set.args.data());
  dnnl_stream_wait(stream);
  set.busy.clear(std::memory_order_release);
}

Status DnnlReorder(const dnnl_memory_desc_t& from, const void* src, const dnnl_memory_desc_t& to,
                   void* dst) {
  dnnl_primitive_desc_t desc = nullptr;
  if (dnnl_reorder_primitive_desc_create(&desc, &from, DnnlEngine(), &to, DnnlEngine(), nullptr) !=
      dnnl_success)
    return Unsupported("oneDNN cannot reorder the weights");
  const OneOpenMpThread guard;
  dnnl_primitive_t primitive = nullptr;
  dnnl_memory_t a = nullptr, b = nullptr;
  dnnl_primitive_create(&primitive, desc);
  dnnl_memory_create(&a, &from, DnnlEngine(), const_cast<void*>(src));
  dnnl_memory_create(&b, &to, DnnlEngine(), dst);
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, a}, {DNNL_ARG_TO, b}};
  const dnnl_status_t status = dnnl_primitive_execute(primitive, ThreadStream(), 2, args);
  dnnl_stream_wait(ThreadStream());
  dnnl_memory_destroy(a);
  dnnl_memory_destroy(b);
  dnnl_primitive_destroy(primitive);
  dnnl_primitive_desc_destroy(desc);
  return status == dnnl_success ? Status() : Unsupported("oneDNN failed to reorder the weights");
}

}  // namespace minim
