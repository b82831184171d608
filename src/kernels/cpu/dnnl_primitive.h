// The one door to oneDNN's C API: a primitive with prepared argument sets. Files named dnnl_* may
// include this header, nothing else may.
#pragma once

#include <dnnl.h>

#include <atomic>
#include <vector>

#include "kernels/cpu/table.h"

namespace minim {

/// One argument: its role (DNNL_ARG_SRC, ...) and its memory.
struct DnnlArg {
  int role = 0;
  dnnl_memory_desc_t desc{};
};

/// A compiled primitive. Execute is const and may be called concurrently: each call borrows one of
/// a fixed number of argument sets.
class DnnlPrimitive {
 public:
  /// Takes over `desc`. The scratchpad, if any, is the last argument.
  static Result<std::shared_ptr<const DnnlPrimitive>> Create(dnnl_primitive_desc_t desc,
                                                             std::vector<DnnlArg> args);
  ~DnnlPrimitive();
  DnnlPrimitive(const DnnlPrimitive&) = delete;
  DnnlPrimitive& operator=(const DnnlPrimitive&) = delete;

  /// `pointers` in the order of the arguments, the scratchpad last.
  void Execute(std::span<void* const> pointers) const;
  size_t scratchpad_bytes() const { return scratchpad_bytes_; }
  const std::string& implementation() const { return implementation_; }

 private:
  DnnlPrimitive() = default;

  struct ArgumentSet {
    std::vector<dnnl_exec_arg_t> args;
    mutable std::atomic_flag busy = ATOMIC_FLAG_INIT;
  };
  static constexpr int kSets = 32;

  dnnl_primitive_t primitive_ = nullptr;
  std::vector<std::unique_ptr<ArgumentSet>> sets_;
  size_t scratchpad_bytes_ = 0;
  std::string implementation_;
};

dnnl_engine_t DnnlEngine();
/// Row-major FP32 memory of `dims`, or any layout the implementation likes.
dnnl_memory_desc_t DnnlPlain(std::span<const int64_t> dims);
dnnl_memory_desc_t DnnlAny(std::span<const int64_t> dims);
dnnl_memory_desc_t DnnlQuery(dnnl_primitive_desc_t desc, dnnl_query_t what);
/// Caps oneDNN at the level of the first request; turns its primitive cache off.
void DnnlConfigure(Isa isa);
/// Copies `src` laid out as `from` to `dst` laid out as `to`; for packing at binding only.
Status DnnlReorder(const dnnl_memory_desc_t& from, const void* src, const dnnl_memory_desc_t& to,
                   void* dst);

/// A user-scratchpad attribute with an optional fused ReLU; freed with the object.
class DnnlAttributes {
 public:
  explicit DnnlAttributes(bool relu);
  ~DnnlAttributes() { dnnl_primitive_attr_destroy(attr_); }
  DnnlAttributes(const DnnlAttributes&) = delete;
  DnnlAttributes& operator=(const DnnlAttributes&) = delete;
  const_dnnl_primitive_attr_t get() const { return attr_; }

 private:
  dnnl_primitive_attr_t attr_ = nullptr;
};

}  // namespace minim
