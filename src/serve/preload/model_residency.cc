// How the keeper loads and unloads. All of it needs the lock of decisions.
#include <algorithm>

#include "serve/preload/model_keeper.h"

namespace minim::serve {
namespace {

constexpr size_t kMostAhead = 10;

uint64_t Sum(const std::vector<ResidentModel>& models) {
  uint64_t bytes = 0;
  for (const ResidentModel& model : models) bytes += model.bytes;
  return bytes;
}

bool Has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether it is enough that these leave.
bool Suffices(const std::vector<ResidentModel>& loaded, const std::vector<std::string>& leave,
              uint64_t needed, uint64_t budget) {
  uint64_t held = needed;
  for (const ResidentModel& model : loaded)
    if (!Has(leave, model.name)) held += model.bytes;
  return held <= budget;
}

}  // namespace

Status ModelKeeper::LoadWithin(const std::string& name, Effort effort) {
  Kept* kept = nullptr;
  uint64_t needed = 0;
  {
    std::lock_guard lock(table_->mutex);
    kept = &table_->models.at(name);
    needed = kept->bytes;
  }
  MINIM_TRY(MakeRoom(name, needed, effort));
  MINIM_TRY(repository_->Load(name));
  {
    std::lock_guard lock(table_->mutex);
    kept->state = State::kIn;
    kept->since = options_.now();
  }
  // In memory it may be more than its files are, or less.
  Measure();
  Status status = MakeRoom(name, 0, effort);
  if (!status.ok()) Unload(name);
  return status;
}

// What is busy leaves only when nothing else does, and when its requests are done.
Status ModelKeeper::MakeRoom(const std::string& for_model, uint64_t needed, Effort effort) {
  std::vector<ResidentModel> loaded = Snapshot(true);
  uint64_t own = needed;
  for (ResidentModel& model : loaded) {
    if (model.name == for_model) own = model.bytes;
    model.pinned |= model.name == for_model;
  }
  if (own > options_.budget)
    return ResourceExhausted("model '{}' needs {}, more than the memory budget of {}", for_model,
                             ShowBytes(own), ShowBytes(options_.budget));
  std::vector<std::string> leave;
  if (effort != Effort::kUnloadNothing) leave = ChooseEvictions(loaded, needed, options_.budget);
  if (!Suffices(loaded, leave, needed, options_.budget) && effort == Effort::kAwaitUse) {
    for (ResidentModel& model : loaded) model.busy = false;
    leave = ChooseEvictions(loaded, needed, options_.budget);
  }
  if (!Suffices(loaded, leave, needed, options_.budget))
    return ResourceExhausted(
        "model '{}' needs {}: no room for it in the memory budget of {}, beside models that are "
        "pinned, in use or worth more",
        for_model, ShowBytes(own), ShowBytes(options_.budget));
  return UnloadAll(leave, effort);
}

Status ModelKeeper::UnloadAll(const std::vector<std::string>& names, Effort effort) {
  const TimePoint until = Clock::now() + options_.load_wait;
  for (const std::string& name : names) {
    {
      std::unique_lock lock(table_->mutex);
      Kept& kept = table_->models.at(name);
      kept.state = State::kLeaving;  // no more leases from here on
      const auto free = [&] { return kept.leases == 0 || closing_; };
      if (effort == Effort::kAwaitUse) table_->released.wait_until(lock, until, free);
      if (kept.leases > 0) {
        kept.state = State::kIn;
        return Unavailable("the models in memory are all in use; try again")
            .WithRetryAfter(std::chrono::milliseconds(1000));
      }
      ++kept.evictions;
    }
    Unload(name);
    options_.log(fmt::format("model '{}': unloaded to make room", name));
  }
  return {};
}

void ModelKeeper::Unload(const std::string& name) {
  (void)repository_->Unload(name);  // it may be gone already
  std::lock_guard lock(table_->mutex);
  table_->models.at(name).state = State::kOut;
}

void ModelKeeper::Measure() {
  std::map<std::string, uint64_t> bytes;
  for (const ModelMemory& model : Report().models) bytes[model.name] = model.bytes;
  std::lock_guard lock(table_->mutex);
  for (auto& [name, kept] : table_->models)
    if (kept.state == State::kIn) kept.bytes = bytes[name];
}

std::vector<ResidentModel> ModelKeeper::Snapshot(bool loaded) const {
  const WallTime now = options_.now();
  std::lock_guard lock(table_->mutex);
  std::vector<ResidentModel> models;
  for (const auto& [name, kept] : table_->models) {
    if ((kept.state == State::kIn) != loaded) continue;
    const WallTime used = std::max(history_.last_use(name).value_or(kept.since), kept.since);
    models.push_back({.name = name,
                      .bytes = kept.bytes,
                      .rate = history_.PredictedRate(name, now),
                      .pinned = kept.pinned,
                      .busy = kept.leases > 0,
                      .idle = std::chrono::duration_cast<std::chrono::milliseconds>(now - used)});
  }
  return models;
}

void ModelKeeper::TrimIdle() {
  const uint64_t limit = threshold();
  Measure();
  const std::vector<ResidentModel> before = Snapshot(true);
  if (Sum(before) <= limit) return;
  for (const ResidentModel& model : before) {
    if (model.busy || model.idle < options_.clean_up) continue;
    for (const auto& version : repository_->All())
      if (version->model == model.name)
        for (const auto& [name, tier] : version->tiers) tier->model->Trim();
  }
  Measure();
  // Neither needs anything: what is in use now stays until the next time.
  (void)UnloadAll(ChooseIdle(Snapshot(true), limit), Effort::kUnloadUnused);
  (void)UnloadAll(ChooseEvictions(Snapshot(true), 0, options_.budget), Effort::kUnloadUnused);
}

void ModelKeeper::LoadAhead() {
  std::vector<ResidentModel> others = Snapshot(false);
  {
    std::lock_guard lock(table_->mutex);
    const TimePoint now = Clock::now();
    std::erase_if(others, [&](const ResidentModel& model) {
      const Kept& kept = table_->models.at(model.name);
      return !kept.failure.ok() && now < kept.retry_at;
    });
  }
  const auto anyone_waits = [this] {
    std::lock_guard lock(table_->mutex);
    return std::any_of(table_->models.begin(), table_->models.end(),
                       [](const auto& entry) { return !entry.second.waiters.empty(); });
  };
  for (const std::string& name :
       ChoosePreloads(Snapshot(true), others, options_.budget, kMostAhead)) {
    if (closing_ || anyone_waits()) return;  // what is asked for goes before what may be
    const Status status = LoadWithin(name, Effort::kUnloadUnused);
    options_.log(fmt::format("model '{}': {}", name,
                             status.ok() ? "loaded ahead of its requests" : status.message()));
    std::lock_guard lock(table_->mutex);
    RememberFailure(table_->models.at(name), status);
  }
}

}  // namespace minim::serve
