#include "serve/protocol/infer_response.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace minim::serve {
namespace {

TEST(InferResponseTest, JsonTensors) {
  const float inf = std::numeric_limits<float>::infinity();
  const HttpResponse response =
      InferResponse("m\"", "3", "id",
                    {{"y", Tensor::From<float>({2, 2}, {0.1f, -2, inf, 1e-30f})},
                     {"b", Tensor::From<bool>({2}, {true, false})},
                     {"s", Tensor::From<std::string>({2}, {"a\"\n", "\xff"})},
                     {"i", Tensor::From<int8_t>({1}, {-128})},
                     {"none", Tensor(DType::u64, {0})}},
                    {.tier = "int8", .batch_size = 4, .cache_hit = true, .total_us = 7});
  const auto json = nlohmann::json::parse(response.body);
  EXPECT_EQ(json["model_name"], "m\"");
  EXPECT_EQ(json["id"], "id");
  EXPECT_EQ(json["parameters"]["tier"], "int8");
  EXPECT_EQ(json["parameters"]["batch_size"], 4);
  EXPECT_NE(response.body.find("\"data\":[0.1,-2,null,1e-30]"), std::string::npos) << response.body;
  EXPECT_EQ(json["outputs"][1]["data"], nlohmann::json::parse("[true,false]"));
  EXPECT_EQ(json["outputs"][2]["datatype"], "BYTES");
  EXPECT_EQ(json["outputs"][2]["data"], nlohmann::json::parse(R"(["a\"\n","\ufffd"])"));
  EXPECT_EQ(json["outputs"][3]["data"][0], -128);
  EXPECT_TRUE(json["outputs"][4]["data"].empty());
  EXPECT_EQ(response.headers.Get("Inference-Header-Content-Length"), "");
}

TEST(InferResponseTest, BinaryTensorsFollowTheJson) {
  const HttpResponse response = InferResponse("m", "1", "",
                                              {{"a", Tensor::From<int16_t>({1}, {0x4142}), true},
                                               {"b", Tensor::From<float>({1}, {1}), false},
                                               {"c", Tensor::From<std::string>({1}, {"xy"}), true}},
                                              {});
  const size_t length =
      std::stoul(std::string(response.headers.Get("Inference-Header-Content-Length")));
  EXPECT_EQ(response.body.substr(length), std::string("BA\x02\0\0\0xy", 8));
  const auto json = nlohmann::json::parse(response.body.substr(0, length));
  EXPECT_EQ(json["outputs"][0]["parameters"]["binary_data_size"], 2);
  EXPECT_EQ(json["outputs"][2]["parameters"]["binary_data_size"], 6);
  EXPECT_FALSE(json["outputs"][0].contains("data"));
  EXPECT_FALSE(json.contains("id"));
}

}  // namespace
}  // namespace minim::serve
