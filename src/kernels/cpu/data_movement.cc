// Ops that only move elements: any fixed-size dtype, by element size.
#include <algorithm>

#include "core/shape.h"
#include "kernels/cpu/bindings.h"
#include "kernels/cpu/strided_copy.h"

namespace minim {
namespace {

struct Part {
  StridedCopy copy;
  int input, output;
};

BindResult MakeCopies(std::string name, std::vector<Part> parts) {
  return MakeKernel(std::move(name), [parts = std::move(parts)](const KernelArgs& args) {
    for (const Part& part : parts)
      part.copy.Run(args.inputs[part.input], args.outputs[part.output], args.threads);
  });
}

std::vector<CopyAxis> AxesOf(const Dims& dims, const Dims& src, const Dims& dst) {
  std::vector<CopyAxis> axes;
  for (int i = 0; i < dims.rank(); ++i) axes.push_back({dims[i], src[i], dst[i]});
  return axes;
}

size_t ElementBytes(const KernelRequest& request) { return SizeOf(request.outputs[0].dtype); }

Status CheckSame(const KernelRequest& request) {
  if (request.inputs[0].dtype != request.outputs[0].dtype)
    return Unsupported("input and output dtypes differ");
  return {};
}

struct SliceAxis {
  int64_t start = 0, step = 1;
};

Result<std::vector<SliceAxis>> SlicesOf(const KernelRequest& request) {
  const Dims& in = request.inputs[0].dims;
  std::vector<SliceAxis> slices(in.rank());
  MINIM_TRY(const std::vector<int64_t> starts, ConstantInts(request, 1));
  std::vector<int64_t> axes(starts.size()), steps(starts.size(), 1);
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int64_t>(i);
  if (HasInput(request, 3)) {
    MINIM_TRY(axes, ConstantInts(request, 3));
  }
  if (HasInput(request, 4)) {
    MINIM_TRY(steps, ConstantInts(request, 4));
  }
  if (axes.size() != starts.size() || steps.size() != starts.size())
    return Unsupported("{} starts, {} axes, {} steps", starts.size(), axes.size(), steps.size());
  for (size_t i = 0; i < starts.size(); ++i) {
    const int axis = NormalAxis(axes[i], in.rank());
    if (axis < 0 || axis >= in.rank() || steps[i] == 0)
      return Unsupported("axis or step out of range");
    const int64_t n = in[axis];
    const int64_t start = starts[i] < 0 ? starts[i] + n : starts[i];
    slices[axis] = {steps[i] > 0 ? std::clamp<int64_t>(start, 0, n)
                                 : std::clamp<int64_t>(start, 0, std::max<int64_t>(0, n - 1)),
                    steps[i]};
  }
  return slices;
}

}  // namespace

BindResult TransposeAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  const Dims& in = request.inputs[0].dims;
  std::vector<int64_t> perm = AttributesOf(request).Ints("perm");
  if (perm.empty()) {
    for (int i = in.rank(); i-- > 0;) perm.push_back(i);
  }
  if (static_cast<int>(perm.size()) != in.rank()) return Unsupported("perm has another rank");
  const Dims strides = RowMajorStrides(in);
  Dims src;
  for (int64_t axis : perm) src.push_back(strides[NormalAxis(axis, in.rank())]);
  const Dims& out = request.outputs[0].dims;
  return MakeCopies(
      "transpose",
      {{StridedCopy(AxesOf(out, src, RowMajorStrides(out)), ElementBytes(request)), 0, 0}});
}

BindResult CopyAny(const KernelRequest& request) {
  const TensorDesc &in = request.inputs[0], &out = request.outputs[0];
  if (in.dtype != out.dtype || in.dims.Elements() != out.dims.Elements())
    return Unsupported("input and output differ in type or size");
  const Dims flat{in.dims.Elements()}, one{1};
  return MakeCopies("copy", {{StridedCopy(AxesOf(flat, one, one), ElementBytes(request)), 0, 0}});
}

