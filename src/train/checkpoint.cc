#include "train/checkpoint.h"

#include "core/file.h"
#include "train/safetensors.h"

namespace minim {

Status WriteCheckpoint(const std::string& path, const StatefulGraph& graph,
                       const std::vector<Tensor>& states, SavedValues values) {
  SafeTensors file;
  for (size_t i = 0; i < states.size(); ++i) file.tensors[graph.graph.states[i].name] = states[i];
  file.metadata = std::move(values);
  file.metadata["format"] = "minim-checkpoint";
  return WriteFileAtomic(path, SerializeSafeTensors(file));
}

void KeepOlder(const std::string& path, int64_t keep) {
  std::error_code ignored;  // what is not there need not be kept
  const auto older = [&](int64_t i) { return fmt::format("{}.{}", path, i); };
  for (int64_t i = keep - 1; i > 1; --i) std::filesystem::rename(older(i - 1), older(i), ignored);
  if (keep < 2 || !std::filesystem::exists(path, ignored)) return;
  std::filesystem::remove(older(1), ignored);
  std::filesystem::create_hard_link(path, older(1), ignored);
}

Result<SavedValues> ReadCheckpoint(const std::string& path, const StatefulGraph& graph,
                                   std::vector<Tensor>& states) {
  MINIM_TRY(const std::string bytes, ReadFile(path));
  auto file = ParseSafeTensors(bytes);
  if (!file.ok()) return Annotate(file.status(), path);
  std::vector<Tensor> read;
  for (size_t i = 0; i < states.size(); ++i) {
    const std::string& name = graph.graph.states[i].name;
    const auto it = file->tensors.find(name);
    if (it == file->tensors.end() || !(it->second.dims() == states[i].dims()) ||
        it->second.dtype() != states[i].dtype())
      return InvalidArgument(
          "{}: has no '{}' of type {}{}; it belongs to another model or optimizer", path, name,
          Name(states[i].dtype()), states[i].dims().ToString());
    read.push_back(it->second.Clone());
  }
  states = std::move(read);
  return std::move(file->metadata);
}

}  // namespace minim
