#include "minim/session.h"

#include <atomic>
#include <mutex>
#include <new>
#include <set>
#include <stdexcept>

#include "core/heap.h"
#include "exec/program.h"
#include "onnx/onnx.h"
#include "session/context_pool.h"
#include "session/session_impl.h"

namespace minim {
namespace {

TensorInfo InfoOf(const Value& value) {
  TensorInfo info{.name = value.name, .dtype = value.type.dtype};
  info.ranked = value.type.ranked();
  if (!value.type.is_tensor()) info.other_type = value.type.ToString();
  if (!info.ranked) return info;
  for (const Dim& dim : *value.type.shape) {
    info.dims.push_back(dim.known() ? dim.value() : -1);
    info.symbols.push_back(dim.symbol());
  }
  return info;
}

// What a model or a request asks of memory and does not get is an error, not the end of the
// process.
template <typename F>
auto WithinMemory(F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {
  }
  return ResourceExhausted("the model asks for more memory than this machine gives");
}

// Counts what one session asks of the packs that all share.
class CountedPacks final : public PackStore {
 public:
  explicit CountedPacks(std::shared_ptr<Runtime> owner) : owner_(std::move(owner)) {}

  std::shared_ptr<const std::byte> GetOrPack(const ConstView& source, std::string_view key,
                                             size_t bytes, FunctionRef<void(std::byte*)> pack,
                                             Unpack unpack) override {
    auto blob = owner_->packs().GetOrPack(source, key, bytes, pack, std::move(unpack));
    std::lock_guard lock(mutex_);
    if (seen_.insert(blob.get()).second) bytes_ += bytes;
    return blob;
  }
  std::string DigestOf(const ConstView& source) override {
    return owner_->packs().DigestOf(source);
  }
  Origin FindOrigin(const std::string& digest) override {
    return owner_->packs().FindOrigin(digest);
  }
  size_t bytes() const {
    std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  const std::shared_ptr<Runtime> owner_;
  mutable std::mutex mutex_;
  std::set<const std::byte*> seen_;  // guarded by mutex_
  size_t bytes_ = 0;                 // guarded by mutex_
};

class SessionImpl final : public Session {
 public:
  SessionImpl(Graph graph, std::vector<PassReport> reports, std::shared_ptr<Runtime> runtime,
              const SessionOptions& options)
      : packs_(std::make_shared<CountedPacks>(runtime)),
        program_(std::move(graph), std::make_shared<Runtime>(*runtime, packs_),
                 {.threads = options.threads, .skip_passes = options.skip_passes}),
        reports_(std::move(reports)),
        contexts_(options.contexts) {
    for (ValueId id : program_.graph().inputs)
      inputs_.push_back(InfoOf(program_.graph().value(id)));
    for (ValueId id : program_.graph().outputs)
      outputs_.push_back(InfoOf(program_.graph().value(id)));
  }

  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }

  Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const override {
    return WithinMemory([&] {
      const ContextPool::Lease lease(pool_);
      return program_.Run(*lease, inputs);
    });
  }

  Result<std::vector<HostValue>> Run(std::span<const HostValue> inputs) const override {
    return WithinMemory([&] {
      const ContextPool::Lease lease(pool_);
      return program_.Run(*lease, inputs);
    });
  }

  Status RunInto(std::span<const ConstView> inputs, std::span<const View> outputs) const override {
    return WithinMemory([&] {
      const ContextPool::Lease lease(pool_);
      return program_.RunInto(*lease, inputs, outputs);
    });
  }

  Status Warm(std::span<const Dims> input_dims) const override {
    return WithinMemory([&] { return PrepareAll(input_dims); });
  }

  size_t arena_bytes() const override { return program_.arena_bytes(); }

  SessionMemory memory() const override {
    return {program_.constant_bytes(), packs_->bytes(), arena_bytes(), pool_.idle()};
  }
  void Trim() const override {
    pool_.DropIdle();
    ReturnFreedPages();
  }

