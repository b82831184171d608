#include <algorithm>
#include <set>

#include "serve/protocol/datatypes.h"
#include "serve/protocol/infer_request.h"

namespace minim::serve {
namespace {

std::string NamesOf(const std::vector<TensorInfo>& infos) {
  std::string names;
  for (const TensorInfo& info : infos) names += (names.empty() ? "'" : ", '") + info.name + "'";
  return names;
}

// "[N,3,-1]", with the model's names for open sizes.
std::string ShapeOf(const TensorInfo& info) {
  std::string text;
  for (size_t i = 0; i < info.dims.size(); ++i) {
    const bool named = info.dims[i] < 0 && i < info.symbols.size() && !info.symbols[i].empty();
    text += (i ? "," : "") + (named ? info.symbols[i] : std::to_string(info.dims[i]));
  }
  return "[" + text + "]";
}

Status CheckInput(const NamedTensor& input, const TensorInfo& info) {
  if (input.tensor.dtype() != info.dtype)
    return InvalidArgument("input '{}': datatype {}, expected {}", input.name,
                           DatatypeName(input.tensor.dtype()), DatatypeName(info.dtype));
  if (!info.ranked) return {};
  const Dims& dims = input.tensor.dims();
  bool same = static_cast<size_t>(dims.rank()) == info.dims.size();
  for (int i = 0; same && i < dims.rank(); ++i) same = info.dims[i] < 0 || info.dims[i] == dims[i];
  if (same) return {};
  return InvalidArgument("input '{}': shape {}, expected {}", input.name, dims.ToString(),
                         ShapeOf(info));
}

Status OrderInputs(InferRequest& request, const std::vector<TensorInfo>& infos) {
  std::vector<NamedTensor> ordered(infos.size());
  for (NamedTensor& input : request.inputs) {
    const auto it = std::find_if(infos.begin(), infos.end(),
                                 [&](const TensorInfo& info) { return info.name == input.name; });
    if (it == infos.end())
      return InvalidArgument("input '{}': the model has no such input; it has {}", input.name,
                             NamesOf(infos));
    NamedTensor& place = ordered[static_cast<size_t>(it - infos.begin())];
    if (place.tensor.defined()) return InvalidArgument("input '{}': given twice", input.name);
    MINIM_TRY(CheckInput(input, *it));
    place = std::move(input);
  }
  for (size_t i = 0; i < infos.size(); ++i)
    if (!ordered[i].tensor.defined())
      return InvalidArgument("input '{}': missing; the model needs {}", infos[i].name,
                             NamesOf(infos));
  request.inputs = std::move(ordered);
  return {};
}

Status CheckOutputs(InferRequest& request, const std::vector<TensorInfo>& infos) {
  if (request.outputs.empty()) {
    for (const TensorInfo& info : infos)
      request.outputs.push_back({info.name, request.binary_outputs});
  }
  std::set<std::string_view> seen;
  for (const RequestedOutput& output : request.outputs) {
    const auto it = std::find_if(infos.begin(), infos.end(),
                                 [&](const TensorInfo& info) { return info.name == output.name; });
    if (it == infos.end())
      return InvalidArgument("output '{}': the model has no such output; it has {}", output.name,
                             NamesOf(infos));
    if (!seen.insert(output.name).second)
      return InvalidArgument("output '{}': asked for twice", output.name);
    if (output.binary) continue;
    if (Status status = CheckTravelsAsJson(it->dtype); !status.ok())
      return Annotate(std::move(status), fmt::format("output '{}'", output.name));
  }
  return {};
}

Status CheckRowCounts(const InferRequest& request) {
  const int64_t rows = request.inputs[0].tensor.dims()[0];
  for (const NamedTensor& input : request.inputs) {
    if (input.tensor.dims()[0] != rows)
      return InvalidArgument("input '{}': {} rows, but input '{}' has {}", input.name,
                             input.tensor.dims()[0], request.inputs[0].name, rows);
  }
  if (rows > 0) return {};
  return InvalidArgument("input '{}': shape {} has no rows; send at least one",
                         request.inputs[0].name, request.inputs[0].tensor.dims().ToString());
}

}  // namespace

Status BindRequest(InferRequest& request, const std::vector<TensorInfo>& inputs,
                   const std::vector<TensorInfo>& outputs, bool batchable) {
  MINIM_TRY(OrderInputs(request, inputs));
  MINIM_TRY(CheckOutputs(request, outputs));
  return batchable ? CheckRowCounts(request) : Status();
}

}  // namespace minim::serve
