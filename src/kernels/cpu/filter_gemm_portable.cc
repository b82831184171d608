#define MINIM_FILTER FilterPortable
#define MINIM_FILTER_NAME "portable"
#include "kernels/cpu/filter_gemm_impl.h"
