#include "bench/simulator/simulator.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <random>

namespace minim {
namespace {

using serve::BatchScheduler;
using serve::Duration;
using serve::FromSeconds;
using serve::JobPtr;
using serve::JobQueue;
using serve::QueuedJob;
using serve::TimePoint;
using serve::ToSeconds;

constexpr double kHiccup = 5;
constexpr uint64_t kHiccupEvery = 200;

class Simulator {
 public:
  Simulator(const SimulationOptions& options, std::span<const SimulatedRequest> requests)
      : options_(options),
        requests_(requests),
        scheduler_(options.settings, options.instances),
        random_(options.seed) {
    result_.answers.resize(requests.size());
  }

  Simulation Run() {
    size_t next = 0;
    while (next < requests_.size() || !running_.empty() || !scheduler_.empty()) {
      now_ = NextEvent(next);
      while (!running_.empty() && running_.top().end <= now_) EndRun();
      TakeDead();
      for (; next < requests_.size() && At(requests_[next].arrival) <= now_; ++next) Arrive(next);
      result_.most_queued_rows = std::max(result_.most_queued_rows, scheduler_.queued_rows());
      StartRuns();
    }
    return std::move(result_);
  }

 private:
  struct Running {
    TimePoint end;
    Duration time;
    int instance;
    int64_t rows;
    std::shared_ptr<std::vector<JobPtr>> batch;
    bool operator<(const Running& other) const { return end > other.end; }  // the first on top
  };

  // A moment after zero, which stands for "never ran".
  static TimePoint At(double seconds) {
    return TimePoint() + std::chrono::hours(1) + FromSeconds(seconds);
  }
  static double SecondsOf(TimePoint time) { return ToSeconds(time - At(0)); }

  TimePoint NextEvent(size_t next) const {
    TimePoint event = look_again_;
    if (next < requests_.size()) event = std::min(event, At(requests_[next].arrival));
    if (!running_.empty()) event = std::min(event, running_.top().end);
    if (const auto deadline = scheduler_.NextDeadline()) event = std::min(event, *deadline);
    MINIM_CHECK(event != TimePoint::max());  // something waits, and nobody will ever come for it
    return std::max(event, now_);
  }

  void Arrive(size_t index) {
    const SimulatedRequest& request = requests_[index];
    auto job = std::make_unique<QueuedJob>();
    job->id = index;
    job->arrival = At(request.arrival);
    job->rows = request.rows;
    job->may_slice = true;
    job->job.priority = request.priority;
    if (request.timeout > 0) job->job.deadline = job->arrival + FromSeconds(request.timeout);
    (void)scheduler_.Submit(job, now_);  // refused: as the answer says from the start
  }

  void TakeDead() {
    for (const JobPtr& job : scheduler_.TakeDead(now_)) Note(*job, Fate::kDropped);
  }

  void StartRuns() {
    look_again_ = TimePoint::max();
    while (static_cast<int>(running_.size()) < options_.instances) {
      JobQueue::Choice choice = scheduler_.Next(now_);
      for (const JobPtr& job : choice.dropped) Note(*job, Fate::kDropped);
      if (choice.batch.empty()) {
        look_again_ = choice.until;
        return;
      }
      int64_t rows = 0;
      for (const JobPtr& job : choice.batch) rows += job->rows;
      const Duration time = std::max(FromSeconds(SecondsFor(rows)), Duration(1));
      result_.runs.push_back({SecondsOf(now_), ToSeconds(time), rows, choice.reason});
      running_.push({now_ + time, time, scheduler_.Begin(choice.batch, now_), rows,
                     std::make_shared<std::vector<JobPtr>>(std::move(choice.batch))});
    }
  }

  // A request above the cap runs in slices.
  double SecondsFor(int64_t rows) {
    const int64_t cap = options_.settings.bounds.max_batch;
    double seconds = 0;
    for (int64_t left = rows; left > 0; left -= cap)
      seconds += options_.run_seconds(std::min(left, cap));
    if (options_.noise <= 0) return seconds;
    // Two uniforms to one normal: the library's own differ between implementations.
    const double u = static_cast<double>((random_() >> 11) + 1) * 0x1p-53;
    const double v = static_cast<double>(random_() >> 11) * 0x1p-53;
    const double normal = std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
    const bool hiccup = random_() % kHiccupEvery == 0;
    return seconds * std::exp(options_.noise * normal) * (hiccup ? kHiccup : 1);
  }

  void EndRun() {
    const Running run = running_.top();
    running_.pop();
    scheduler_.End(run.instance, run.time, run.rows <= options_.settings.bounds.max_batch, now_);
    for (const JobPtr& job : *run.batch) Note(*job, Fate::kAnswered);
    result_.end = SecondsOf(run.end);
  }

  void Note(const QueuedJob& job, Fate fate) {
    result_.answers[job.id] = {fate, ToSeconds(now_ - job.arrival)};
  }

  const SimulationOptions& options_;
  const std::span<const SimulatedRequest> requests_;
  BatchScheduler scheduler_;
  std::mt19937_64 random_;
  TimePoint now_ = At(0);
  TimePoint look_again_ = TimePoint::max();
  std::priority_queue<Running> running_;
  Simulation result_;
};

}  // namespace

int64_t Simulation::Count(Fate fate) const {
  return std::count_if(answers.begin(), answers.end(),
                       [&](const SimulatedAnswer& answer) { return answer.fate == fate; });
}

int64_t Simulation::InTime(double target_seconds) const {
  return std::count_if(answers.begin(), answers.end(), [&](const SimulatedAnswer& answer) {
    return answer.fate == Fate::kAnswered && answer.latency <= target_seconds + 1e-8;
  });
}

double Simulation::LatencyQuantile(double q) const {
  std::vector<double> latencies;
  for (const SimulatedAnswer& answer : answers)
    if (answer.fate == Fate::kAnswered) latencies.push_back(answer.latency);
  if (latencies.empty()) return 0;
  const auto at = static_cast<size_t>(q * static_cast<double>(latencies.size() - 1));
  std::nth_element(latencies.begin(), latencies.begin() + static_cast<std::ptrdiff_t>(at),
                   latencies.end());
  return latencies[at];
}

double Simulation::MeanBatch() const {
  if (runs.empty()) return 0;
  double rows = 0;
  for (const SimulatedRun& run : runs) rows += static_cast<double>(run.rows);
  return rows / static_cast<double>(runs.size());
}

Simulation Simulate(const SimulationOptions& options, std::span<const SimulatedRequest> requests) {
  return Simulator(options, requests).Run();
}

}  // namespace minim
