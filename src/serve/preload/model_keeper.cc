#include "serve/preload/model_keeper.h"

#include <algorithm>

namespace minim::serve {
namespace {

constexpr size_t kMostAtStart = 10;
constexpr auto kExpireInterval = std::chrono::milliseconds(50);

std::chrono::milliseconds Milliseconds(Duration time) {
  return std::chrono::ceil<std::chrono::milliseconds>(time);
}

TierMemory MemoryOf(const std::string& version, const ServedTier& tier) {
  const SessionMemory memory = tier.model->memory();
  return {.version = version,
          .tier = tier.name,
          .weight_bytes = memory.weights + memory.packed,
          .context_bytes = memory.arena * memory.contexts};
}

}  // namespace

Status CheckKeeperOptions(const KeeperOptions& options) {
  if (!(options.threshold > 0 && options.threshold <= 1))
    return InvalidArgument("memory threshold: found {}, expected more than 0, up to 1",
                           options.threshold);
  if (options.clean_up <= Duration())
    return InvalidArgument("clean-up interval: found 0, expected more");
  const Path folder = options.history.parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder))
    return NotFound("history '{}': there is no folder '{}'", options.history.string(),
                    folder.string());
  return {};
}

ModelKeeper::ModelKeeper(KeeperOptions options, std::shared_ptr<Repository> repository)
    : options_(std::move(options)), repository_(std::move(repository)) {}

Status ModelKeeper::Start() {
  ReadHistory();
  AddNewModels();
  if (options_.budget > 0) {
    MINIM_TRY(LoadAtStart());
    expirer_.emplace(kExpireInterval, [this] { ExpireWaiters(); });
  }
  // Loads and unloads are the worker's: the ticker would not notice Close while it waits.
  cleaner_.emplace(options_.clean_up, [this] { worker_->Post([this] { CleanUp(); }); });
  return {};
}

void ModelKeeper::Close() {
  {
    std::lock_guard lock(table_->mutex);
    closing_ = true;
  }
  table_->released.notify_all();
  cleaner_.reset();
  expirer_.reset();
  worker_.reset();
}

// A history that cannot be read is put aside, not overwritten.
void ModelKeeper::ReadHistory() {
  if (options_.history.empty()) return;
  const auto text = ReadFile(options_.history, 1 << 30);
  if (!text.ok() && text.status().code() == StatusCode::kNotFound) return;
  const Status status = text.ok() ? history_.FromJson(*text) : text.status();
  if (status.ok()) return;
  const Path aside = options_.history.string() + ".unreadable";
  std::error_code error;
  std::filesystem::rename(options_.history, aside, error);
  options_.log(fmt::format("{}: {}; starting without it{}", options_.history.string(),
                           status.message(),
                           error ? "" : fmt::format(", it is now {}", aside.string())));
}

void ModelKeeper::SaveHistory() {
  if (options_.history.empty()) return;
  std::string text;
  {
    std::lock_guard lock(table_->mutex);
    text = history_.ToJson();
  }
  const Status status = WriteFileAtomic(options_.history, text);
  if (!status.ok())
    options_.log(fmt::format("the history of use was not saved: {}", status.message()));
}

void ModelKeeper::AddNewModels() {
  for (const std::string& name : repository_->Names()) {
    {
      std::lock_guard lock(table_->mutex);
      if (table_->models.contains(name)) continue;
    }
    const auto facts = repository_->FactsOf(name);  // what is wrong with it, its load will say
    std::lock_guard lock(table_->mutex);
    Kept& kept = table_->models[name];
    if (facts.ok()) kept.bytes = facts->file_bytes;
    if (facts.ok()) kept.pinned = facts->pinned;
  }
}

