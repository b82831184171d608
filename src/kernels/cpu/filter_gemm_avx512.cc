#define MINIM_FILTER FilterAvx512
#define MINIM_FILTER_NAME "avx512"
#include "kernels/cpu/filter_gemm_impl.h"
