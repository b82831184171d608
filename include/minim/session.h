// Session: a loaded model, ready to answer. The simplest way to run an ONNX file.
// Threads: Run may be called concurrently; each call borrows a pooled context, without a lock.
// Lifetime: returned tensors belong to the caller.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "minim/host_value.h"
#include "minim/status.h"
#include "minim/tensor.h"

namespace minim {

/// The arithmetic of matrix products and convolutions. What only moves between them or is computed
/// element by element is stored so too; norms, softmax and sums stay FP32. All does on a machine
/// that gains nothing by BF16.
enum class Precision { kFp32, kBf16 };

struct SessionOptions {
  /// Threads one Run may use, the caller included.
  int threads = 1;
  /// Concurrent callers that Warm makes room for; more are welcome, each allocates once.
  int contexts = 1;
  Precision precision = Precision::kFp32;
  /// Only kernels without vector instructions: slow, and independent of all the fast ones.
  bool portable_kernels = false;
  /// Passes to leave out, by name (see `minim explain`).
  std::vector<std::string> skip_passes;
};

/// One input or output as the model declares it. A negative dim is symbolic: its name, if it has
/// one, is at the same place in `symbols`.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> dims;
  std::vector<std::string> symbols;
  /// False when the model does not even declare the rank; `dims` is then empty.
  bool ranked = true;
  /// Set unless this is a tensor: "seq(map(i64,f32))", "optional(f32[*])".
  std::string other_type = {};
};

/// Bytes a session holds. Packed weights that sessions share count in each.
struct SessionMemory {
  /// As the file has them; not those that a pack stands for.
  size_t weights = 0;
  size_t packed = 0;
  /// The largest arena, and how many contexts wait with one of about that size.
  size_t arena = 0;
  size_t contexts = 0;

  size_t total() const { return weights + packed + arena * contexts; }
};

class Session {
 public:
  virtual ~Session() = default;

  /// Reads an ONNX file. Errors: kNotFound, kDataLoss (malformed), kUnsupported (an operator).
  static Result<std::shared_ptr<Session>> Load(const std::string& path,
                                               SessionOptions options = {});
  /// The same from bytes; external data is refused.
  static Result<std::shared_ptr<Session>> FromBytes(std::string_view bytes,
                                                    SessionOptions options = {});

  virtual const std::vector<TensorInfo>& inputs() const = 0;
  virtual const std::vector<TensorInfo>& outputs() const = 0;

  /// One view per input, in the order of inputs(). Returns one tensor per output.
  /// Errors: kInvalidArgument names the input whose dtype or shape disagrees.
  virtual Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const = 0;

  /// The same on values of any kind: strings, sequences, maps, optionals.
  virtual Result<std::vector<HostValue>> Run(std::span<const HostValue> inputs) const = 0;

  /// The same as the first into caller-owned buffers of the exact dtypes and dims; allocates
  /// nothing once warm.
  virtual Status RunInto(std::span<const ConstView> inputs,
                         std::span<const View> outputs) const = 0;

  /// Prepares plans for these input dims, and `contexts` contexts for them, so that the first Run
  /// is warm.
  virtual Status Warm(std::span<const Dims> input_dims) const = 0;

  /// Bytes of the largest arena planned so far.
  virtual size_t arena_bytes() const = 0;
  virtual SessionMemory memory() const = 0;
  /// Lets go of contexts that no Run uses now; the next runs make theirs anew.
  virtual void Trim() const = 0;
  /// Passes run, kernels chosen with reasons, memory: what `minim explain` prints.
  virtual std::string Explain() const = 0;
  /// Runs the model `runs` times on these inputs and returns a table of its steps: median time,
  /// share, arithmetic speed of products, implementation. Errors: those of Run; kUnsupported when
  /// shapes depend on values.
  virtual Result<std::string> Profile(std::span<const ConstView> inputs, int runs) const = 0;
  /// Measures for about `seconds` which kernels, and how many rows of a batch at a time, are
  /// fastest on these inputs, and keeps what differs from the cost models in the machine's tuning
  /// file, for the processes that start from then on. Returns what differs, as text. Errors: those
  /// of Profile; kUnsupported when MINIM_TUNING is "off"; those of reading and writing the file.
  virtual Result<std::string> Tune(std::span<const ConstView> inputs, double seconds) const = 0;
};

}  // namespace minim
