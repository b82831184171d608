#include "serve/protocol/datatypes.h"

#include <fmt/format.h>

namespace minim::serve {
namespace {

constexpr DType kAll[] = {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) DType::name,
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
};

}  // namespace

std::string DatatypeName(DType dtype) {
  const size_t bits = SizeOf(dtype) * 8;
  switch (KindOf(dtype)) {
    case DTypeKind::kBool: return "BOOL";
    case DTypeKind::kSigned: return fmt::format("INT{}", bits);
    case DTypeKind::kUnsigned: return fmt::format("UINT{}", bits);
    case DTypeKind::kFloat: return dtype == DType::bf16 ? "BF16" : fmt::format("FP{}", bits);
    default: return "";
  }
}

std::optional<DType> DTypeFromDatatype(std::string_view name) {
  for (const DType dtype : kAll)
    if (DatatypeName(dtype) == name) return dtype;
  return std::nullopt;
}

std::string KnownDatatypes() {
  std::string names;
  for (const DType dtype : kAll) names += (names.empty() ? "" : ", ") + DatatypeName(dtype);
  return names;
}

}  // namespace minim::serve
