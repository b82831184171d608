#include "core/error.h"
#include "core/memory_limit.h"
#include "ops/infer.h"
#include "passes/passes.h"

namespace minim {
namespace {

Status BindSymbols(const std::string& input, const Shape& declared, const Dims& dims,
                   std::map<std::string, int64_t>& bound) {
  for (int i = 0; i < dims.rank(); ++i) {
    const Dim& dim = declared[i];
    if (dim.known() && dim.value() != dims[i])
      return InvalidArgument("input '{}': has shape {}, expected {}", input, dims.ToString(),
                             ToString(declared));
    if (dim.symbol().empty()) continue;
    const auto [it, fresh] = bound.emplace(dim.symbol(), dims[i]);
    if (!fresh && it->second != dims[i])
      return InvalidArgument("input '{}': has shape {}, but '{}' is {} in another input", input,
                             dims.ToString(), dim.symbol(), it->second);
  }
  return {};
}

}  // namespace

Result<Graph> Specialize(const Graph& graph, const std::vector<Dims>& input_dims) {
  MINIM_CHECK(input_dims.size() == graph.inputs.size());
  Graph result = graph;
  std::map<std::string, int64_t> bound;
  for (size_t i = 0; i < input_dims.size(); ++i) {
    Value& value = result.value(result.inputs[i]);
    if (!value.type.is_tensor()) continue;
    if (value.type.shape) {
      if (value.type.rank() != input_dims[i].rank())
        return InvalidArgument("input '{}': has shape {}, expected {}", value.name,
                               input_dims[i].ToString(), ToString(*value.type.shape));
      MINIM_TRY(BindSymbols(value.name, *value.type.shape, input_dims[i], bound));
    }
    value.type.shape = ToShape(input_dims[i]);
    MINIM_TRY(Annotate(CheckFits(*value.type.shape, value.type.dtype),
                       fmt::format("input '{}'", value.name)));
  }
  MINIM_TRY(InferGraph(result));
  return result;
}

}  // namespace minim
