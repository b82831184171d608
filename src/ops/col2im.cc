// Col2Im: blocks, the columns of an image's sliding window, are added back to the image.
#include "ops/movement.h"
#include "ops/window.h"

namespace minim::ops {
namespace {

// The window whose places over the image are the columns of x[N, C x block, places].
struct Blocks {
  Window window;
  Dims image;
  int64_t batch = 0, channels = 0, taps = 0, places = 0;
};

Status CheckSizes(const std::vector<int64_t>& image, const std::vector<int64_t>& block) {
  if (image.size() != block.size() || image.empty() || image.size() > 6)
    return InvalidArgument("the image has {} axes and the block {}", image.size(), block.size());
  int64_t taps = 1;
  for (size_t i = 0; i < image.size(); ++i) {
    if (image[i] < 1 || block[i] < 1 || std::max(image[i], block[i]) > INT32_MAX / taps)
      return InvalidArgument("the image holds {} and the block {}, expected 1 or more", image[i],
                             block[i]);
    taps *= block[i];
  }
  return {};
}

Result<Blocks> MakeBlocks(const Attributes& a, const Dims& x, const std::vector<int64_t>& image,
                          const std::vector<int64_t>& block) {
  MINIM_TRY(CheckSizes(image, block));
  Blocks b{.image = Dims(image), .batch = x[0]};
  MINIM_TRY(b.window, MakeWindow(a, Dims(block), b.image));
  b.taps = b.window.kernel.Elements();
  b.channels = x[1] / b.taps;
  b.places = WindowOutput(b.window, b.image, false).Elements();
  if (x[1] % b.taps != 0 || x[2] != b.places)
    return InvalidArgument("input has shape {}, expected [N,C x {},{}]", x.ToString(), b.taps,
                           b.places);
  return b;
}

// Visits the elements of x that lie in the image: f(offset in x, offset in the image batch).
template <typename F>
void ForEachElement(const Blocks& b, F&& f) {
  const int64_t size = b.image.Elements();
  const Dims out = WindowOutput(b.window, b.image, false);
  for (int64_t plane = 0; plane < b.batch * b.channels; ++plane)
    ForEachIndex(out, [&](int64_t column, const Dims& at) {
      ForEachTap(b.window, b.image, at, [&](int64_t tap, int64_t place) {
        f((plane * b.taps + tap) * b.places + column, plane * size + place);
      });
    });
}

Status Infer(InferContext& op) {
  const TensorType& x = op.input(0);
  MINIM_TRY(op.HasRank(0, 3));
  const auto image = op.IntsInput(1), block = op.IntsInput(2);
  if (!image || !block) return op.SetUnknown(0, x.dtype);
  if (const Status sizes = CheckSizes(*image, *block); !sizes.ok())
    return op.Error("{}", sizes.message());
  const int64_t taps = Dims(*block).Elements();
  if (x.Static()) {
    const auto blocks = MakeBlocks(op.attributes(), x.dims(), *image, *block);
    if (!blocks.ok()) return op.Error("{}", blocks.status().message());
  }
  const Shape in = x.ranked() ? *x.shape : Shape(3);
  Shape shape{in[0], in[1].Map([&](int64_t rows) { return rows / taps; })};
  shape.insert(shape.end(), image->begin(), image->end());
  return op.SetOutput(0, x.dtype, std::move(shape));
}

Status Reference(RefContext& op) {
  RefTensor& y = op.Output(0);
  MINIM_TRY(const Blocks blocks, MakeBlocks(op.attributes(), op.dims(0), op.Ints(1), op.Ints(2)));
  ForEachElement(blocks,
                 [&](int64_t from, int64_t to) { y.SetAt(to, y.At(to) + op.input(0).At(from)); });
  return {};
}

// Each element of x reads the place of dy it was added to, or a zero past its end.
Status Gradient(GradContext& g) {
  MINIM_TRY(const std::vector<int64_t> image, g.ConstantInts(1));
  MINIM_TRY(const std::vector<int64_t> block, g.ConstantInts(2));
  const Dims x = g.type(g.input(0)).dims();
  MINIM_TRY(const Blocks blocks, MakeBlocks(g.attributes(), x, image, block));
  const int64_t count = g.type(g.output(0)).dims().Elements();
  std::vector<int64_t> offsets(x.Elements(), count);
  ForEachElement(blocks, [&](int64_t from, int64_t to) { offsets[from] = to; });
  const ValueId dy = g.Reshape(g.output_grad(0), Dims({count}));
  const ValueId padded = g.Emit("Pad", {dy, g.Ints({0, 1})});
  g.SetInputGrad(0, g.Reshape(g.Emit("Gather", {padded, g.Ints(std::move(offsets))}), x));
  return {};
}

}  // namespace

OpDef Col2Im() {
  return {.name = "Col2Im",
          .onnx_since = {18},
          .min_inputs = 3,
          .max_inputs = 3,
          .dtypes = kNumericTypes,
          .infer = Infer,
          .gradient = Gradient,
          .reference = Reference,
          .precision = PrecisionClass::kFp32,
          .samples =
              "Col2Im(x: f32[2,6,15], i: i64[2] = [4,5], b: i64[2] = [2,1])\n"
              "Col2Im(x: f32[1,8,9], i: i64[2] = [5,5], b: i64[2] = [2,2]) {pads=[1,0,0,1], "
              "strides=[2,2]}\n"
              "Col2Im(x: i32[1,2,3], i: i64[1] = [5], b: i64[1] = [2]) {dilations=[2]}\n"};
}

}  // namespace minim::ops
