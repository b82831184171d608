#include "compress/work_folder.h"

#include <chrono>

namespace minim {
namespace {

constexpr char kKeyFile[] = "key";

}  // namespace

Result<WorkFolder> WorkFolder::Open(const Path& folder, const std::string& key) {
  const auto found = ReadFile(folder / kKeyFile);
  std::error_code error;
  if (!found.ok() || *found != key) {
    std::filesystem::remove_all(folder, error);
    std::filesystem::create_directories(folder, error);
    if (error)
      return InvalidArgument("{}: cannot be created ({}); choose a writable folder",
                             folder.string(), error.message());
    MINIM_TRY(WriteFileAtomic(folder / kKeyFile, key));
  }
  return WorkFolder(folder);
}

std::optional<std::string> WorkFolder::Load(const std::string& name) const {
  auto bytes = ReadFile(folder_ / name);
  if (!bytes.ok()) return std::nullopt;
  return *std::move(bytes);
}

Status WorkFolder::Save(const std::string& name, std::string_view bytes) const {
  return WriteFileAtomic(folder_ / name, bytes);
}

void WorkFolder::Remove() const {
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

std::string FileStamp(const Path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return "";
  const auto time = std::filesystem::last_write_time(path, error).time_since_epoch();
  return fmt::format("{} {}", size, time.count());
}

std::string DigestOf(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return fmt::format("{:016x}", hash);
}

}  // namespace minim
