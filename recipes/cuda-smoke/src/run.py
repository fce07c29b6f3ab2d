"""Square numbers on a GPU: the driver compiles a kernel and runs it. No part of CUDA is in the image.

The driver's library is the host's, shown to the command with the GPU's nodes. Calls and types: the CUDA
driver API (cuda.h); the kernel: PTX ISA 6.0, for any GPU since Maxwell.
"""

import argparse
import ctypes
import json
import sys

LARGEST = 94906265
"""Its square is the largest that JSON holds exactly (2^53 - 1)."""

THREADS = 128

KERNEL = b"""
.version 6.0
.target sm_50
.address_size 64

.visible .entry square(.param .u64 values, .param .u32 count)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<6>;

    ld.param.u64 %rd1, [values];
    ld.param.u32 %r1, [count];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra done;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 8;
    add.u64 %rd4, %rd2, %rd3;
    ld.global.u64 %rd5, [%rd4];
    mul.lo.s64 %rd5, %rd5, %rd5;
    st.global.u64 [%rd4], %rd5;
done:
    ret;
}
"""


class Driver:
    """The driver's library; a call that fails ends the program with the driver's own words."""

    def __init__(self):
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            sys.exit(f"cuda-smoke: the driver's library is not here: {error}")

    def __getattr__(self, name):
        function = getattr(self.library, name)

        def call(*arguments):
            code = function(*arguments)
            if code != 0:
                said = ctypes.c_char_p()
                self.library.cuGetErrorString(code, ctypes.byref(said))
                sys.exit(f"cuda-smoke: {name}: {(said.value or b'unknown error').decode()} ({code})")

        return call


def square(numbers, ordinal):
    """Square integers on a GPU, one thread each."""
    cuda = Driver()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    cuda.cuInit(0)
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    cuda.cuCtxSetCurrent(context)
    cuda.cuModuleLoadData(ctypes.byref(module), KERNEL)
    cuda.cuModuleGetFunction(ctypes.byref(function), module, b"square")

    values = (ctypes.c_int64 * len(numbers))(*numbers)
    size = ctypes.c_size_t(ctypes.sizeof(values))
    there, count = ctypes.c_uint64(), ctypes.c_uint32(len(numbers))
    cuda.cuMemAlloc_v2(ctypes.byref(there), size)
    cuda.cuMemcpyHtoD_v2(there, values, size)
    parameters = (ctypes.c_void_p * 2)(*(ctypes.addressof(one) for one in (there, count)))
    blocks = -(-len(numbers) // THREADS)
    cuda.cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, None, parameters, None)
    cuda.cuCtxSynchronize()
    cuda.cuMemcpyDtoH_v2(values, there, size)
    cuda.cuMemFree_v2(there)
    return list(values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--input-file", required=True)
    parser.add_argument("--output-file", required=True)
    parser.add_argument("--device", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.device < 0:
        sys.exit("cuda-smoke needs a GPU, and was given the CPU: name one with --device 0")
    with open(arguments.input_file) as lines:
        records = [json.loads(line)["numbers"] for line in lines]
    numbers = [number for record in records for number in record]
    for number in numbers:
        if abs(number) > LARGEST:
            sys.exit(
                f"cuda-smoke: {number} is too large: the square of {LARGEST} is the last that JSON can hold"
            )
    squares = iter(square(numbers, arguments.device) if numbers else ())
    with open(arguments.output_file, "w") as out:
        for record in records:
            print(json.dumps({"squares": [next(squares) for _ in record]}), file=out)


if __name__ == "__main__":
    main()
