#define MINIM_INT IntVnni
#define MINIM_INT_NAME "avx512_vnni"
#define MINIM_INT_TILE "kernels/cpu/int_gemm_tile_vnni.h"
#include "kernels/cpu/int_gemm_impl.h"
