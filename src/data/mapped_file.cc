#include "data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace minim {

Result<MappedFile> MapFile(const Path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return NotFound("{}: cannot be opened ({}); check the path", path.string(),
                    std::strerror(errno));
  struct stat info{};
  const bool regular = ::fstat(file, &info) == 0 && S_ISREG(info.st_mode);
  const auto size = static_cast<size_t>(info.st_size);
  void* data = MAP_FAILED;
  if (regular && size > 0) data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  ::close(file);  // the mapping stays
  if (regular && size == 0) return MappedFile{};
  if (data == MAP_FAILED)
    return DataLoss("{}: cannot be mapped; expected a regular file", path.string());
  return MappedFile{{static_cast<const char*>(data), size},
                    std::shared_ptr<const void>(
                        data, [size](const void* at) { ::munmap(const_cast<void*>(at), size); })};
}

SharedArray Share(Tensor tensor) {
  const auto owner = std::make_shared<Tensor>(std::move(tensor));
  return {owner->view(), owner};
}

}  // namespace minim
