#define MINIM_TILES PortableTiles
#include "kernels/cpu/elementwise_tiles_impl.h"
