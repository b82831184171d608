// Properties of the scheduler over whole runs, in virtual time.
#include "bench/simulator/simulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "apps/arrivals.h"
#include "bench/simulator/oracle.h"

namespace minim {
namespace {

using serve::BatchPolicies;
using serve::BatchPolicy;
using serve::FindBatchPolicy;
using serve::FromSeconds;

constexpr double kTarget = 0.05;

std::vector<SimulatedRequest> Requests(const Arrivals& arrivals) {
  std::vector<SimulatedRequest> requests;
  for (const double at : arrivals) requests.push_back({.arrival = at});
  return requests;
}

// a + b n seconds for n rows.
struct Affine {
  double a = 5e-3, b = 0.1e-3;
  double operator()(int64_t rows) const { return a + b * static_cast<double>(rows); }
  double RowsPerSecond(int64_t rows) const { return static_cast<double>(rows) / (*this)(rows); }
  std::vector<double> UpTo(int64_t rows) const {
    std::vector<double> seconds;
    for (int64_t n = 1; n <= rows; ++n) seconds.push_back((*this)(n));
    return seconds;
  }
};

SimulationOptions With(std::string_view policy, Affine latency = {}) {
  SimulationOptions options{.run_seconds = latency};
  options.settings.policy = *FindBatchPolicy(policy);
  options.settings.bounds.min_batch = 1;
  options.settings.bounds.latency_target = FromSeconds(kTarget);
  return options;
}

TEST(SimulatorTest, NoPolicyBeatsTheOracle) {
  std::mt19937_64 random(11);
  const auto draw = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random() % 10000) / 10000;
  };
  for (int instance = 0; instance < 1500; ++instance) {
    const Affine latency{draw(0.1e-3, 30e-3), draw(0.01e-3, 2e-3)};
    const int64_t cap = 1 + static_cast<int64_t>(random() % 12);
    const ArrivalKind& kind = ArrivalKinds()[random() % 3];
    const Arrivals arrivals = kind.make({.per_second = draw(0.2, 3) * latency.RowsPerSecond(cap),
                                         .count = 1 + static_cast<int64_t>(random() % 60),
                                         .scale_seconds = kTarget,
                                         .seed = random()});
    const int64_t oracle = OracleInTime(arrivals, kTarget, latency.UpTo(cap));
    for (const BatchPolicy& policy : BatchPolicies()) {
      SimulationOptions options = With(policy.name, latency);
      options.settings.bounds.max_batch = cap;
      options.settings.bounds.window = FromSeconds(draw(0, 0.1));
      const Simulation simulation = Simulate(options, Requests(arrivals));
      ASSERT_LE(simulation.InTime(kTarget), oracle) << policy.name << ", instance " << instance;
    }
  }
}

// Whatever is thrown at it: every request has one end, no run exceeds the cap unless one request
// does, no instance runs twice at once, and nobody is answered after his timeout has been known.
TEST(SimulatorTest, EveryRequestEndsOnceUnderEveryPolicy) {
  std::mt19937_64 random(3);
  for (int instance = 0; instance < 300; ++instance) {
    const Arrivals arrivals = BurstArrivals({.per_second = 3000, .count = 200, .seed = random()});
    std::vector<SimulatedRequest> requests = Requests(arrivals);
    int64_t rows = 0;
    for (SimulatedRequest& request : requests) {
      request.rows = random() % 20 == 0 ? 25 : 1 + static_cast<int64_t>(random() % 4);
      request.priority = random() % 10;
      request.timeout = random() % 3 == 0 ? 0.04 : 0;
      rows += request.rows;
    }
    SimulationOptions options = With(BatchPolicies()[random() % 4].name);
    options.settings.bounds.max_batch = 20;
    options.instances = 1 + static_cast<int>(random() % 3);
    options.noise = random() % 2 == 0 ? 0.2 : 0;
    options.settings.max_queue_rows = 100;
    const Simulation simulation = Simulate(options, requests);
    int64_t answered_rows = 0, run_rows = 0, ended = 0;
    for (size_t i = 0; i < requests.size(); ++i)
      if (simulation.answers[i].fate == Fate::kAnswered) answered_rows += requests[i].rows;
    for (const SimulatedRun& run : simulation.runs) {
      run_rows += run.rows;
      ASSERT_LE(run.rows, 25);
    }
    for (const Fate fate : {Fate::kRefused, Fate::kDropped, Fate::kAnswered})
      ended += simulation.Count(fate);
    ASSERT_EQ(ended, static_cast<int64_t>(requests.size()));
    ASSERT_EQ(answered_rows, run_rows);
    ASSERT_LE(simulation.most_queued_rows, 100 + 25);
  }
}

TEST(SimulatorTest, AdaptiveComesCloseToTheOracle) {
  for (const Affine latency :
       {Affine{2e-3, 0.2e-3}, Affine{10e-3, 0.2e-3}, Affine{0.5e-3, 0.5e-3}}) {
    for (const ArrivalKind& kind : ArrivalKinds()) {
      for (const double load : {0.5, 1.0, 2.0}) {
        const Arrivals arrivals = kind.make({.per_second = load * latency.RowsPerSecond(50),
                                             .count = 6000,
                                             .scale_seconds = kTarget,
                                             .seed = 29});
        const Simulation adaptive = Simulate(With("adaptive", latency), Requests(arrivals));
        const auto oracle = static_cast<double>(OracleInTime(arrivals, kTarget, latency.UpTo(50)));
        EXPECT_GE(static_cast<double>(adaptive.InTime(kTarget)), 0.9 * oracle)
            << latency.a << ' ' << kind.name << ' ' << load;
        EXPECT_LE(adaptive.LatencyQuantile(0.985), kTarget + 1e-8)
            << latency.a << ' ' << kind.name << ' ' << load;
      }
    }
  }
}

