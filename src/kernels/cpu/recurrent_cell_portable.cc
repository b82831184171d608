#define MINIM_CELLS CellsPortable
#include "kernels/cpu/recurrent_cell_impl.h"
