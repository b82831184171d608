#define MINIM_INT IntPortable
#define MINIM_INT_NAME "portable"
#define MINIM_INT_TILE "kernels/cpu/int_gemm_tile_portable.h"
#include "kernels/cpu/int_gemm_impl.h"
