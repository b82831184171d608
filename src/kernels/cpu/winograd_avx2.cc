#define MINIM_WINOGRAD WinogradLevelAvx2
#define MINIM_WINOGRAD_NAME "avx2"
#include "kernels/cpu/winograd_impl.h"
