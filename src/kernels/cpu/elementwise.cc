#include "kernels/cpu/elementwise.h"

#include <algorithm>

#include "kernels/cpu/bindings.h"

namespace minim {
namespace {

constexpr int64_t kGrain = 16 * kTile;  // elements worth another thread

template <typename T>
void GatherRun(const std::byte* src, int64_t stride, std::byte* dst, int64_t n) {
  const T* s = reinterpret_cast<const T*>(src);
  T* d = reinterpret_cast<T*>(dst);
  if (stride == 1) {
    std::memcpy(d, s, n * sizeof(T));
  } else if (stride == 0) {
    std::fill_n(d, n, *s);
  } else {
    for (int64_t i = 0; i < n; ++i) d[i] = s[i * stride];
  }
}

void Gather(size_t bytes, const std::byte* src, int64_t stride, std::byte* dst, int64_t n) {
  switch (bytes) {
    case 1: return GatherRun<uint8_t>(src, stride, dst, n);
    case 2: return GatherRun<uint16_t>(src, stride, dst, n);
    case 4: return GatherRun<uint32_t>(src, stride, dst, n);
    default: return GatherRun<uint64_t>(src, stride, dst, n);
  }
}

// Copies elements [first, first + n) of the broadcast input to dst.
void ReadBroadcast(const TileLoad& load, const std::byte* src, int64_t first, int64_t n,
                   std::byte* dst) {
  const int rank = load.dims.rank();
  int64_t index[kMaxRank];
  int64_t offset = 0, rest = first;
  for (int axis = rank - 1; axis >= 0; --axis) {
    index[axis] = rest % load.dims[axis];
    rest /= load.dims[axis];
    offset += index[axis] * load.strides[axis];
  }
  while (n > 0) {
    const int64_t run = std::min(n, load.dims[rank - 1] - index[rank - 1]);
    Gather(load.element_bytes, src + offset * load.element_bytes, load.strides[rank - 1], dst, run);
    dst += run * load.element_bytes;
    n -= run;
    offset += run * load.strides[rank - 1];
    index[rank - 1] += run;
    for (int axis = rank - 1; axis > 0 && index[axis] == load.dims[axis]; --axis) {
      offset += load.strides[axis - 1] - load.strides[axis] * load.dims[axis];
      index[axis] = 0;
      ++index[axis - 1];
    }
  }
}

// One thread's walk over a range of elements.
class Walker {
 public:
  Walker(const TileProgram& program, const KernelArgs& args, std::byte* scratch)
      : program_(program), args_(args), scratch_(scratch) {}

  void Run(int64_t first, int64_t last) {
    for (const TileLoad& load : program_.loads) {
      if (load.kept()) LoadTile(load, 0, program_.tile);
    }
    for (int64_t i = first; i < last; i += program_.tile)
      RunTile(i, std::min(program_.tile, last - i));
  }

 private:
  std::byte* Slot(int slot) { return scratch_ + slot * program_.slot_bytes; }

  void* Place(int reg, int64_t first) {
    const TileRegister& r = program_.registers[reg];
    const int64_t offset = first * static_cast<int64_t>(LaneBytes(r.lane));
    if (r.input >= 0) return const_cast<std::byte*>(In<std::byte>(args_, r.input)) + offset;
    if (r.output >= 0) return Out<std::byte>(args_, r.output) + offset;
    return Slot(r.slot);
  }

  void LoadTile(const TileLoad& load, int64_t first, int64_t n) {
    const auto* src = In<std::byte>(args_, load.input);
    std::byte* dst = Slot(program_.registers[load.reg].slot);
    std::byte* raw = load.convert ? Slot(program_.slots) : dst;
    if (load.scalar) {
      Gather(load.element_bytes, src, 0, raw, n);
    } else if (load.direct && load.convert) {
      raw = const_cast<std::byte*>(src) + first * load.element_bytes;
    } else {
      ReadBroadcast(load, src, first, n, raw);
    }
    if (load.convert) load.convert({{raw}, dst, n, load.params});
  }

  void RunTile(int64_t first, int64_t n) {
    for (const TileLoad& load : program_.loads) {
      if (!load.kept() && program_.registers[load.reg].input < 0) LoadTile(load, first, n);
    }
    for (const TileStep& step : program_.steps) {
      TileArgs tile{{}, Place(step.dst, first), n, step.params};
      for (int i = 0; i < 3 && step.src[i] >= 0; ++i) tile.src[i] = Place(step.src[i], first);
      step.function(tile);
    }
    for (const TileStore& store : program_.stores) {
      void* dst = Out<std::byte>(args_, store.output) +
                  first * static_cast<int64_t>(program_.output_bytes[store.output]);
      store.convert({{Place(store.reg, first)}, dst, n, store.params});
    }
  }

  const TileProgram& program_;
  const KernelArgs& args_;
  std::byte* scratch_;
};

BindResult Bind(const KernelRequest& request, const TileSet& tiles, std::string_view level) {
  MINIM_TRY(TileProgram program, CompileElementwise(request, tiles));
  // One slot more than the program's: raw elements before their conversion.
  const size_t piece_bytes =
      AlignUp((program.slots + 1) * std::max<size_t>(program.slot_bytes, 8 * kTile));
  const size_t steps = program.steps.size();
  const int in_place = program.in_place;
  auto run = [program = std::move(program), piece_bytes](const KernelArgs& args) {
    const int64_t n = program.elements;
    const int64_t most = (n + kGrain - 1) / kGrain;
    const int pieces = static_cast<int>(std::min<int64_t>(most, args.threads.threads));
    args.threads.ParallelFor(pieces, [&](int i) {
      Walker walker(program, args, static_cast<std::byte*>(args.scratch) + i * piece_bytes);
      const int64_t tile = program.tile, tiles_total = (n + tile - 1) / tile;
      walker.Run(tiles_total * i / pieces * tile,
                 std::min(n, tiles_total * (i + 1) / pieces * tile));
    });
  };
  return MakeKernel(fmt::format("elementwise tiles {} ({} steps)", level, steps), std::move(run),
                    piece_bytes * std::max(1, request.threads), {in_place});
}

}  // namespace

BindResult ElementwiseAvx2(const KernelRequest& request) {
  return request.isa >= Isa::kAvx512 ? Bind(request, Avx512Tiles(), "avx512")
                                     : Bind(request, Avx2Tiles(), "avx2");
}
BindResult ElementwisePortable(const KernelRequest& request) {
  return Bind(request, PortableTiles(), "portable");
}

}  // namespace minim
