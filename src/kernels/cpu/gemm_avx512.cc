#define MINIM_GEMM GemmAvx512
#define MINIM_GEMM_NAME "avx512"
#define MINIM_GEMM_TILE "kernels/cpu/gemm_tile_avx512.h"
#include "kernels/cpu/gemm_impl.h"
