#define MINIM_INT_WINOGRAD IntWinogradAvx2
#define MINIM_INT_WINOGRAD_NAME "avx2"
#include "kernels/cpu/int_winograd_impl.h"