  std::string Explain() const override {
    std::string text;
    for (const PassReport& report : reports_)
      text += fmt::format("pass {:22} {:>8} us{}\n", report.name, report.time.count(),
                          report.skipped   ? " skipped"
                          : report.changed ? " changed"
                                           : "");
    return text + program_.Explain();
  }

  Result<std::string> Profile(std::span<const ConstView> inputs, int runs) const override {
    const ContextPool::Lease lease(pool_);
    return program_.Profile(*lease, inputs, runs);
  }

  Result<std::string> Tune(std::span<const ConstView> inputs, double seconds) const override {
    const std::optional<Path> path = TuningFile::DefaultPath();
    if (!path) return Unsupported("there is no tuning file: MINIM_TUNING is off, or HOME not set");
    MINIM_TRY(TuningFile file, TuningFile::Read(*path));  // before the work
    return WithinMemory([&]() -> Result<std::string> {
      MINIM_TRY(TuneReport report, program_.Tune(inputs, seconds));
      file.levels[std::string(Name(program_.runtime().isa()))].Merge(report.found);
      MINIM_TRY(file.Write(*path));
      return report.text + fmt::format("a run takes {:.1f} us; as the cost models choose {:.1f}\n",
                                       report.measured_us, report.model_us);
    });
  }

 private:
  Status PrepareAll(std::span<const Dims> input_dims) const {
    std::vector<std::unique_ptr<ContextPool::Lease>> leases;  // all at once, so that all exist
    for (int c = 0; c < contexts_; ++c) {
      leases.push_back(std::make_unique<ContextPool::Lease>(pool_));
      MINIM_TRY(program_.Prepare(**leases.back(), {input_dims.begin(), input_dims.end()}));
    }
    // Once: it holds up every thread that allocates, and what one preparation leaves free the next
    // one uses.
    if (!returned_pages_.exchange(true)) ReturnFreedPages();
    return {};
  }

  const std::shared_ptr<CountedPacks> packs_;
  mutable Program program_;
  std::vector<PassReport> reports_;
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
  int contexts_;
  mutable ContextPool pool_;
  mutable std::atomic<bool> returned_pages_{false};
};

}  // namespace

Result<std::shared_ptr<Session>> MakeSession(Graph graph, const SessionOptions& options) {
  if (options.threads < 1)
    return InvalidArgument("a session needs at least 1 thread, {} were asked for", options.threads);
  if (options.contexts < 1)
    return InvalidArgument("a session needs at least 1 context, {} were asked for",
                           options.contexts);
  MINIM_TRY(std::shared_ptr<Runtime> runtime, Runtime::Default());
  if (options.portable_kernels) runtime = Runtime::Portable();
  PassContext context;
  context.has_kernel = HasCpuKernel;
  context.isa = runtime->isa();
  if (options.precision == Precision::kBf16) context.precision = DType::bf16;
  context.skip = options.skip_passes;
  MINIM_TRY(std::vector<PassReport> reports, RunPipeline(kLoadPipeline, graph, context));
  auto session = std::make_shared<SessionImpl>(std::move(graph), std::move(reports),
                                               std::move(runtime), options);
  ReturnFreedPages();
  return std::shared_ptr<Session>(std::move(session));
}

Result<std::shared_ptr<Session>> Session::Load(const std::string& path, SessionOptions options) {
  return WithinMemory([&]() -> Result<std::shared_ptr<Session>> {
    MINIM_TRY(Graph graph, ImportOnnx(path));
    return MakeSession(std::move(graph), options);
  });
}

Result<std::shared_ptr<Session>> Session::FromBytes(std::string_view bytes,
                                                    SessionOptions options) {
  return WithinMemory([&]() -> Result<std::shared_ptr<Session>> {
    MINIM_TRY(Graph graph, ParseOnnx(bytes));
    return MakeSession(std::move(graph), options);
  });
}

}  // namespace minim
