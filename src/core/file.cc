#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace minim {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return DataLoss("write failed: {}", std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  if (::fsync(fd) != 0) return DataLoss("fsync failed: {}", std::strerror(errno));
  return {};
}

}  // namespace

Result<std::string> ReadFile(const Path& path, size_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0)
    return NotFound("{}: cannot be opened ({}); check the path", path.string(),
                    std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return InvalidArgument("{}: is not a regular file", path.string());
  if (static_cast<size_t>(info.st_size) > max_bytes)
    return ResourceExhausted("{}: {} bytes, at most {} are accepted", path.string(), info.st_size,
                             max_bytes);
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return DataLoss("{}: ended after {} of {} bytes", path.string(), done, bytes.size());
    done += static_cast<size_t>(n);
  }
  return bytes;
}

Status WriteFileAtomic(const Path& path, std::string_view bytes) {
  const std::string part = path.string() + fmt::format(".{}.part", ::getpid());
  {
    const Descriptor file(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.get() < 0)
      return InvalidArgument("{}: cannot be written ({}); choose a writable folder", path.string(),
                             std::strerror(errno));
    if (Status status = WriteAll(file.get(), bytes); !status.ok()) {
      ::unlink(part.c_str());
      return Annotate(std::move(status), path.string());
    }
  }
  if (::rename(part.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(part.c_str());
    return DataLoss("{}: cannot be replaced ({})", path.string(), std::strerror(error));
  }
  return {};
}

}  // namespace minim
