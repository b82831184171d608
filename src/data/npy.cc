#include "data/npy.h"

#include <zip.h>

#include <charconv>
#include <memory>

#include "core/dtype.h"
#include "core/shape.h"

namespace minim {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);

struct NpyType {
  std::string_view descr;
  DType dtype;
};
constexpr NpyType kTypes[] = {
    {"<f8", DType::f64}, {"<f4", DType::f32}, {"<f2", DType::f16}, {"<i8", DType::i64},
    {"<i4", DType::i32}, {"<i2", DType::i16}, {"|i1", DType::i8},  {"<u8", DType::u64},
    {"<u4", DType::u32}, {"<u2", DType::u16}, {"|u1", DType::u8},  {"|b1", DType::bool_},
};

struct Header {
  std::string descr;
  bool fortran = false;
  Dims dims;
};

// The text after 'key': in the header's Python dictionary.
std::string_view Field(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) return {};
  const size_t colon = header.find(':', at);
  if (colon == std::string_view::npos) return {};
  std::string_view rest = header.substr(colon + 1);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  return rest;
}

Result<Dims> ParseShape(std::string_view text) {
  Dims dims;
  int64_t elements = 1;
  if (text.empty() || text[0] != '(') return DataLoss(".npy header: no shape");
  text = text.substr(1, text.find(')') == std::string_view::npos ? 0 : text.find(')') - 1);
  while (!text.empty()) {
    text.remove_prefix(std::min(text.find_first_not_of(" ,"), text.size()));
    if (text.empty()) break;
    int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0) return DataLoss(".npy header: bad shape");
    if (dims.rank() == kMaxRank) return Unsupported(".npy: rank above {}", kMaxRank);
    elements = SaturatingTimes(elements, std::max<int64_t>(size, 1));
    if (elements > int64_t{1} << 40) return DataLoss(".npy: shape overflows");
    dims.push_back(size);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
  return dims;
}

Result<Header> ParseHeader(std::string_view text) {
  Header header;
  const std::string_view descr = Field(text, "'descr'");
  if (descr.size() < 2 || descr[0] != '\'')
    return Unsupported(".npy: structured arrays are not supported");
  header.descr = descr.substr(1, descr.find('\'', 1) - 1);
  header.fortran = Field(text, "'fortran_order'").starts_with("True");
  MINIM_TRY(header.dims, ParseShape(Field(text, "'shape'")));
  return header;
}

Tensor FromFortran(const Tensor& data, const Dims& dims) {
  Tensor result(data.dtype(), dims);
  Dims strides = Dims::Filled(dims.rank(), 1);
  for (int i = 1; i < dims.rank(); ++i) strides[i] = strides[i - 1] * dims[i - 1];
  const Dims row_major = RowMajorStrides(dims);
  const size_t size = SizeOf(data.dtype());
  for (int64_t flat = 0; flat < result.size(); ++flat) {
    int64_t rest = flat, offset = 0;
    for (int i = 0; i < dims.rank(); ++i) {
      offset += rest / row_major[i] * strides[i];
      rest %= row_major[i];
    }
    std::memcpy(static_cast<std::byte*>(result.data()) + flat * size,
                static_cast<const std::byte*>(data.data()) + offset * size, size);
  }
  return result;
}

// Before anything of the claimed size is allocated.
Status CheckSize(const Header& header, std::string_view data, size_t width) {
  const size_t needed = static_cast<size_t>(header.dims.Elements()) * width;
  if (data.size() == needed) return {};
  return DataLoss(".npy: '{}' {} needs {} bytes, found {}", header.descr, header.dims.ToString(),
                  needed, data.size());
}

void AppendUtf8(uint32_t c, std::string& text) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xE0 | c >> 12);
    } else {
      put(0xF0 | c >> 18);
      put(0x80 | (c >> 12 & 63));
    }
    put(0x80 | (c >> 6 & 63));
  }
  put(0x80 | (c & 63));
}

