#define MINIM_ROWS RowsAvx512
#define MINIM_ROWS_NAME "avx512"
#include "kernels/cpu/rows_impl.h"
