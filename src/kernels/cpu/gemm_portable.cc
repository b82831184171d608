#define MINIM_GEMM GemmPortable
#define MINIM_GEMM_NAME "portable"
#define MINIM_GEMM_TILE "kernels/cpu/gemm_tile_portable.h"
#include "kernels/cpu/gemm_impl.h"
