#include "exec/tuning.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "graph/text.h"

namespace minim {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostBytes = size_t{1} << 28;

// FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/.
struct Hash {
  uint64_t value = 0xcbf29ce484222325;

  void Add(std::string_view text) {
    for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
};

std::string Types(const Graph& graph, const std::vector<ValueId>& ids) {
  std::string text;
  for (const ValueId id : ids) {
    text += text.empty() ? "" : ", ";
    if (id == kNoValue)
      text += "_";
    else
      text += (graph.constant(id) != nullptr ? "const " : "") + graph.type(id).ToString();
  }
  return text;
}

}  // namespace

std::string_view Tuning::RowOf(const std::string& step) const {
  const auto it = rows_.find(step);
  return it == rows_.end() ? std::string_view() : it->second;
}

int64_t Tuning::RowsTogether(const std::string& batch) const {
  const auto it = together_.find(batch);
  return it == together_.end() ? 0 : it->second;
}

void Tuning::PreferModels() {
  for (auto& [step, row] : rows_) row.clear();
}

void Tuning::Merge(const Tuning& newer) {
  for (const auto& [step, row] : newer.rows_) rows_[step] = row;
  for (const auto& [batch, rows] : newer.together_) together_[batch] = rows;
}

std::string StepSignature(const Graph& graph, const Node& node, int threads) {
  return fmt::format("{}({}) -> {} {{{}}} {}", node.op, Types(graph, node.inputs),
                     Types(graph, node.outputs), ToText(node.attributes), threads);
}

std::string BatchSignature(const Graph& graph, int threads) {
  Hash hash;
  for (const Node& node : graph.nodes) hash.Add(StepSignature(graph, node, threads));
  return fmt::format("{:016x}", hash.value);
}

std::optional<Path> TuningFile::DefaultPath() {
  if (const char* path = std::getenv("MINIM_TUNING"))
    return std::string_view(path) == "off" ? std::nullopt : std::optional<Path>(path);
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != 0)
    return Path(cache) / "minim" / "tuning.json";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != 0)
    return Path(home) / ".cache" / "minim" / "tuning.json";
  return std::nullopt;
}

Result<TuningFile> TuningFile::Read(const Path& path) {
  TuningFile file;
  if (!std::filesystem::exists(path)) return file;
  MINIM_TRY(const std::string text, ReadFile(path, kMostBytes));
  const Json json = Json::parse(text, nullptr, false);
  const auto wrong = [&] {
    return DataLoss("{} is no file of measurements: delete it, or run minim tune again",
                    path.string());
  };
  if (!json.is_object() || !json.contains("version") || !json["version"].is_string() ||
      !json.contains("cpu") || !json["cpu"].is_string() || !json.contains("levels") ||
      !json["levels"].is_object())
    return wrong();
  if (json["version"] != MINIM_VERSION || json["cpu"] != CpuName()) {
    file.stale = fmt::format("minim {} on {}", json["version"].get<std::string>(),
                             json["cpu"].get<std::string>());
    return file;
  }
  for (const auto& [name, level] : json["levels"].items()) {
    Tuning& tuning = file.levels[name];
    if (!level.is_object() || !level.contains("steps") || !level.contains("batches"))
      return wrong();
    for (const auto& [step, row] : level["steps"].items()) {
      if (!row.is_string()) return wrong();
      tuning.rows_[step] = row;
    }
    for (const auto& [batch, rows] : level["batches"].items()) {
      if (!rows.is_number_unsigned()) return wrong();
      tuning.together_[batch] = rows;
    }
  }
  return file;
}

Status TuningFile::Write(const Path& path) const {
  Json json = {{"version", MINIM_VERSION}, {"cpu", CpuName()}, {"levels", Json::object()}};
  for (const auto& [name, tuning] : levels)
    json["levels"][name] = {{"steps", tuning.rows_}, {"batches", tuning.together_}};
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error)
    return InvalidArgument("{} cannot be made: {}", path.parent_path().string(), error.message());
  return WriteFileAtomic(path, json.dump(1) + "\n");
}

}  // namespace minim
