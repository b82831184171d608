// The bind functions that the rows name; each is defined in its family's file.
#pragma once

#include "kernels/cpu/table.h"

namespace minim {

BindResult ElementwiseAvx2(const KernelRequest& request);
BindResult ElementwisePortable(const KernelRequest& request);
BindResult MatMulAvx2(const KernelRequest& request);
BindResult MatMulPortable(const KernelRequest& request);
BindResult MatMulPlain(const KernelRequest& request);
BindResult GemmF32Avx2(const KernelRequest& request);
BindResult GemmF32Portable(const KernelRequest& request);
BindResult TransposeAny(const KernelRequest& request);
BindResult ReorderAny(const KernelRequest& request);
BindResult CopyAny(const KernelRequest& request);
BindResult ConcatAny(const KernelRequest& request);
BindResult SplitAny(const KernelRequest& request);
BindResult SliceAny(const KernelRequest& request);
BindResult ExpandAny(const KernelRequest& request);
BindResult TileAny(const KernelRequest& request);
BindResult GatherAny(const KernelRequest& request);
BindResult PadAny(const KernelRequest& request);
BindResult ConvAvx2(const KernelRequest& request);
BindResult ConvPortable(const KernelRequest& request);
BindResult ConvInputGradAvx2(const KernelRequest& request);
BindResult ConvInputGradPortable(const KernelRequest& request);
BindResult ConvWeightGradAvx2(const KernelRequest& request);
BindResult ConvWeightGradPortable(const KernelRequest& request);
BindResult ConvTransposeAvx2(const KernelRequest& request);
BindResult ConvTransposePortable(const KernelRequest& request);
BindResult MaxPoolPortable(const KernelRequest& request);
BindResult AveragePoolPortable(const KernelRequest& request);
BindResult GlobalAveragePoolPortable(const KernelRequest& request);
BindResult GlobalMaxPoolPortable(const KernelRequest& request);
BindResult MaxPoolGradPortable(const KernelRequest& request);
BindResult AveragePoolGradPortable(const KernelRequest& request);

}  // namespace minim
