#define MINIM_CELLS CellsAvx2
#include "kernels/cpu/recurrent_cell_impl.h"
