// The contract between kernels and whoever runs them. A kernel is bound once, when a plan is made,
// to static shapes; running it looks nothing up, allocates nothing and takes no lock.
// Threads: Run is const and may be called concurrently with distinct scratch and outputs.
// Lifetime: constant inputs named at binding outlive the kernel.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/attributes.h"
#include "core/isa.h"
#include "core/thread_pool.h"
#include "minim/tensor.h"

namespace minim {

struct TensorDesc {
  bool present = true;  // false for an omitted optional input or output
  DType dtype = DType::f32;
  Dims dims;
  const void* constant = nullptr;  // the bytes, when known at binding

  ConstView ConstantView() const { return {constant, dtype, dims}; }
};

/// One step of a fused element-wise chain. Registers: first the chain's inputs, then one result
/// per instruction. `op` is the ONNX name ("Add", "Relu", "Clip", "Where", "Cast", ...).
struct ElementwiseInstruction {
  std::string op;
  std::vector<int> operands;
  Attributes attributes;
  DType dtype = DType::f32;  // of the result
};

/// A region of element-wise ops, evaluated in FP32 tile by tile; the edges convert. Inputs
/// broadcast to the common output dims.
struct ElementwiseProgram {
  int input_count = 0;
  std::vector<ElementwiseInstruction> instructions;
  std::vector<int> outputs;  // registers written out, in order
};

/// Writes what a blob was packed from, bit for bit.
using Unpack = std::function<void(const std::byte* blob, void* source)>;

/// Packed constants shared by every plan of a process, keyed by (content digest, pack key).
/// Threads: may be called concurrently.
class PackStore {
 public:
  struct Origin {
    std::shared_ptr<const std::byte> blob;
    Unpack unpack;
  };

  virtual ~PackStore() = default;
  /// The blob for `source` packed under `key`; calls `pack` (which fills `bytes` 64-byte aligned
  /// bytes) only when it is not there yet. The blob lives as long as any holder. `unpack`, null
  /// where packing loses something, must not refer to `source`.
  virtual std::shared_ptr<const std::byte> GetOrPack(const ConstView& source, std::string_view key,
                                                     size_t bytes,
                                                     FunctionRef<void(std::byte*)> pack,
                                                     Unpack unpack = nullptr) = 0;
  /// What tells `source` from others.
  virtual std::string DigestOf(const ConstView& source) = 0;
  /// A living blob of the source of that digest that can be unpacked; a null one if there is none.
  virtual Origin FindOrigin(const std::string& digest) = 0;
};

struct KernelRequest {
  std::string_view op;  // canonical name, unique across domains
  const Attributes* attributes = nullptr;
  std::span<const TensorDesc> inputs;
  std::span<const TensorDesc> outputs;
  const ElementwiseProgram* program = nullptr;  // for FusedElementwise only
  Isa isa = Isa::kPortable;                     // rows above this level do not fit
  int threads = 1;                              // the largest budget Run will get
  PackStore* packs = nullptr;                   // never null when a row is bound
  std::string_view row = {};                    // the name of the row to try first
  bool at_any_cost = false;                     // a row does not refuse where others cost less
};

struct KernelArgs {
  std::span<const void* const> inputs;  // null where not present
  std::span<void* const> outputs;       // null where not present
  void* scratch = nullptr;              // scratch_bytes(), 64-byte aligned
  ThreadBudget threads;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void Run(const KernelArgs& args) const = 0;
  virtual size_t scratch_bytes() const { return 0; }
  /// If >= 0, this output may share the buffer of that input.
  virtual int in_place_input([[maybe_unused]] int output) const { return -1; }
  /// False if Run leaves this input alone, which was packed when the kernel was bound.
  virtual bool reads([[maybe_unused]] int input) const { return true; }
  /// For `minim explain`: "gemm avx512, B packed once", "int8 gemm avx2 4x16".
  virtual std::string Describe() const = 0;
};

struct BoundKernel {
  std::unique_ptr<Kernel> kernel;
  std::vector<std::string> refusals;  // why better rows were skipped
  std::string_view row = {};          // of the table; empty where 16-bit values are widened for one
};

/// Binds `request.row` at any cost if it fits, else the first row of the CPU table that does.
/// Errors: kUnsupported lists each refusal.
Result<BoundKernel> BindCpuKernel(const KernelRequest& request);

/// Rows of the CPU table that fit at any cost, best first; portable ones only where no other does.
std::vector<std::string_view> FittingRows(const KernelRequest& request);

/// The process-wide PackStore implementation: weak entries, dropped with their last holder.
std::unique_ptr<PackStore> MakePackStore();

}  // namespace minim