// "<U7": code points of four bytes, filled up with zeros.
Result<Tensor> ParseStrings(const Header& header, std::string_view data) {
  size_t width = 0;
  const char* end = header.descr.data() + header.descr.size();
  const auto [at, error] = std::from_chars(header.descr.data() + 2, end, width);
  if (error != std::errc() || at != end || width > (size_t{1} << 24))
    return DataLoss(".npy: dtype '{}' is malformed", header.descr);
  MINIM_TRY(CheckSize(header, data, width * 4));
  if (width == 0 && header.dims.Elements() > (int64_t{1} << 24))
    return DataLoss(".npy: {} empty strings", header.dims.Elements());
  Tensor tensor(DType::string, header.dims);
  for (std::string& text : tensor.as<std::string>()) {
    for (size_t i = 0; i < width; ++i) {
      uint32_t c = 0;
      std::memcpy(&c, data.data() + 4 * i, 4);
      if (c != 0) AppendUtf8(std::min<uint32_t>(c, 0x10FFFF), text);
    }
    data.remove_prefix(4 * width);
  }
  return header.fortran && header.dims.rank() > 1
             ? Result<Tensor>(Unsupported(".npy: strings in Fortran order are not supported"))
             : tensor;
}

// The code points of UTF-8; a byte that makes no sense stands for itself.
std::vector<uint32_t> CodePoints(const std::string& text) {
  std::vector<uint32_t> points;
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
    if (more == 0 || i + more >= text.size()) {
      points.push_back(first);
      ++i;
      continue;
    }
    uint32_t c = first & (0x3F >> more);
    for (size_t k = 1; k <= more; ++k) c = c << 6 | (static_cast<unsigned char>(text[i + k]) & 63);
    points.push_back(c);
    i += more + 1;
  }
  return points;
}

// All texts as code points, each filled up to the longest.
std::string FixedWidth(std::span<const std::string> texts, size_t& width) {
  std::vector<std::vector<uint32_t>> points;
  width = 1;
  for (const std::string& text : texts) {
    points.push_back(CodePoints(text));
    width = std::max(width, points.back().size());
  }
  std::string bytes;
  for (std::vector<uint32_t>& line : points) {
    line.resize(width, 0);
    bytes.append(reinterpret_cast<const char*>(line.data()), width * 4);
  }
  return bytes;
}

struct Parsed {
  Header header;
  std::string_view data;  // the elements
};

Result<Parsed> Parse(std::string_view bytes) {
  if (!bytes.starts_with(kMagic) || bytes.size() < 12)
    return DataLoss("not an .npy file: the magic bytes are missing");
  const auto byte = [&](size_t i) {
    return static_cast<size_t>(static_cast<unsigned char>(bytes[i]));
  };
  const bool wide = byte(6) >= 2;
  const size_t start = wide ? 12 : 10;
  size_t length = byte(8) | byte(9) << 8;
  if (wide) length |= byte(10) << 16 | byte(11) << 24;
  if (length > bytes.size() - start) return DataLoss(".npy: the header is truncated");
  MINIM_TRY(Header header, ParseHeader(bytes.substr(start, length)));
  return Parsed{std::move(header), bytes.substr(start + length)};
}

// The elements where they are, which need not be aligned.
Result<ConstView> Elements(const Parsed& parsed) {
  for (const NpyType& type : kTypes) {
    if (type.descr != parsed.header.descr) continue;
    MINIM_TRY(CheckSize(parsed.header, parsed.data, SizeOf(type.dtype)));
    return ConstView{parsed.data.data(), type.dtype, parsed.header.dims};
  }
  return Unsupported(
      ".npy: dtype '{}' is not supported; use little-endian numbers, booleans or "
      "strings (<U)",
      parsed.header.descr);
}

