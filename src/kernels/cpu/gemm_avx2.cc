#define MINIM_GEMM GemmAvx2
#define MINIM_GEMM_NAME "avx2"
#define MINIM_GEMM_TILE "kernels/cpu/gemm_tile_avx2.h"
#include "kernels/cpu/gemm_impl.h"
