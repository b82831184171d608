#include "minim/grad_scaler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/dtype.h"
#include "core/philox.h"

namespace minim {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const std::function<Status()> kNothing = [] { return Status(); };

// _amp_update_scale_ of PyTorch, written down from its source.
struct Rule {
  float scale = 65536;
  int64_t tracker = 0;

  void Update(const GradScalerOptions& o, bool found_inf) {
    if (found_inf) {
      scale = static_cast<float>(scale * o.backoff_factor);
      tracker = 0;
    } else if (tracker + 1 == o.growth_interval) {
      const auto grown = static_cast<float>(scale * o.growth_factor);
      if (std::isfinite(grown)) scale = grown;
      tracker = 0;
    } else {
      ++tracker;
    }
    scale = std::clamp(scale, static_cast<float>(o.min_scale), static_cast<float>(o.max_scale));
  }
};

GradScaler MakeScaler(const GradScalerOptions& options = {}) {
  return GradScaler::Make(options).value();
}

// Random iterations of several optimizers, some with bad gradients, some saved and restored.
void Replay(const GradScalerOptions& options, uint64_t seed) {
  GradScaler scaler = MakeScaler(options);
  Rule rule{.scale = scaler.scale()};
  const Philox rng(seed);
  uint64_t draw = 0;
  for (int iteration = 0; iteration < 400; ++iteration) {
    const uint32_t optimizers = 1 + rng.Below(draw++, 3);
    bool any_bad = false;
    for (uint32_t id = 0; id < optimizers; ++id) {
      const bool bad = rng.Below(draw++, 10) == 0;
      any_bad = any_bad || bad;
      Tensor grad = Tensor::From<float>({4}, {1, -2, bad ? kInf : 3, 1e-30f});
      const std::vector<float> before(grad.as<float>().begin(), grad.as<float>().end());
      const View views[] = {grad.view()};
      if (rng.Below(draw++, 2) == 0) {  // as before clipping
        ASSERT_TRUE(scaler.Unscale(static_cast<int>(id), views).ok());
      }
      bool called = false;
      const auto stepped = scaler.Step(static_cast<int>(id), views, [&] {
        called = true;
        return Status();
      });
      ASSERT_TRUE(stepped.ok());
      EXPECT_EQ(*stepped, !bad);
      EXPECT_EQ(called, !bad);
      const auto inverse = static_cast<float>(1.0 / static_cast<double>(rule.scale));
      for (size_t k = 0; k < before.size(); ++k)
        EXPECT_EQ(grad.as<float>()[k], before[k] * inverse);
    }
    ASSERT_TRUE(scaler.Update().ok());
    rule.Update(options, any_bad);
    ASSERT_EQ(scaler.scale(), rule.scale);
    ASSERT_EQ(scaler.growth_tracker(), rule.tracker);
    if (rng.Below(draw++, 20) != 0) continue;
    GradScaler other = MakeScaler(options);
    ASSERT_TRUE(other.Restore(scaler.Save()).ok());
    scaler = other;
  }
}

TEST(GradScalerTest, FollowsPyTorchsRuleOverRandomOverflows) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    GradScalerOptions options{.growth_interval = 3 + static_cast<int64_t>(seed)};
    Replay(options, seed);  // clamped
    options.min_scale = 0;
    options.max_scale = std::numeric_limits<double>::infinity();
    Replay(options, seed);
    options.growth_factor = 1.7;
    options.backoff_factor = 0.3;
    options.initial_scale = 3e38;  // growing would give infinity
    Replay(options, seed);
  }
}

TEST(GradScalerTest, ExtremeScales) {
  EXPECT_EQ(MakeScaler({.initial_scale = 1}).inverse_scale(), 1.0f);
  EXPECT_EQ(MakeScaler({.initial_scale = 262144}).inverse_scale(), 1.0f / 262144);
  EXPECT_EQ(MakeScaler({.initial_scale = kInf}).scale(), 262144.0f);  // the clamp
  GradScaler infinite = MakeScaler({.initial_scale = kInf, .max_scale = kInf});
  EXPECT_EQ(infinite.inverse_scale(), 0.0f);
  GradScaler least = MakeScaler({.initial_scale = 1});
  ASSERT_TRUE(least.Record(0, false).ok());
  ASSERT_TRUE(least.Update().ok());
  EXPECT_EQ(least.scale(), 1.0f);
  EXPECT_TRUE(least.stuck());
  ASSERT_TRUE(least.Record(0, true).ok());
  ASSERT_TRUE(least.Update().ok());
  EXPECT_FALSE(least.stuck());
}

