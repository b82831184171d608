#include "train/safetensors.h"

#include <gtest/gtest.h>

namespace minim {
namespace {

TEST(SafeTensorsTest, RoundTrip) {
  SafeTensors file;
  file.tensors["w"] = Tensor::From<float>({2, 2}, {1, 2, 3, 4});
  file.tensors["step"] = Tensor::Scalar<int64_t>(7);
  file.tensors["f8"] = Tensor::Scalar(Float8E4M3FN(448));
  file.metadata["epoch"] = "3";
  const auto back = ParseSafeTensors(SerializeSafeTensors(file));
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->tensors.at("w").as<float>()[3], 4);
  EXPECT_EQ(back->tensors.at("step").as<int64_t>()[0], 7);
  EXPECT_EQ(back->tensors.at("f8").as<Float8E4M3FN>()[0], Float8E4M3FN(448));
  EXPECT_EQ(back->metadata.at("epoch"), "3");
}

std::string WithHeader(const std::string& header, size_t data) {
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  return bytes + header + std::string(data, 'x');
}

TEST(SafeTensorsTest, HostileFilesAreErrors) {
  SafeTensors file;
  file.tensors["w"] = Tensor(DType::f32, {4});
  const std::string good = SerializeSafeTensors(file);
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(ParseSafeTensors(good.substr(0, n)).ok());
  for (const char* header :
       {"[]", "{", R"({"w":{}})", R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})",
        R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,9]}})",
        R"({"w":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,-4]}})",
        R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4]}})",
        R"({"w":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})",
        R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})"})
    EXPECT_FALSE(ParseSafeTensors(WithHeader(header, 4)).ok()) << header;
}

}  // namespace
}  // namespace minim
