#define MINIM_FILTER FilterAvx2
#define MINIM_FILTER_NAME "avx2"
#include "kernels/cpu/filter_gemm_impl.h"