Status ModelKeeper::LoadAtStart() {
  std::lock_guard deciding(residency_mutex_);
  std::vector<std::string> by_use;
  {
    std::lock_guard lock(table_->mutex);
    by_use = history_.ByUse(options_.now());
  }
  const std::vector<ResidentModel> models = Snapshot(false);
  Status first;
  bool any = false;
  for (const std::string& name : ChooseAtStart(models, by_use, options_.budget, kMostAtStart)) {
    Status status = LoadWithin(name, Effort::kUnloadNothing);
    any |= status.ok();
    if (!status.ok()) options_.log(std::string(status.message()));
    if (!status.ok() && first.ok()) first = std::move(status);
  }
  if (any || !first.ok()) return any ? Status() : first;
  const auto smallest = std::min_element(
      models.begin(), models.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  return ResourceExhausted("no model fits the memory budget of {}; the smallest, '{}', needs {}",
                           ShowBytes(options_.budget), smallest->name, ShowBytes(smallest->bytes));
}

void ModelKeeper::Use(const std::string& model, Done done) { Want(model, true, std::move(done)); }
void ModelKeeper::Hold(const std::string& model, Done done) { Want(model, false, std::move(done)); }

void ModelKeeper::Want(const std::string& model, bool remember, Done done) {
  std::unique_lock lock(table_->mutex);
  const auto it = table_->models.find(model);
  if (it != table_->models.end() && remember) history_.Record(model, options_.now());
  if (it == table_->models.end() || options_.budget == 0) {
    lock.unlock();
    return done(Lease());
  }
  Kept& kept = it->second;
  if (remember) ++(kept.state == State::kIn ? kept.hits : kept.misses);
  if (kept.state == State::kIn) {
    Lease lease = LeaseOf(kept);
    lock.unlock();
    return done(std::move(lease));
  }
  const TimePoint now = Clock::now();
  if (closing_) {
    lock.unlock();
    return done(Unavailable("the server is stopping; try another one"));
  }
  if (!kept.failure.ok() && now < kept.retry_at) {
    Status failure = kept.failure;
    lock.unlock();
    return done(std::move(failure));
  }
  const bool first = kept.waiters.empty();
  kept.waiters.push_back({now + options_.load_wait, std::move(done)});
  if (!first || worker_->Post([this, model] { LoadForWaiters(model); })) return;
  done = std::move(kept.waiters.back().done);
  kept.waiters.pop_back();
  lock.unlock();
  done(Unavailable("model '{}': too many loads are waiting; try again", model)
           .WithRetryAfter(Milliseconds(options_.load_wait)));
}

// Needs the table's lock.
ModelKeeper::Lease ModelKeeper::LeaseOf(Kept& kept) {
  ++kept.leases;
  return Lease(&kept, [table = table_](Kept* leased) {
    {
      std::lock_guard lock(table->mutex);
      if (--leased->leases > 0 || leased->state != State::kLeaving) return;
    }
    table->released.notify_all();
  });
}

bool ModelKeeper::IsAvailable(const std::string& model) const {
  if (options_.budget == 0) return false;
  std::lock_guard lock(table_->mutex);
  const auto it = table_->models.find(model);
  return it != table_->models.end() && it->second.state != State::kIn;
}

// So that a model that does not load is not read for every request. Where there was only no room,
// there may be some at any time.
void ModelKeeper::RememberFailure(Kept& kept, const Status& status) const {
  const bool room =
      status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kResourceExhausted;
  kept.failure = room ? Status() : status;
  kept.retry_at = Clock::now() + options_.clean_up;
}

// On the worker.
void ModelKeeper::LoadForWaiters(const std::string& name) {
  std::unique_lock deciding(residency_mutex_);
  Kept* kept = nullptr;
  bool load = false;
  {
    std::lock_guard lock(table_->mutex);
    kept = &table_->models.at(name);
    if (kept->waiters.empty()) return;  // they gave up
    load = kept->state != State::kIn;
  }
  const TimePoint start = Clock::now();
  Status status;
  if (closing_) status = Unavailable("the server is stopping; try another one");
  if (load && status.ok()) status = LoadWithin(name, Effort::kAwaitUse);
  std::vector<Waiter> waiters;
  std::vector<Lease> leases;
  {
    std::lock_guard lock(table_->mutex);
    if (load && status.ok()) kept->loads->Add(Clock::now() - start);
    RememberFailure(*kept, status);
    waiters.swap(kept->waiters);
    if (status.ok())
      for (size_t i = 0; i < waiters.size(); ++i) leases.push_back(LeaseOf(*kept));
  }
  deciding.unlock();
  for (size_t i = 0; i < waiters.size(); ++i) {
    if (status.ok()) {
      waiters[i].done(std::move(leases[i]));
    } else {
      waiters[i].done(status);
    }
  }
}

// The load goes on without them, if it has begun.
void ModelKeeper::ExpireWaiters() {
  std::vector<std::pair<std::string, Done>> expired;
  {
    std::lock_guard lock(table_->mutex);
    const TimePoint now = Clock::now();
    for (auto& [name, kept] : table_->models) {
      std::erase_if(kept.waiters, [&](Waiter& waiter) {
        if (now < waiter.until) return false;
        expired.emplace_back(name, std::move(waiter.done));
        return true;
      });
    }
  }
  const auto waited = Milliseconds(options_.load_wait);
  for (const auto& [name, done] : expired)
    done(
        Unavailable("model '{}' is still being loaded after {} ms; try again", name, waited.count())
            .WithRetryAfter(std::max(waited, std::chrono::milliseconds(1000))));
}

void ModelKeeper::CleanUp() {
  if (closing_) return;
  {
    std::lock_guard deciding(residency_mutex_);
    AddNewModels();
    if (options_.budget > 0) {
      TrimIdle();
      LoadAhead();
    }
  }
  SaveHistory();
}

MemoryReport ModelKeeper::Report() const {
  MemoryReport report{.budget = options_.budget, .threshold = threshold()};
  std::map<std::string, ModelMemory> models;
  for (const auto& version : repository_->All()) {
    ModelMemory& model = models[version->model];
    model.state = "loaded";
    for (const auto& [name, tier] : version->tiers)
      model.tiers.push_back(MemoryOf(version->version, *tier));
    if (const auto reference = repository_->LoadedReference(version))
      model.tiers.push_back(MemoryOf(version->version, *reference));
  }
  const WallTime now = options_.now();
  std::lock_guard lock(table_->mutex);
  for (const auto& [name, kept] : table_->models) {
    ModelMemory& model = models[name];
    if (model.state.empty()) {
      model.state = options_.budget == 0   ? "unloaded"
                    : kept.waiters.empty() ? "available"
                                           : "loading";
      if (kept.waiters.empty()) model.bytes = kept.bytes;  // while it loads, nobody knows
    } else if (kept.state == State::kLeaving) {
      model.state = "unloading";
    }
    model.pinned = kept.pinned;
    model.hits = kept.hits;
    model.misses = kept.misses;
    model.evictions = kept.evictions;
    model.loads = kept.loads;
    model.last_use = history_.last_use(name);
    if (model.last_use || kept.since != WallTime())
      model.idle = std::chrono::duration_cast<std::chrono::milliseconds>(
          now - model.last_use.value_or(kept.since));
  }
  for (auto& [name, model] : models) {
    model.name = name;
    model.rate = history_.PredictedRate(name, now);
    for (const TierMemory& tier : model.tiers)
      model.bytes += tier.weight_bytes + tier.context_bytes;
    report.models.push_back(std::move(model));
  }
  return report;
}

}  // namespace minim::serve