TEST(SimulatorTest, OverloadKeepsThePeakAndTheQueueStaysShort) {
  const Affine latency;
  const double peak = latency.RowsPerSecond(50);
  for (const double load : {1.5, 2.0, 10.0}) {
    const Arrivals arrivals =
        PoissonArrivals({.per_second = load * peak, .count = static_cast<int64_t>(20000 * load)});
    const Simulation simulation = Simulate(With("adaptive"), Requests(arrivals));
    const double goodput = static_cast<double>(simulation.InTime(kTarget)) / simulation.end;
    EXPECT_GE(goodput, 0.95 * peak) << load;
    EXPECT_LE(simulation.LatencyQuantile(0.99), kTarget + 1e-8) << load;
    EXPECT_LE(simulation.most_queued_rows, static_cast<int64_t>(1.5 * kTarget * peak)) << load;
  }
}

// Load steps from low to far too high and back. Within each step, after a moment to settle, what is
// answered and how large the batches are must hold still: neither drift nor swing.
TEST(SimulatorTest, StepsOfLoadSettleWithoutSwinging) {
  const Affine latency;
  const double peak = latency.RowsPerSecond(50), step_seconds = 4;
  const double kLoads[] = {0.3, 1.5, 0.8, 3.0, 0.3};
  std::vector<SimulatedRequest> requests;
  double start = 0;
  for (const double load : kLoads) {
    for (double at = start; at < start + step_seconds; at += 1 / (load * peak))
      requests.push_back({.arrival = at});
    start += step_seconds;
  }
  const Simulation simulation = Simulate(With("adaptive"), requests);
  for (size_t step = 0; step < std::size(kLoads); ++step) {
    const double from = static_cast<double>(step) * step_seconds + 1, to = from + 2.9;
    std::vector<double> batches, answered(10);
    for (const SimulatedRun& run : simulation.runs) {
      if (run.start < from || run.start + run.seconds > to) continue;
      batches.push_back(static_cast<double>(run.rows));
      answered[static_cast<size_t>((run.start - from) / (to - from) * 10)] +=
          static_cast<double>(run.rows);
    }
    double mean = 0, deviation = 0;
    for (const double rows : batches) mean += rows / static_cast<double>(batches.size());
    for (const double rows : batches)
      deviation += std::abs(rows - mean) / static_cast<double>(batches.size());
    EXPECT_LT(deviation, 0.05 * mean + 1) << "batches swing at load " << kLoads[step];
    const double expected = std::min(kLoads[step], 1.0) * peak * (to - from) / 10;
    for (const double rows : answered)
      EXPECT_NEAR(rows, expected, 0.15 * expected) << "at load " << kLoads[step];
  }
}

TEST(SimulatorTest, ASlowerMachineIsFollowed) {
  SimulationOptions options = With("adaptive");
  int64_t runs = 0;
  options.run_seconds = [&runs](int64_t rows) { return (++runs < 200 ? 1 : 2) * Affine()(rows); };
  const Arrivals arrivals =
      PoissonArrivals({.per_second = Affine().RowsPerSecond(50), .count = 40000});
  const Simulation simulation = Simulate(options, Requests(arrivals));
  const double slow_peak = Affine{10e-3, 0.2e-3}.RowsPerSecond(50);
  int64_t in_time = 0;
  double from = arrivals.back() / 2;
  for (size_t i = 0; i < arrivals.size(); ++i)
    in_time += arrivals[i] > from && simulation.answers[i].fate == Fate::kAnswered &&
               simulation.answers[i].latency <= kTarget;
  EXPECT_GT(static_cast<double>(in_time) / (arrivals.back() - from), 0.85 * slow_peak);
}

TEST(SimulatorTest, PriorityIsKeptUnderOverloadAndNobodyStarves) {
  const Affine latency;
  std::vector<SimulatedRequest> requests =
      Requests(PoissonArrivals({.per_second = 2 * latency.RowsPerSecond(50), .count = 40000}));
  for (size_t i = 0; i < requests.size(); ++i) requests[i].priority = i % 4 == 0 ? 1 : 8;
  const Simulation simulation = Simulate(With("adaptive"), requests);
  int64_t high = 0, low = 0;
  for (size_t i = 0; i < requests.size(); ++i)
    if (simulation.answers[i].fate == Fate::kAnswered) ++(i % 4 == 0 ? high : low);
  EXPECT_GT(high, 9500) << "half of the capacity is enough for all of them";
  EXPECT_GT(low, 7000) << "who get what is left";
  // More high ones than can be answered: the low ones keep a share.
  for (size_t i = 0; i < requests.size(); ++i) requests[i].priority = i % 4 == 0 ? 8 : 1;
  const Simulation crowded = Simulate(With("adaptive"), requests);
  low = 0;
  for (size_t i = 0; i < requests.size(); i += 4) low += crowded.answers[i].fate == Fate::kAnswered;
  EXPECT_GT(low, 1000) << "a twentieth of what is answered, at least";
}

// With a fixed target that leaves no time for two runs in a row.
TEST(SimulatorTest, ATargetNoRunMeetsStillGetsAnswers) {
  const Affine slow{80e-3, 1e-3};
  const Arrivals arrivals = PoissonArrivals({.per_second = 100, .count = 2000});
  const Simulation simulation = Simulate(With("adaptive", slow), Requests(arrivals));
  EXPECT_GT(simulation.Count(Fate::kAnswered), 1000);
}

}  // namespace
}  // namespace minim
