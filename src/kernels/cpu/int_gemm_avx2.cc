#define MINIM_INT IntAvx2
#define MINIM_INT_NAME "avx2"
#define MINIM_INT_TILE "kernels/cpu/int_gemm_tile_avx2.h"
#include "kernels/cpu/int_gemm_impl.h"