TEST(GradScalerTest, CallsOutOfOrderAreErrors) {
  GradScaler scaler = MakeScaler();
  Tensor grad = Tensor::From<float>({1}, {1});
  const View views[] = {grad.view()};
  EXPECT_NE(scaler.Update().message().find("no gradients were checked"), std::string::npos);
  ASSERT_TRUE(scaler.Unscale(0, views).ok());
  EXPECT_NE(scaler.Unscale(0, views).message().find("already"), std::string::npos);
  ASSERT_TRUE(scaler.Unscale(1, views).ok());  // another optimizer
  ASSERT_TRUE(scaler.Step(0, views, kNothing).ok());
  EXPECT_NE(scaler.Step(0, views, kNothing).status().message().find("already"), std::string::npos);
  EXPECT_NE(scaler.Unscale(0, views).message().find("after Step"), std::string::npos);
  ASSERT_TRUE(scaler.Update().ok());
  EXPECT_TRUE(scaler.Unscale(0, views).ok());
}

TEST(GradScalerTest, HalfPrecisionGradientsAreRefused) {
  GradScaler scaler = MakeScaler();
  Tensor grad(DType::f16, {2});
  const View views[] = {grad.view()};
  EXPECT_NE(scaler.Unscale(0, views).message().find("f16"), std::string::npos);
  Tensor whole(DType::i32, {2});
  const View integers[] = {whole.view()};
  EXPECT_NE(scaler.Unscale(0, integers).message().find("gradient 0 is i32"), std::string::npos);
  Tensor wide(DType::bf16, {2});
  const View good[] = {wide.view()};
  EXPECT_TRUE(scaler.Unscale(0, good).ok());
}

TEST(GradScalerTest, DisabledPassesThrough) {
  GradScaler scaler = MakeScaler({.enabled = false});
  Tensor grad = Tensor::From<float>({1}, {kInf});
  const View views[] = {grad.view()};
  EXPECT_EQ(scaler.scale(), 1.0f);
  ASSERT_TRUE(scaler.Unscale(0, views).ok());
  EXPECT_TRUE(*scaler.Step(0, views, kNothing));
  EXPECT_TRUE(scaler.Update().ok());
  EXPECT_EQ(grad.as<float>()[0], kInf);
}

TEST(GradScalerTest, StatisticsAreExact) {
  GradScaler scaler = MakeScaler({.initial_scale = 8, .growth_interval = 2});
  for (bool finite : {true, true, false, true, false, false}) {
    ASSERT_TRUE(scaler.Record(0, finite).ok());
    ASSERT_TRUE(scaler.Update().ok());
  }
  const GradScalerStatistics& s = scaler.statistics();
  EXPECT_EQ(s.updates, 6);
  EXPECT_EQ(s.overflows, 3);
  EXPECT_EQ(s.growths, 1);
  EXPECT_EQ(s.backoffs, 3);
  ASSERT_EQ(s.history.size(), 5u);
  EXPECT_EQ(s.history[1].update, 2);
  EXPECT_EQ(s.history[1].scale, 16);
  EXPECT_EQ(s.history[4].scale, 2);
  scaler.Reset();
  EXPECT_EQ(scaler.scale(), 8.0f);
  EXPECT_EQ(scaler.statistics().updates, 0);
}

TEST(GradScalerTest, BadOptionsAndSavesAreNamed) {
  EXPECT_NE(GradScaler::Make({.growth_factor = 1}).status().message().find("growth_factor"),
            std::string::npos);
  EXPECT_NE(GradScaler::Make({.backoff_factor = 1}).status().message().find("backoff_factor"),
            std::string::npos);
  EXPECT_NE(GradScaler::Make({.min_scale = 5, .max_scale = 4}).status().message().find("max_scale"),
            std::string::npos);
  EXPECT_NE(GradScaler::Make({.growth_interval = 0}).status().message().find("growth_interval"),
            std::string::npos);
  EXPECT_NE(GradScaler::Make({.initial_scale = 0}).status().message().find("initial_scale"),
            std::string::npos);
  GradScaler scaler = MakeScaler();
  for (const auto& [key, text] : {std::pair<std::string, std::string>{"growth_tracker", "x"},
                                  {"scale", "-1"},
                                  {"growth_factor", "0.5"}}) {
    auto saved = scaler.Save();
    saved["scaler." + key] = text;
    EXPECT_NE(scaler.Restore(saved).message().find(key), std::string::npos) << key;
    EXPECT_EQ(scaler.scale(), 65536.0f);
  }
}

