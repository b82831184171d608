#include "exec/runtime.h"

#include <mutex>

namespace minim {

Result<std::shared_ptr<Runtime>> Runtime::Default() {
  static std::mutex mutex;
  static std::weak_ptr<Runtime> current;
  std::lock_guard lock(mutex);
  if (auto runtime = current.lock()) return runtime;
  MINIM_TRY(const Isa isa, IsaFromEnvironment());
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  auto runtime = std::make_shared<Runtime>(isa, cores - 1);
  if (const std::optional<Path> path = TuningFile::DefaultPath()) {
    MINIM_TRY(TuningFile file, TuningFile::Read(*path));
    runtime = std::make_shared<Runtime>(*runtime, std::move(file.levels[std::string(Name(isa))]));
  }
  current = runtime;
  return runtime;
}

std::shared_ptr<Runtime> Runtime::Portable() {
  static std::mutex mutex;
  static std::weak_ptr<Runtime> current;
  std::lock_guard lock(mutex);
  if (auto runtime = current.lock()) return runtime;
  auto runtime = std::make_shared<Runtime>(Isa::kPortable, 0);
  current = runtime;
  return runtime;
}

}  // namespace minim
