#include "serve/cache/request_key.h"

#include <gtest/gtest.h>

#include <functional>

namespace minim::serve {
namespace {

struct Request {
  std::string model = "m", version = "1", tier = "fp32";
  uint64_t generation = 1;
  std::string content = "of the file";
  std::vector<std::string> names = {"a", "b"};
  std::vector<Tensor> inputs = {Tensor::From<float>({2}, {1, 2}), Tensor::From<float>({1}, {3})};
  std::vector<std::string> outputs = {"y"};

  Digest128 Key(Digest128 secret = {1, 2}) const {
    const std::vector<ConstView> views = Views();
    return RequestKey(secret, {model, version, tier, generation, content, names, views, outputs});
  }
  std::string Shared() const {
    const std::vector<ConstView> views = Views();
    return SharedRequestKey({model, version, tier, generation, content, names, views, outputs});
  }
  std::vector<ConstView> Views() const {
    std::vector<ConstView> views;
    for (const Tensor& tensor : inputs) views.push_back(tensor.view());
    return views;
  }
};

TEST(RequestKeyTest, EqualRequestsEqualKeys) {
  EXPECT_EQ(Request().Key(), Request().Key());
  EXPECT_FALSE(Request().Key({1, 2}) == Request().Key({1, 3}));
  EXPECT_FALSE(RandomSecret() == RandomSecret());
}

TEST(RequestKeyTest, EveryPartCounts) {
  const std::vector<std::function<void(Request&)>> changes = {
      [](Request& r) { r.model = "n"; },
      [](Request& r) { r.version = "2"; },
      [](Request& r) { r.tier = "int8"; },
      [](Request& r) { r.generation = 2; },
      [](Request& r) { r.names[0] = "c"; },
      [](Request& r) { r.inputs[0].as<float>()[1] = 4; },
      [](Request& r) { r.inputs[0] = r.inputs[0].Reshaped({1, 2}); },
      [](Request& r) { r.inputs[0] = Tensor::From<int32_t>({2}, {0x3f800000, 0x40000000}); },
      [](Request& r) { r.outputs = {}; },
      [](Request& r) { r.outputs = {"y", "z"}; },
      [](Request& r) { std::swap(r.inputs[0], r.inputs[1]); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    Request changed;
    changes[i](changed);
    EXPECT_FALSE(changed.Key() == Request().Key()) << "change " << i;
    const bool same_file = changed.generation != Request().generation;
    EXPECT_EQ(changed.Shared() == Request().Shared(), same_file) << "change " << i;
  }
}

TEST(RequestKeyTest, SharedKeysAreOfTheFileAndNotOfTheProcess) {
  EXPECT_EQ(Request().Shared().size(), 32u);
  Request other;
  other.content = "of another file";
  EXPECT_NE(other.Shared(), Request().Shared());
  other.content = "";
  EXPECT_EQ(other.Shared(), "");
}

}  // namespace
}  // namespace minim::serve
