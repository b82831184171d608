#include "serve/protocol/datatypes.h"

#include <fmt/format.h>

namespace minim::serve {
namespace {

constexpr DType kAll[] = {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) DType::name,
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
    DType::string,
};

}  // namespace

std::string DatatypeName(DType dtype) {
  const size_t bits = SizeOf(dtype) * 8;
  switch (KindOf(dtype)) {
    case DTypeKind::kBool: return "BOOL";
    case DTypeKind::kSigned: return fmt::format("INT{}", bits);
    case DTypeKind::kUnsigned: return fmt::format("UINT{}", bits);
    case DTypeKind::kFloat: return dtype == DType::bf16 ? "BF16" : fmt::format("FP{}", bits);
    case DTypeKind::kString: return "BYTES";
    default: return "";
  }
}

std::string ConfigTypeName(DType dtype) {
  return dtype == DType::string ? "TYPE_STRING" : "TYPE_" + DatatypeName(dtype);
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

Status CheckTravelsAsJson(DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16) return {};
  return InvalidArgument("{} does not travel as JSON; use binary data", DatatypeName(dtype));
}

}  // namespace minim::serve
