#include "serve/repository/layout.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

namespace minim::serve {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxNameBytes = 255;
constexpr const char* kReference = "fp32";
constexpr const char* kBf16 = "bf16";

// "3" is version 3; "03", "-1" and "x" are no versions.
std::optional<int64_t> VersionNumber(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1 || text[0] == '0')
    return std::nullopt;
  return number;
}

std::vector<Path> Entries(const Path& folder) {
  std::vector<Path> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    entries.push_back(it->path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool HasVersions(const Path& folder) {
  for (const Path& entry : Entries(folder))
    if (VersionNumber(entry.filename().string()) && fs::exists(entry / "model.onnx")) return true;
  return false;
}

bool IsTierName(const std::string& name) {
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

// What `minim shrink` wrote of its variants. A report that cannot be read says nothing.
std::map<std::string, TierGate> ReadGates(const Path& report) {
  std::map<std::string, TierGate> gates;
  const auto text = ReadFile(report, 64 << 20);
  if (!text.ok()) return gates;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains("variants") || !json["variants"].is_array()) return gates;
  for (const auto& variant : json["variants"]) {
    if (!variant.is_object() || !variant.contains("name") || !variant["name"].is_string()) continue;
    const auto text_of = [&](const char* key) {
      return variant.contains(key) && variant[key].is_string() ? variant[key].get<std::string>()
                                                               : "";
    };
    TierGate gate{.passed = text_of("verdict") == "pass", .reason = text_of("reason")};
    if (variant.contains("agreement") && variant["agreement"].is_number())
      gate.disagreement = std::clamp(1 - variant["agreement"].get<double>(), 0.0, 1.0);
    gates[variant["name"].get<std::string>()] = gate;
  }
  return gates;
}

void AddToSignature(const Path& file, std::string& signature) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  if (error) return;
  const auto time = fs::last_write_time(file, error);
  signature += fmt::format("{} {} {}\n", file.string(), size, time.time_since_epoch().count());
}

}  // namespace

Status CheckModelName(std::string_view name) {
  const bool bad_byte = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/' || c == '\\';
  });
  if (name.empty() || name.size() > kMaxNameBytes || bad_byte || name.front() == '.' ||
      !simdjson::validate_utf8(name))
    return InvalidArgument(
        "model name: expected 1 to {} printable bytes, no slash, no dot in front", kMaxNameBytes);
  return {};
}

Result<RepositoryLayout> RepositoryLayout::Open(const Path& path, bool offer_bf16) {
  std::error_code error;
  RepositoryLayout layout;
  layout.offer_bf16_ = offer_bf16;
  layout.root_ = fs::canonical(path, error);
  if (error)
    return NotFound("{}: {}; expected a model repository or an ONNX file", path.string(),
                    error.message());
  if (fs::is_regular_file(layout.root_)) {
    layout.is_file_ = true;
    layout.only_name_ = path.stem().string();
  } else if (HasVersions(layout.root_)) {
    layout.only_name_ = layout.root_.filename().string();
  } else if (layout.ModelNames().empty()) {
    return NotFound("{}: no model here; expected NAME/1/model.onnx below it", path.string());
  }
  if (!layout.only_name_.empty()) MINIM_TRY(CheckModelName(layout.only_name_));
  return layout;
}

std::vector<std::string> RepositoryLayout::ModelNames() const {
  if (!only_name_.empty()) return {only_name_};
  std::vector<std::string> names;
  for (const Path& entry : Entries(root_)) {
    const std::string name = entry.filename().string();
    if (CheckModelName(name).ok() && HasVersions(entry)) names.push_back(name);
  }
  return names;
}

// The path with its links resolved. A link may point elsewhere in the repository, not out of it.
Result<Path> RepositoryLayout::Inside(const Path& path) const {
  std::error_code error;
  const Path real = fs::canonical(path, error);
  if (error) return NotFound("{}: {}", path.string(), error.message());
  const auto [end, at] = std::mismatch(root_.begin(), root_.end(), real.begin(), real.end());
  if (end == root_.end()) return real;
  return InvalidArgument("{}: a link out of the repository; put the file itself there",
                         path.string());
}

void RepositoryLayout::AddVariants(const Path& folder, VersionLayout& version) const {
  for (const Path& entry : Entries(folder)) {
    const std::string tier = entry.stem().string();
    if (entry.extension() != ".onnx" || !IsTierName(tier) || tier == kReference) continue;
    const auto real = Inside(entry);
    if (real.ok()) version.tiers.push_back({tier, *real});
  }
}

Result<VersionLayout> RepositoryLayout::ScanVersion(const Path& folder, int64_t number) const {
  VersionLayout version{.number = number};
  MINIM_TRY(const Path reference, Inside(is_file_ ? root_ : folder / "model.onnx"));
  version.tiers.push_back({kReference, reference});
  if (!is_file_) AddVariants(folder / "variants", version);
  const auto has = [&](const std::string& tier) {
    return std::any_of(version.tiers.begin(), version.tiers.end(),
                       [&](const TierSource& source) { return source.tier == tier; });
  };
  if (offer_bf16_ && !has(kBf16)) version.tiers.push_back({kBf16, reference, true});
  if (!is_file_) version.gates = ReadGates(folder / "report.json");
  return version;
}

Path RepositoryLayout::FolderOf(const std::string& name) const {
  return only_name_.empty() ? root_ / name : root_;
}

Result<std::string> RepositoryLayout::ReadConfig(const std::string& name,
                                                 const std::string& file) const {
  const Path path = FolderOf(name) / file;
  if (is_file_ || !fs::exists(path)) return std::string();
  MINIM_TRY(const Path real, Inside(path));
  return ReadFile(real, 1 << 20);
}

std::string RepositoryLayout::Signature(const std::string& name) const {
  std::string signature;
  if (is_file_) return AddToSignature(root_, signature), signature;
  const Path folder = FolderOf(name);
  for (const char* file : {"config.pbtxt", "minim.toml"}) AddToSignature(folder / file, signature);
  for (const Path& version : Entries(folder)) {
    if (!VersionNumber(version.filename().string())) continue;
    for (const Path& file : Entries(version)) AddToSignature(file, signature);
    for (const Path& file : Entries(version / "variants")) AddToSignature(file, signature);
  }
  return signature;
}

Result<ModelLayout> RepositoryLayout::Scan(const std::string& name) const {
  MINIM_TRY(CheckModelName(name));
  ModelLayout model{.name = name};
  if (!only_name_.empty() && name != only_name_)
    return NotFound("model '{}': only '{}' is served here", name, only_name_);
  if (is_file_) {
    MINIM_TRY(VersionLayout version, ScanVersion(root_.parent_path(), 1));
    model.versions.push_back(std::move(version));
    return model;
  }
  for (const Path& entry : Entries(FolderOf(name))) {
    const auto number = VersionNumber(entry.filename().string());
    if (!number || !fs::exists(entry / "model.onnx")) continue;
    MINIM_TRY(VersionLayout version, ScanVersion(entry, *number));
    model.versions.push_back(std::move(version));
  }
  if (model.versions.empty())
    return NotFound("model '{}': not in the repository; expected {}/1/model.onnx", name, name);
  std::sort(model.versions.begin(), model.versions.end(),
            [](const auto& a, const auto& b) { return a.number < b.number; });
  return model;
}

}  // namespace minim::serve
