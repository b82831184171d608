#define MINIM_INT_WINOGRAD IntWinogradPortable
#define MINIM_INT_WINOGRAD_NAME "portable"
#include "kernels/cpu/int_winograd_impl.h"
