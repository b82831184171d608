#include "ops/elementwise.h"

namespace minim::ops {

std::string FloatSamples(std::string_view op, std::string_view generator) {
  return fmt::format(
      "{0}(x: f32[0])\n{0}(x: f32 = {1})\n{0}(x: f32[3,17] = {1})\n{0}(x: f16[5] = {1})\n"
      "{0}(x: bf16[5] = {1})\n{0}(x: f64[4] = {1})\n",
      op, generator);
}

std::string FloatSamples(std::string_view op, std::string_view generator,
                         std::string_view attributes) {
  return FloatSamples(op, generator) +
         fmt::format("{}(x: f32[2,9] = {}) {}\n", op, generator, attributes);
}

std::string PairSamples(std::string_view op, std::string_view dtype, std::string_view left,
                        std::string_view right, std::string_view attributes) {
  const auto argument = [&](std::string_view name, std::string_view dims, std::string_view from) {
    return fmt::format("{}: {}{}{}{}", name, dtype, dims, from.empty() ? "" : " = ", from);
  };
  constexpr std::array<std::array<std::string_view, 2>, 5> kDims = {
      {{"[7]", "[7]"}, {"[3,1,5]", "[2,5]"}, {"", "[3]"}, {"[2,3]", ""}, {"[0,3]", "[1]"}}};
  std::string text;
  for (const auto& [a, b] : kDims)
    text += fmt::format("{}({}, {}) {}\n", op, argument("a", a, left), argument("b", b, right),
                        attributes);
  return text;
}

}  // namespace minim::ops