Result<SharedArray> MapElements(const MappedFile& file) {
  MINIM_TRY(const Parsed parsed, Parse(file.bytes));
  const auto elements = Elements(parsed);
  const bool aligned = reinterpret_cast<uintptr_t>(parsed.data.data()) % kAlignment == 0;
  if (elements.ok() && aligned && !parsed.header.fortran)
    return SharedArray{*elements, file.owner, file.streamed};
  MINIM_TRY(Tensor tensor, ParseNpy(file.bytes));
  return Share(std::move(tensor));
}

}  // namespace

Result<Tensor> ParseNpy(std::string_view bytes) {
  MINIM_TRY(const Parsed parsed, Parse(bytes));
  if (parsed.header.descr.starts_with("<U")) return ParseStrings(parsed.header, parsed.data);
  MINIM_TRY(const ConstView elements, Elements(parsed));
  Tensor tensor(elements.dtype, elements.dims);
  if (!parsed.data.empty()) std::memcpy(tensor.data(), elements.data, parsed.data.size());
  return parsed.header.fortran ? FromFortran(tensor, elements.dims) : tensor;
}

Result<SharedArray> MapNpy(const Path& path) {
  MINIM_TRY(const MappedFile file, MapFile(path));
  auto array = MapElements(file);
  if (!array.ok()) return Annotate(array.status(), path.string());
  return array;
}

Result<Tensor> ReadNpy(const Path& path) {
  MINIM_TRY(const std::string bytes, ReadFile(path));
  auto tensor = ParseNpy(bytes);
  if (!tensor.ok()) return Annotate(tensor.status(), path.string());
  return tensor;
}

std::string SerializeNpy(const ConstView& view) {
  std::string descr = "<f4", strings;
  if (view.dtype == DType::string) {
    size_t width = 0;
    strings = FixedWidth(view.as<std::string>(), width);
    descr = fmt::format("<U{}", width);
  }
  for (const NpyType& type : kTypes)
    if (type.dtype == view.dtype) descr = type.descr;
  if (view.dtype == DType::bf16) return SerializeNpy(Converted(view, DType::f32).view());
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                   descr, fmt::join(view.dims.begin(), view.dims.end(), ", "),
                                   view.dims.rank() == 1 ? "," : "");
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  std::string bytes(kMagic);
  bytes += {'\x01', '\x00', static_cast<char>(header.size() & 255),
            static_cast<char>(header.size() >> 8)};
  bytes += header;
  if (view.dtype == DType::string) return bytes + strings;
  bytes.append(static_cast<const char*>(view.data), view.bytes());
  return bytes;
}

Status WriteNpy(const Path& path, const ConstView& view) {
  if (IsSmall(view.dtype))
    return Unsupported("{}: .npy has no name for {}; cast the values first", path.string(),
                       Name(view.dtype));
  return WriteFileAtomic(path, SerializeNpy(view));
}

Result<std::vector<NamedTensor>> ReadNpz(const Path& path) {
  int code = 0;
  const std::unique_ptr<zip_t, void (*)(zip_t*)> archive(zip_open(path.c_str(), ZIP_RDONLY, &code),
                                                         [](zip_t* z) { zip_discard(z); });
  if (!archive) return DataLoss("{}: is no .npz archive that can be opened", path.string());
  std::vector<NamedTensor> tensors;
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t info;
    if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(i), 0, &info) != 0 ||
        info.size > (size_t{1} << 34))
      return DataLoss("{}: entry {} is unreadable or too large", path.string(), i);
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(
        zip_fopen_index(archive.get(), static_cast<zip_uint64_t>(i), 0), zip_fclose);
    std::string bytes(info.size, '\0');
    if (!file ||
        zip_fread(file.get(), bytes.data(), bytes.size()) != static_cast<zip_int64_t>(bytes.size()))
      return DataLoss("{}: '{}' is truncated", path.string(), info.name);
    auto tensor = ParseNpy(bytes);
    if (!tensor.ok())
      return Annotate(tensor.status(), fmt::format("{}: {}", path.string(), info.name));
    std::string name = info.name;
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    tensors.push_back({std::move(name), *std::move(tensor)});
  }
  return tensors;
}

}  // namespace minim
