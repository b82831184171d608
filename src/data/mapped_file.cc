#include "data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace minim {

size_t StreamedBytes() {
  return static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<size_t>(::sysconf(_SC_PAGESIZE)) / 4;
}

Result<MappedFile> MapFile(const Path& path, size_t streamed_bytes) {
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
  const bool streamed = size >= streamed_bytes;
  if (streamed) ::madvise(data, size, MADV_RANDOM);
  const auto unmap = [size](const void* at) { ::munmap(const_cast<void*>(at), size); };
  return MappedFile{
      {static_cast<const char*>(data), size}, std::shared_ptr<const void>(data, unmap), streamed};
}

void Announce(std::string_view bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()), first = begin / page * page;
  ::madvise(reinterpret_cast<void*>(first), begin - first + bytes.size(), MADV_WILLNEED);
}

SharedArray Share(Tensor tensor) {
  const auto owner = std::make_shared<Tensor>(std::move(tensor));
  return {owner->view(), owner};
}

}  // namespace minim
