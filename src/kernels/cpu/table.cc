#include "kernels/cpu/table.h"

#include <iterator>

#include "kernels/cpu/bindings.h"
#include "kernels/cpu/widened.h"

namespace minim {
namespace {

namespace key {
constexpr int any = kAnyDType;
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) \
  [[maybe_unused]] constexpr int name = static_cast<int>(DType::name);
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
}  // namespace key

constexpr KernelRow kRows[] = {
#define MINIM_KERNEL(op, isa, dtype, function, bound) \
  {#op, Isa::isa, key::dtype, function, #function, bound},
#include "kernels/cpu/rows.inc"
#undef MINIM_KERNEL
};

int KeyOf(const KernelRequest& request) {
  for (const TensorDesc& input : request.inputs) {
    if (input.present) return static_cast<int>(input.dtype);
  }
  return kAnyDType;
}

std::string Refusal(const KernelRow& row, std::string_view why) {
  return fmt::format("{} ({}): {}", row.name, Name(row.isa), why);
}

bool Takes(const KernelRow& row, const KernelRequest& request) {
  return row.isa <= request.isa && (row.dtype == kAnyDType || row.dtype == KeyOf(request));
}

bool BindNamed(const KernelRequest& request, BoundKernel* bound) {
  KernelRequest asked = request;
  asked.at_any_cost = true;
  for (const KernelRow& row : kRows) {
    if (row.op != request.op || row.name != request.row || !Takes(row, request)) continue;
    BindResult result = row.bind(asked);
    if (!result.ok()) continue;
    bound->kernel = std::move(result).value();
    bound->row = row.name;
    return true;
  }
  return false;
}

}  // namespace

std::span<const KernelRow> CpuKernelTable() { return kRows; }

std::vector<std::string_view> FittingRows(const KernelRequest& request) {
  KernelRequest asked = request;
  asked.at_any_cost = true;
  std::vector<std::string_view> names;
  for (const KernelRow& row : kRows) {
    if (row.op != request.op || !Takes(row, request)) continue;
    if (row.isa == Isa::kPortable && !names.empty()) continue;
    if (row.bind(asked).ok()) names.push_back(row.name);
  }
  return names;
}

Result<BoundKernel> BindCpuKernel(const KernelRequest& request) {
  BoundKernel bound;
  if (!request.row.empty() && BindNamed(request, &bound)) return bound;
  bool known = false;
  const int key = KeyOf(request);
  for (const KernelRow& row : kRows) {
    if (row.op != request.op) continue;
    known = true;
    if (row.isa > request.isa) {
      bound.refusals.push_back(Refusal(row, "above the requested level"));
    } else if (row.dtype != kAnyDType && row.dtype != key) {
      bound.refusals.push_back(Refusal(row, "another dtype"));
    } else if (BindResult result = row.bind(request); result.ok()) {
      bound.kernel = std::move(result).value();
      bound.row = row.name;
      return bound;
    } else {
      bound.refusals.push_back(Refusal(row, result.status().message()));
    }
  }
  if (!known) return Unsupported("{}: no CPU kernel has this name", request.op);
  if (Result<BoundKernel> wide = BindWidened(request); wide.ok()) {
    bound.kernel = std::move(wide->kernel);
    return bound;
  }
  return Unsupported("{}: no CPU kernel fits: {}", request.op, fmt::join(bound.refusals, "; "));
}

const Attributes& AttributesOf(const KernelRequest& request) {
  static const Attributes kNone;
  return request.attributes ? *request.attributes : kNone;
}

Result<std::vector<int64_t>> ConstantInts(const KernelRequest& request, size_t input) {
  const TensorDesc& desc = request.inputs[input];
  const int64_t n = desc.dims.Elements();
  if (n > 0 && desc.constant == nullptr)
    return Unsupported("input {} is not known at binding", input);
  std::vector<int64_t> values(n);
  for (int64_t i = 0; i < n; ++i) {
    if (desc.dtype == DType::i64) {
      values[i] = static_cast<const int64_t*>(desc.constant)[i];
    } else if (desc.dtype == DType::i32) {
      values[i] = static_cast<const int32_t*>(desc.constant)[i];
    } else {
      return Unsupported("input {} is {}; expected i32 or i64", input, Name(desc.dtype));
    }
  }
  return values;
}

Status RequireInputs(const KernelRequest& request, size_t first, size_t last, DType dtype) {
  for (size_t i = first; i < last && i < request.inputs.size(); ++i) {
    if (request.inputs[i].present && request.inputs[i].dtype != dtype)
      return Unsupported("input {} is {}; expected {}", i, Name(request.inputs[i].dtype),
                         Name(dtype));
  }
  return {};
}

Status RequireOutputDims(const KernelRequest& request, size_t i) {
  if (!HasInput(request, i) || request.inputs[i].dims == request.outputs[0].dims) return {};
  return Unsupported("input {} has dims {}; expected {}", i, request.inputs[i].dims.ToString(),
                     request.outputs[0].dims.ToString());
}

}  // namespace minim
