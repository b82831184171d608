#include "serve/fallback/tier_timing.h"

#include <gtest/gtest.h>

#include <thread>

#include "serve/testing/fake_model.h"

namespace minim::serve {
namespace {

// Takes at least so long for a run.
class SlowModel : public FakeModel {
 public:
  explicit SlowModel(std::chrono::milliseconds time) : time_(time) {}
  Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const override {
    std::this_thread::sleep_for(time_);
    return FakeModel::Run(inputs);
  }

 private:
  const std::chrono::milliseconds time_;
};

class BrokenModel : public FakeModel {
 public:
  Result<std::vector<Tensor>> Run(std::span<const ConstView>) const override {
    return Internal("broken");
  }
};

TEST(TierTiming, RatiosAreToTheFirst) {
  const std::shared_ptr<const Model> models[] = {
      std::make_shared<SlowModel>(std::chrono::milliseconds(4)), std::make_shared<FakeModel>(),
      std::make_shared<BrokenModel>()};
  const auto speedups = MeasureSpeedups(models, 8, std::chrono::milliseconds(40));
  EXPECT_EQ(speedups[0], 1);
  EXPECT_GT(speedups[1], 2);
  EXPECT_EQ(speedups[2], 0);
}

TEST(TierTiming, SampleInputsFitTheModel) {
  const FakeModel model;
  const auto inputs = SampleInputs(model, 3);
  ASSERT_EQ(inputs.size(), 1u);
  EXPECT_EQ(inputs[0].dims(), (Dims{3, 2}));
  EXPECT_EQ(inputs[0].as<float>()[0], SampleInputs(model, 3)[0].as<float>()[0]);
}

}  // namespace
}  // namespace minim::serve
