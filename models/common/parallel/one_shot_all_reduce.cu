// The sum over ranks of what each holds, in one launch on each of them: every rank writes its part into an inbox of every
// other and adds what it finds in its own.
//
// A word of an inbox is 8 bytes, four of a part and the number of the exchange: they arrive together, so that a reader
// needs no barrier and no fence, only to look until the number is the one it waits for. (The idea is that of NCCL's LL
// protocol.) An inbox has two halves, used in turn. A rank that writes into a half for the second time has read what the
// others wrote into the half between, and they wrote that after they had read this one. The number of the exchange is
// counted on the device, so that a captured graph may be replayed.
//
// Parts are added in the order of the ranks, in float32, and rounded once: every rank finds the same bits.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace {

constexpr int THREADS = 256;
constexpr int MOST_BLOCKS = 32; // of one rank: all blocks of a launch must be resident, because they wait for others

template <typename T> struct Element;

template <> struct Element<float> {
    static __device__ uint32_t bits(float x) { return __float_as_uint(x); }
    static __device__ float widen(uint32_t bits) { return __uint_as_float(bits); }
    static __device__ float round(float x) { return x; }
};

template <> struct Element<__nv_bfloat16> {
    static __device__ uint32_t bits(__nv_bfloat16 x) { return __bfloat16_as_ushort(x); }
    static __device__ float widen(uint32_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits & 0xffff)); }
    static __device__ __nv_bfloat16 round(float x) { return __float2bfloat16_rn(x); }
};

template <> struct Element<__half> {
    static __device__ uint32_t bits(__half x) { return __half_as_ushort(x); }
    static __device__ float widen(uint32_t bits) { return __half2float(__ushort_as_half(bits & 0xffff)); }
    static __device__ __half round(float x) { return __float2half_rn(x); }
};

struct Arguments {
    const void *parts;
    void *out;
    unsigned long long *const *inboxes; // of every rank, as this device addresses them
    unsigned *state;                    // of every rank of this launch: exchanges done, blocks done with this one
    long long stride_rank, stride_row;  // of parts, in elements
    unsigned elements, columns;         // of one part; of one of its rows
    unsigned capacity;                  // words of an inbox for one sender in one exchange
    int first, world;
};

__device__ void send(unsigned long long *at, unsigned long long word) {
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(word) : "memory");
}

__device__ unsigned long long look(const unsigned long long *at) {
    unsigned long long word;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(word) : "l"(at) : "memory");
    return word;
}

// Grid (blocks, ranks of this launch).
template <typename In, typename Out> __global__ void __launch_bounds__(THREADS) sum_kernel(const Arguments a) {
    constexpr int EACH = sizeof(uint32_t) / sizeof(In); // elements of a word
    const int rank = a.first + blockIdx.y;
    const In *const part = static_cast<const In *>(a.parts) + blockIdx.y * a.stride_rank;
    Out *const out = static_cast<Out *>(a.out) + static_cast<long long>(blockIdx.y) * a.elements;
    unsigned *const state = a.state + 2 * blockIdx.y;
    const unsigned number = *static_cast<volatile unsigned *>(state) + 1;
    const unsigned half = (number & 1) * a.world * a.capacity;
    const unsigned words = (a.elements + EACH - 1) / EACH;
    const unsigned begin = blockIdx.x * THREADS + threadIdx.x, step = gridDim.x * THREADS;

    const auto gather = [&](unsigned word) {
        uint32_t bits = 0;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const unsigned e = word * EACH + j;
            if (e < a.elements)
                bits |= Element<In>::bits(part[e / a.columns * a.stride_row + e % a.columns]) << (16 * j);
        }
        return bits;
    };

    for (unsigned word = begin; word < words; word += step) {
        const unsigned long long sent = static_cast<unsigned long long>(number) << 32 | gather(word);
        for (int other = 0; other < a.world; other++)
            if (other != rank) send(a.inboxes[other] + half + rank * a.capacity + word, sent);
    }
    const unsigned long long *const mine = a.inboxes[rank] + half;
    for (unsigned word = begin; word < words; word += step) {
        float total[EACH];
        for (int sender = 0; sender < a.world; sender++) {
            uint32_t bits;
            if (sender == rank) {
                bits = gather(word);
            } else {
                unsigned long long found;
                do found = look(mine + sender * a.capacity + word);
                while (static_cast<unsigned>(found >> 32) != number);
                bits = static_cast<uint32_t>(found);
            }
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                const float value = Element<In>::widen(bits >> (16 * j));
                total[j] = sender == 0 ? value : total[j] + value;
            }
        }
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if (word * EACH + j < a.elements) out[word * EACH + j] = Element<Out>::round(total[j]);
    }

    // The last block to be done counts the exchange: every other has read its number.
    __syncthreads();
    if (threadIdx.x == 0 && atomicAdd(state + 1, 1) == gridDim.x - 1) {
        state[1] = 0;
        state[0] = number;
    }
}

template <typename In, typename Out> cudaError_t launch(const Arguments &arguments, int ranks, cudaStream_t stream) {
    const long long each = THREADS * (sizeof(uint32_t) / sizeof(In));
    const long long blocks = (arguments.elements + each - 1) / each;
    const dim3 grid(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS, ranks);
    sum_kernel<In, Out><<<grid, THREADS, 0, stream>>>(arguments);
    return cudaGetLastError();
}

} // namespace

// pointers: parts, out, addresses of inboxes, state.
// numbers: stride of a rank, stride of a row, elements of a part, columns, capacity, first rank, ranks of this launch,
// world, types of parts and of out: 0 for float32, 1 for bfloat16, 2 for float16.
// Gives CUDA's error, or null.
extern "C" const char *one_shot_all_reduce(void *const *pointers, const long long *numbers, void *stream) {
    const Arguments arguments = {
        pointers[0],
        pointers[1],
        static_cast<unsigned long long *const *>(pointers[2]),
        static_cast<unsigned *>(pointers[3]),
        numbers[0],
        numbers[1],
        static_cast<unsigned>(numbers[2]),
        static_cast<unsigned>(numbers[3]),
        static_cast<unsigned>(numbers[4]),
        static_cast<int>(numbers[5]),
        static_cast<int>(numbers[7]),
    };
    const int ranks = static_cast<int>(numbers[6]);
    const auto on = static_cast<cudaStream_t>(stream);
    cudaError_t failure = cudaErrorInvalidValue;
    switch (10 * numbers[8] + numbers[9]) {
    case 0: failure = launch<float, float>(arguments, ranks, on); break;
    case 1: failure = launch<float, __nv_bfloat16>(arguments, ranks, on); break;
    case 2: failure = launch<float, __half>(arguments, ranks, on); break;
    case 11: failure = launch<__nv_bfloat16, __nv_bfloat16>(arguments, ranks, on); break;
    case 22: failure = launch<__half, __half>(arguments, ranks, on); break;
    }
    return failure == cudaSuccess ? nullptr : cudaGetErrorString(failure);
}
