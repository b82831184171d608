#define MINIM_TILES Avx2Tiles
#include "kernels/cpu/elementwise_tiles_impl.h"
