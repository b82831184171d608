#include "serve/protocol/datatypes.h"

#include <fmt/format.h>

#include <map>

namespace minim::serve {
namespace {

constexpr DType kAll[] = {
#define MINIM_DTYPE(name, type, bits, onnx, acc, kind) DType::name,
#include "minim/dtypes.inc"
#undef MINIM_DTYPE
    DType::string,
};

std::string MakeName(DType dtype) {
  const size_t bits = SizeOf(dtype) * 8;
  switch (KindOf(dtype)) {
    case DTypeKind::kBool: return "BOOL";
    case DTypeKind::kSigned: return fmt::format("INT{}", bits);
    case DTypeKind::kUnsigned: return fmt::format("UINT{}", bits);
    case DTypeKind::kFloat: return dtype == DType::bf16 ? "BF16" : fmt::format("FP{}", bits);
    default: return "BYTES";
  }
}

}  // namespace

std::string_view DatatypeName(DType dtype) {
  static const std::map<DType, std::string> names = [] {
    std::map<DType, std::string> made;
    for (const DType each : kAll) made[each] = MakeName(each);
    return made;
  }();
  const auto name = names.find(dtype);
  return name == names.end() ? "" : std::string_view(name->second);
}

std::string ConfigTypeName(DType dtype) {
  return dtype == DType::string ? "TYPE_STRING" : fmt::format("TYPE_{}", DatatypeName(dtype));
}

std::optional<DType> DTypeFromDatatype(std::string_view name) {
  for (const DType dtype : kAll)
    if (DatatypeName(dtype) == name) return dtype;
  return std::nullopt;
}

std::string KnownDatatypes() {
  std::string names;
  for (const DType dtype : kAll)
    names.append(names.empty() ? "" : ", ").append(DatatypeName(dtype));
  return names;
}

Status CheckTravelsAsJson(DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16) return {};
  return InvalidArgument("{} does not travel as JSON; use binary data", DatatypeName(dtype));
}

}  // namespace minim::serve
