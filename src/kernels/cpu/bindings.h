// The bind functions that the rows name; each is defined in its family's file.
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

BindResult ElementwiseAvx2(const KernelRequest& request);
BindResult ElementwisePortable(const KernelRequest& request);

}  // namespace minim
