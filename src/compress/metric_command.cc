#include "compress/metric_command.h"

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <sstream>

#include "core/file.h"
#include "data/npy.h"

namespace minim {
namespace {

constexpr int64_t kParts = 20;
constexpr size_t kMostOutput = size_t{64} << 20;

// A folder that is gone afterwards.
class TemporaryFolder {
 public:
  static Result<std::unique_ptr<TemporaryFolder>> Make() {
    std::string name = (std::filesystem::temp_directory_path() / "minim-metric-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      return InvalidArgument("{}: cannot be created; set TMPDIR to a writable folder", name);
    return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(name));
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const Path& path() const { return path_; }

 private:
  explicit TemporaryFolder(Path path) : path_(std::move(path)) {}
  Path path_;
};

Result<std::string> OutputOf(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return InvalidArgument("metric command '{}': cannot be started", command);
  std::string text;
  char buffer[4096];
  while (const size_t count = std::fread(buffer, 1, sizeof(buffer), pipe))
    if (text.size() < kMostOutput) text.append(buffer, count);
  const int status = ::pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return InvalidArgument("metric command '{}': failed with exit code {}", command,
                           WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  return text;
}

Result<std::vector<double>> NumbersOf(const std::string& command, const std::string& text) {
  std::vector<double> numbers;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    char* end = nullptr;
    numbers.push_back(std::strtod(word.c_str(), &end));
    if (end == word.c_str() || *end != '\0')
      return InvalidArgument("metric command '{}': printed '{}', expected numbers", command,
                             word.substr(0, 80));
  }
  return numbers;
}

// All rows but [first, last).
Tensor Without(const Tensor& tensor, int64_t first, int64_t last) {
  Dims dims = tensor.dims();
  const size_t row = tensor.bytes() / static_cast<size_t>(dims[0]);
  const int64_t count = dims[0];
  dims[0] -= last - first;
  Tensor rest(tensor.dtype(), dims);
  const auto* src = static_cast<const std::byte*>(tensor.data());
  auto* dst = static_cast<std::byte*>(rest.data());
  std::copy_n(src, static_cast<size_t>(first) * row, dst);
  std::copy_n(src + static_cast<size_t>(last) * row, static_cast<size_t>(count - last) * row,
              dst + static_cast<size_t>(first) * row);
  return rest;
}

Result<std::vector<double>> Ask(const std::string& command, const Path& folder,
                                const Tensor& scores, const Tensor& labels) {
  const Path answers = folder / "scores.npy", wanted = folder / "labels.npy";
  MINIM_TRY(WriteNpy(answers, scores.view()));
  std::string line = command + " '" + answers.string() + "'";
  if (labels.defined()) {
    MINIM_TRY(WriteNpy(wanted, labels.view()));
    line += " '" + wanted.string() + "'";
  }
  MINIM_TRY(const std::string text, OutputOf(line));
  return NumbersOf(command, text);
}

}  // namespace

Result<Measured> MeasureByCommand(const std::string& command, const Tensor& scores,
                                  const Tensor& labels) {
  MINIM_TRY(const auto folder, TemporaryFolder::Make());
  const int64_t count = scores.dims()[0];
  MINIM_TRY(std::vector<double> numbers, Ask(command, folder->path(), scores, labels));
  if (static_cast<int64_t>(numbers.size()) == count) {
    const double sum = std::accumulate(numbers.begin(), numbers.end(), 0.0);
    return Measured{sum / static_cast<double>(count), std::move(numbers)};
  }
  if (numbers.size() != 1)
    return InvalidArgument(
        "metric command '{}': printed {} numbers, expected 1, or {}, one a sample", command,
        numbers.size(), count);
  const int64_t parts = std::min(kParts, count);
  Measured result{.value = numbers[0],
                  .samples_each = static_cast<double>(count) / static_cast<double>(parts)};
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t first = count * i / parts, last = count * (i + 1) / parts;
    MINIM_TRY(const std::vector<double> without,
              Ask(command, folder->path(), Without(scores, first, last),
                  labels.defined() ? Without(labels, first, last) : labels));
    if (without.size() != 1)
      return InvalidArgument("metric command '{}': printed {} numbers, expected 1", command,
                             without.size());
    result.each.push_back(static_cast<double>(parts) * result.value -
                          static_cast<double>(parts - 1) * without[0]);
  }
  return result;
}

}  // namespace minim