BindResult ConcatAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  const Dims& out = request.outputs[0].dims;
  const int axis = NormalAxis(AttributesOf(request).Int("axis", 0), out.rank());
  const Dims dst = RowMajorStrides(out);
  std::vector<Part> parts;
  int64_t at = 0;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    if (!request.inputs[i].present) continue;
    const Dims& in = request.inputs[i].dims;
    parts.push_back({StridedCopy(AxesOf(in, RowMajorStrides(in), dst), ElementBytes(request), 0,
                                 at * dst[axis]),
                     static_cast<int>(i), 0});
    at += in[axis];
  }
  return MakeCopies("concat", std::move(parts));
}

BindResult SplitAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  const Dims& in = request.inputs[0].dims;
  const int axis = NormalAxis(AttributesOf(request).Int("axis", 0), in.rank());
  const Dims src = RowMajorStrides(in);
  std::vector<Part> parts;
  int64_t at = 0;
  for (size_t i = 0; i < request.outputs.size(); ++i) {
    const Dims& out = request.outputs[i].dims;
    if (request.outputs[i].present)
      parts.push_back({StridedCopy(AxesOf(out, src, RowMajorStrides(out)), ElementBytes(request),
                                   at * src[axis]),
                       0, static_cast<int>(i)});
    at += out[axis];
  }
  return MakeCopies("split", std::move(parts));
}

BindResult SliceAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  MINIM_TRY(const std::vector<SliceAxis> slices, SlicesOf(request));
  Dims src = RowMajorStrides(request.inputs[0].dims);
  const Dims& out = request.outputs[0].dims;
  int64_t offset = 0;
  for (int i = 0; i < out.rank(); ++i) {
    offset += slices[i].start * src[i];
    src[i] *= slices[i].step;
  }
  return MakeCopies(
      "slice",
      {{StridedCopy(AxesOf(out, src, RowMajorStrides(out)), ElementBytes(request), offset), 0, 0}});
}

BindResult ExpandAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  const Dims& out = request.outputs[0].dims;
  const Dims src = BroadcastStrides(request.inputs[0].dims, out);
  return MakeCopies(
      "expand",
      {{StridedCopy(AxesOf(out, src, RowMajorStrides(out)), ElementBytes(request)), 0, 0}});
}

BindResult TileAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  const Dims &in = request.inputs[0].dims, &out = request.outputs[0].dims;
  const Dims src = RowMajorStrides(in), dst = RowMajorStrides(out);
  std::vector<CopyAxis> axes;
  for (int i = 0; i < in.rank(); ++i) {
    axes.push_back({in[i] ? out[i] / in[i] : 0, 0, dst[i] * in[i]});
    axes.push_back({in[i], src[i], dst[i]});
  }
  return MakeCopies("tile", {{StridedCopy(std::move(axes), ElementBytes(request)), 0, 0}});
}

// An index out of range gives zeros: a kernel cannot report, and must not read elsewhere.
BindResult GatherAny(const KernelRequest& request) {
  MINIM_TRY(CheckSame(request));
  const TensorDesc& index = request.inputs[1];
  if (index.dtype != DType::i64 && index.dtype != DType::i32)
    return Unsupported("indices are {}", Name(index.dtype));
  const Dims& in = request.inputs[0].dims;
  const int axis = NormalAxis(AttributesOf(request).Int("axis", 0), in.rank());
  const int64_t outer = in.Elements(0, axis), n = in[axis], count = index.dims.Elements();
  const size_t bytes = in.Elements(axis + 1, in.rank()) * ElementBytes(request);
  const bool wide = index.dtype == DType::i64;
  return MakeKernel("gather", [=](const KernelArgs& args) {
    const auto* src = In<std::byte>(args, 0);
    auto* dst = Out<std::byte>(args, 0);
    const int64_t grain = 65536 / std::max<int64_t>(1, bytes) + 1;
    args.threads.ParallelRange(outer * count, grain, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t at = wide ? In<int64_t>(args, 1)[i % count] : In<int32_t>(args, 1)[i % count];
        const int64_t row = at < 0 ? at + n : at;
        if (row < 0 || row >= n) {
          std::memset(dst + i * bytes, 0, bytes);
        } else {
          std::memcpy(dst + i * bytes, src + (i / count * n + row) * bytes, bytes);
        }
      }
    });
  });
}

}  // namespace minim
