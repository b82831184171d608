#define MINIM_TILES Avx512Tiles
#include "kernels/cpu/elementwise_tiles_impl.h"