// GradScaler.update(new_scale) of PyTorch: the tracker stays.
TEST(GradScalerTest, AScaleMayBeSet) {
  GradScaler scaler = MakeScaler({.growth_interval = 10, .max_scale = 1 << 20});
  Tensor grad = Tensor::From<float>({1}, {1});
  const View views[] = {grad.view()};
  ASSERT_TRUE(scaler.Unscale(0, views).ok());
  ASSERT_TRUE(scaler.Update().ok());
  ASSERT_TRUE(scaler.Unscale(0, views).ok());
  ASSERT_TRUE(scaler.Update(512).ok());
  EXPECT_EQ(scaler.scale(), 512);
  EXPECT_EQ(scaler.growth_tracker(), 1);
  EXPECT_EQ(scaler.statistics().updates, 2);
  EXPECT_EQ(scaler.statistics().history.back().scale, 512);
  EXPECT_TRUE(scaler.Unscale(0, views).ok());  // a new iteration
  ASSERT_TRUE(scaler.Update(1e9f).ok());
  EXPECT_EQ(scaler.scale(), 1 << 20);  // the clamp
  for (float bad : {0.0f, -1.0f, NAN}) {
    EXPECT_NE(scaler.Update(bad).message().find("expected a positive number"), std::string::npos);
    EXPECT_EQ(scaler.scale(), 1 << 20);
  }
  GradScaler disabled = MakeScaler({.enabled = false});
  EXPECT_TRUE(disabled.Update(-1).ok());
  EXPECT_EQ(disabled.scale(), 1);
}

TEST(GradScalerTest, HistoryKeepsTheFirstAndTheLastChanges) {
  GradScaler scaler = MakeScaler({.initial_scale = 8, .growth_interval = 1});
  const int64_t updates = 12000;
  for (int64_t i = 0; i < updates; ++i) {
    ASSERT_TRUE(scaler.Record(0, i % 2 == 0).ok());
    ASSERT_TRUE(scaler.Update().ok());
  }
  const auto& history = scaler.statistics().history;
  EXPECT_EQ(history.size(), 10000u);
  EXPECT_EQ(history[0].update, 0);
  EXPECT_EQ(history[0].scale, 8);
  for (size_t i = 1; i < history.size(); ++i) {
    const int64_t update = updates - static_cast<int64_t>(history.size() - 1 - i);
    ASSERT_EQ(history[i].update, update);
    ASSERT_EQ(history[i].scale, update % 2 == 1 ? 16 : 8);
  }
}

ExponentHistogram HistogramOf(int exponent) {
  ExponentHistogram histogram;
  histogram.counts[static_cast<size_t>(exponent + 127)] = 100;
  histogram.counts[static_cast<size_t>(exponent - 20 + 127)] = 10;
  return histogram;
}

// Gradients of 2^-12: the adaptive scale brings them near FP16's largest at once, without overflow.
TEST(GradScalerTest, AdaptiveFollowsTheLargestGradients) {
  GradScaler scaler = MakeScaler({.initial_scale = 1, .max_scale = 1e30, .adaptive = true});
  for (int i = 0; i < 64; ++i) {
    const int scaled = -12 + std::ilogb(scaler.scale());
    ASSERT_TRUE(scaler.Record(0, HistogramOf(scaled), scaled <= 15).ok());
    ASSERT_TRUE(scaler.Update().ok());
  }
  EXPECT_EQ(scaler.statistics().overflows, 0);
  EXPECT_GE(scaler.scale() * std::exp2(-12.0), 2048);
  EXPECT_LT(scaler.scale() * std::exp2(-12.0), 32768);
  EXPECT_GT(scaler.statistics().underflows, 0);
  const float before = scaler.scale();
  ASSERT_TRUE(scaler.Record(0, HistogramOf(10), false).ok());
  ASSERT_TRUE(scaler.Update().ok());
  EXPECT_EQ(scaler.scale(), before / 2);
}

TEST(GradScalerTest, AdaptiveSeesWhatUnscaleSees) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    GradScaler scaler = MakeScaler({.initial_scale = 1, .max_scale = 1e30, .adaptive = true});
    for (int i = 0; i < 32; ++i) {
      const float value = std::exp2(-12.0f) * scaler.scale();
      Tensor grad = Converted(Tensor::From<float>({2}, {value, value / 1024}).view(), dtype);
      const View views[] = {grad.view()};
      ASSERT_TRUE(scaler.Unscale(0, views).ok());
      ASSERT_TRUE(scaler.Update().ok());
    }
    EXPECT_GE(scaler.scale() * std::exp2(-12.0), 2048) << Name(dtype);
    EXPECT_LT(scaler.scale() * std::exp2(-12.0), 32768) << Name(dtype);
    EXPECT_EQ(scaler.statistics().elements, 64);
    EXPECT_GT(scaler.statistics().underflows, 0);
  }
}

}  // namespace
}  // namespace minim
