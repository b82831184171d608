#define MINIM_WINOGRAD WinogradLevelPortable
#define MINIM_WINOGRAD_NAME "portable"
#include "kernels/cpu/winograd_impl.h"
