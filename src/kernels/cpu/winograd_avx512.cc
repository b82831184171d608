#define MINIM_WINOGRAD WinogradLevelAvx512
#define MINIM_WINOGRAD_NAME "avx512"
#include "kernels/cpu/winograd_impl.h"
